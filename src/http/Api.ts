/** The HTTP endpoints beside the sockets: their paths, bodies and statuses. */
import * as HttpApi from "@effect/platform/HttpApi"
import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as Schema from "effect/Schema"

/** State of the server, for load balancers and people. */
export const Health = Schema.Struct({
  status: Schema.Literal("ok", "draining", "broker"),
  broker: Schema.Struct({ name: Schema.String, state: Schema.Literal("Live", "Degraded", "Resyncing") })
})

/** Not ready to take traffic. */
export class NotReady extends Schema.Class<NotReady>("NotReady")(
  Health.fields,
  HttpApiSchema.annotations({ status: 503 })
) {}

const Refusal = Schema.Struct({ code: Schema.Int, message: Schema.String })

// The encoder tells errors apart by their fields, so each has its own code.
const refusal = <Code extends number>(code: Code) => ({
  error: Schema.Struct({ code: Schema.Literal(code), message: Schema.String })
})

/** The server API is off. */
export class NoApi extends Schema.Class<NoApi>("NoApi")(refusal(108), HttpApiSchema.annotations({ status: 404 })) {}
/** The key is missing or wrong. */
export class Unauthorized extends Schema.Class<Unauthorized>("Unauthorized")(
  refusal(101),
  HttpApiSchema.annotations({ status: 401 })
) {}
/** The body is not what the method takes. */
export class BadRequest extends Schema.Class<BadRequest>("BadRequest")(
  refusal(107),
  HttpApiSchema.annotations({ status: 400 })
) {}
/** The body or a publication is too large. */
export class TooLarge extends Schema.Class<TooLarge>("TooLarge")(
  refusal(106),
  HttpApiSchema.annotations({ status: 413 })
) {}

const refused = Schema.Struct({ error: Refusal })

/** What became of one publication: accepted, with its position in a channel with history, or why not. */
export const Published = Schema.Union(
  Schema.Struct({
    result: Schema.Struct({ offset: Schema.optional(Schema.Int), epoch: Schema.optional(Schema.String) })
  }),
  refused
)

const publishing = {
  /** Any JSON value. */
  data: Schema.Unknown,
  /** Not kept in the channel's history. */
  skip_history: Schema.optionalWith(Schema.Boolean, { default: () => false, nullable: true }),
  /** Carried beside `data`. */
  tags: Schema.optionalWith(Schema.Record({ key: Schema.String, value: Schema.String }), { nullable: true }),
  /** Publishing again with the same key within five minutes publishes nothing. */
  idempotency_key: Schema.optionalWith(Schema.String, { nullable: true })
}

/** The body of `publish`. */
export const Publish = Schema.Struct({ channel: Schema.String, ...publishing })

/** The body of `broadcast`: one value, many channels. */
export const Broadcast = Schema.Struct({ channels: Schema.Array(Schema.String), ...publishing })

/** The body of `history`. */
export const History = Schema.Struct({
  channel: Schema.String,
  /** 0: only the position; below 0: as many as one page holds. */
  limit: Schema.optionalWith(Schema.Int, { default: () => 0, nullable: true }),
  since: Schema.optionalWith(
    Schema.Struct({
      offset: Schema.optionalWith(Schema.NonNegativeInt, { default: () => 0, nullable: true }),
      epoch: Schema.optionalWith(Schema.String, { default: () => "", nullable: true })
    }),
    { nullable: true }
  ),
  reverse: Schema.optionalWith(Schema.Boolean, { default: () => false, nullable: true })
})

const Publication = Schema.Struct({
  data: Schema.Unknown,
  info: Schema.optional(Schema.Unknown),
  offset: Schema.Int,
  tags: Schema.optional(Schema.Record({ key: Schema.String, value: Schema.String }))
})

const Page = Schema.Union(
  Schema.Struct({
    result: Schema.Struct({
      publications: Schema.optional(Schema.Array(Publication)),
      epoch: Schema.String,
      offset: Schema.optional(Schema.Int)
    })
  }),
  refused
)

/** The body of `history_remove`. */
export const HistoryRemove = Schema.Struct({ channel: Schema.String })

const Done = Schema.Union(Schema.Struct({ result: Schema.Struct({}) }), refused)

const Broadcasted = Schema.Struct({ result: Schema.Struct({ responses: Schema.Array(Published) }) })

const health = HttpApiGroup.make("health")
  .add(HttpApiEndpoint.get("live", "/health/live").addSuccess(Health))
  .add(HttpApiEndpoint.get("ready", "/health/ready").addSuccess(Health).addError(NotReady))
  .add(
    HttpApiEndpoint.get("metrics", "/metrics").addSuccess(
      HttpApiSchema.Text({ contentType: "text/plain; version=0.0.4; charset=utf-8" })
    )
  )

const server = HttpApiGroup.make("server")
  .add(HttpApiEndpoint.post("publish", "/publish").setPayload(Publish).addSuccess(Published))
  .add(HttpApiEndpoint.post("broadcast", "/broadcast").setPayload(Broadcast).addSuccess(Broadcasted))
  .add(HttpApiEndpoint.post("history", "/history").setPayload(History).addSuccess(Page))
  .add(HttpApiEndpoint.post("historyRemove", "/history_remove").setPayload(HistoryRemove).addSuccess(Done))
  .addError(NoApi)
  .addError(Unauthorized)
  .addError(BadRequest)
  .addError(TooLarge)
  .prefix("/api")

const page = HttpApiGroup.make("page").add(
  HttpApiEndpoint.get("index", "/").addSuccess(HttpApiSchema.Text({ contentType: "text/html; charset=utf-8" }))
)

/** Every endpoint. */
export class Api extends HttpApi.make("fanfare").add(health).add(server).add(page) {}

/** Paths that a server claims beside others in the same process; `/` is the standalone server's. */
export const owns = (url: string): boolean => {
  const path = url.split("?", 1)[0] ?? ""
  return path === "/metrics" || path.startsWith("/health/") || path.startsWith("/api/")
}
