/** The HTTP endpoints beside the sockets: their paths, bodies and statuses. `/openapi.json` follows from it. */
import * as HttpApi from "@effect/platform/HttpApi"
import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as OpenApi from "@effect/platform/OpenApi"
import * as Schema from "effect/Schema"
import { version } from "../version.ts"
import { Authorization } from "./Authorization.ts"
import * as Batch from "./schema/Batch.ts"
import * as Channels from "./schema/Channels.ts"
import * as Publishing from "./schema/Publishing.ts"
import * as Reply from "./schema/Reply.ts"
import * as Users from "./schema/Users.ts"
import { withoutDecodeError } from "./Specification.ts"

/** State of the server, for load balancers and people. */
export const Health = Schema.Struct({
  status: Schema.Literal("ok", "draining", "broker"),
  broker: Schema.Struct({ name: Schema.String, state: Schema.Literal("Live", "Degraded", "Resyncing") })
}).annotations({ identifier: "Health" })

/** Not ready to take traffic. */
export class NotReady extends Schema.Class<NotReady>("NotReady")(
  Health.fields,
  HttpApiSchema.annotations({ status: 503, description: "draining, or without a live broker" })
) {}

const health = HttpApiGroup.make("health")
  .add(
    HttpApiEndpoint.get("live", "/health/live")
      .addSuccess(Health)
      .annotateContext(OpenApi.annotations({ identifier: "live", summary: "Is the process alive?" }))
  )
  .add(
    HttpApiEndpoint.get("ready", "/health/ready")
      .addSuccess(Health)
      .addError(NotReady)
      .annotateContext(OpenApi.annotations({ identifier: "ready", summary: "Should it get traffic?" }))
  )
  .add(
    HttpApiEndpoint.get("metrics", "/metrics")
      .addSuccess(
        HttpApiSchema.Text({ contentType: "text/plain; version=0.0.4; charset=utf-8" }).annotations({
          description: "the figures"
        })
      )
      .annotateContext(OpenApi.annotations({ identifier: "metrics", summary: "Figures, in Prometheus's text format" }))
  )
  .annotateContext(OpenApi.annotations({ title: "Operation", description: "For load balancers and monitoring." }))

/** A method of the server API, by its name, as documentation shows it. */
const about = (identifier: string, summary: string, description: string) =>
  OpenApi.annotations({ identifier, summary, description })

const EVERYWHERE =
  "Reaches the user's connections on every instance. The answer comes when it is done there; `partial: true` says that an instance has not confirmed it within a second and a half: it can be repeated."

const server = HttpApiGroup.make("server")
  .add(
    HttpApiEndpoint.post("publish", "/publish")
      .setPayload(Publishing.Publish)
      .addSuccess(Publishing.Published)
      .annotateContext(
        about(
          "publish",
          "Publish to a channel",
          "A result means that the broker has accepted it. Error 100 is temporary; after a time-out it leaves open whether it was accepted, and an `idempotency_key` makes it safe to repeat it."
        )
      )
  )
  .add(
    HttpApiEndpoint.post("broadcast", "/broadcast")
      .setPayload(Publishing.Broadcast)
      .addSuccess(Publishing.Broadcasted)
      .annotateContext(about("broadcast", "Publish the same to many channels", "Each channel has its own reply."))
  )
  .add(
    HttpApiEndpoint.post("subscribe", "/subscribe")
      .setPayload(Users.Subscribe)
      .addSuccess(Users.Answer)
      .annotateContext(about("subscribe", "Subscribe the connections of a user to a channel", EVERYWHERE))
  )
  .add(
    HttpApiEndpoint.post("unsubscribe", "/unsubscribe")
      .setPayload(Users.Unsubscribe)
      .addSuccess(Users.Answer)
      .annotateContext(
        about(
          "unsubscribe",
          "End the subscriptions of a user to a channel",
          `The clients are told with code 2000, and do not subscribe again by themselves. ${EVERYWHERE}`
        )
      )
  )
  .add(
    HttpApiEndpoint.post("disconnect", "/disconnect")
      .setPayload(Users.Disconnect)
      .addSuccess(Users.Answer)
      .annotateContext(about("disconnect", "Close the connections of a user", EVERYWHERE))
  )
  .add(
    HttpApiEndpoint.post("refresh", "/refresh")
      .setPayload(Users.Refresh)
      .addSuccess(Users.Answer)
      .annotateContext(about("refresh", "Change how long the connections of a user hold", EVERYWHERE))
  )
  .add(
    HttpApiEndpoint.post("presence", "/presence")
      .setPayload(Channels.Presence)
      .addSuccess(Channels.Present)
      .annotateContext(
        about(
          "presence",
          "Who is in a channel",
          "Error 108 where its namespace keeps no presence, 106 where the list would be larger than `client.reply_max_size`."
        )
      )
  )
  .add(
    HttpApiEndpoint.post("presence_stats", "/presence_stats")
      .setPayload(Channels.PresenceStats)
      .addSuccess(Channels.Counted)
      .annotateContext(
        about(
          "presence_stats",
          "How many are in a channel",
          "Error 108 where its namespace keeps no presence. Costs the same for any number of them."
        )
      )
  )
  .add(
    HttpApiEndpoint.post("history", "/history")
      .setPayload(Publishing.History)
      .addSuccess(Publishing.Page)
      .annotateContext(
        about(
          "history",
          "Publications of a channel",
          "Error 108 where its namespace keeps no history, 112 where `since` is a position in another stream than the present one."
        )
      )
  )
  .add(
    HttpApiEndpoint.post("history_remove", "/history_remove")
      .setPayload(Publishing.HistoryRemove)
      .addSuccess(Publishing.Removed)
      .annotateContext(about("history_remove", "Remove the publications of a channel", "Its epoch and offset go on."))
  )
  .add(
    HttpApiEndpoint.post("channels", "/channels")
      .setPayload(Channels.Channels)
      .addSuccess(Channels.Listed)
      .annotateContext(
        about(
          "channels",
          "The channels that have subscribers",
          "Asks all instances; meant for people and tools, not for every request of an application."
        )
      )
  )
  .add(
    HttpApiEndpoint.post("info", "/info")
      .setPayload(Channels.Info)
      .addSuccess(Channels.Described)
      .annotateContext(about("info", "The instances and their figures", "Asks all instances."))
  )
  .add(
    HttpApiEndpoint.post("rpc", "/rpc")
      .setPayload(Channels.Rpc)
      .addSuccess(Channels.Called)
      .annotateContext(
        about(
          "rpc",
          "Call a procedure of the application",
          "The hook `onRpc` answers, as it does for clients, or refuses with an error of its own. Error 108 where there is none."
        )
      )
  )
  .add(
    HttpApiEndpoint.post("batch", "/batch")
      .setPayload(Batch.Batch)
      .addSuccess(Batch.Batched)
      .annotateContext(
        about(
          "batch",
          "Many commands in one request",
          "One after the other, or `parallel`; one that is refused does not keep the others from being carried out. Histories, presences and channel lists share `client.reply_max_size`."
        )
      )
  )
  .middleware(Authorization)
  .addError(Reply.BadRequest)
  .addError(Reply.TooLarge)
  .prefix("/api")
  .annotateContext(
    OpenApi.annotations({
      title: "Server API",
      description:
        "What back ends call. A method that is carried out is answered with 200, and `result` or `error`. Members of a body that are not listed are ignored."
    })
  )

const docs = HttpApiGroup.make("docs")
  .add(
    HttpApiEndpoint.get("specification", "/openapi.json")
      .addSuccess(Schema.Unknown.annotations({ description: "OpenAPI 3.1", jsonSchema: { type: "object" } }))
      .addError(Reply.NoApi)
      .annotateContext(OpenApi.annotations({ identifier: "specification", summary: "This document" }))
  )
  .add(
    HttpApiEndpoint.get("docs", "/docs")
      .addSuccess(HttpApiSchema.Text({ contentType: "text/html" }).annotations({ description: "a page" }))
      .addError(Reply.NoApi)
      .annotateContext(OpenApi.annotations({ identifier: "docs", summary: "This document, to read and to try out" }))
  )
  .annotateContext(OpenApi.annotations({ title: "Documentation" }))

const page = HttpApiGroup.make("page")
  .add(HttpApiEndpoint.get("index", "/").addSuccess(HttpApiSchema.Text({ contentType: "text/html; charset=utf-8" })))
  // A standalone server's alone, and for people.
  .annotate(OpenApi.Exclude, true)

/** The methods of the server API that can be called by themselves and in a batch. */
export type MethodName = Exclude<
  HttpApiEndpoint.HttpApiEndpoint.Name<HttpApiGroup.HttpApiGroup.Endpoints<typeof server>>,
  "batch"
>

/** Every endpoint. */
export class Api extends HttpApi.make("fanfare")
  .add(server)
  .add(health)
  .add(docs)
  .add(page)
  .annotateContext(OpenApi.annotations({ title: "Fanfare", version, transform: withoutDecodeError })) {}

/** What is served at a path. */
export interface Route {
  /** Its methods, as the header `Allow` lists them. */
  readonly allow: string
  readonly part: keyof typeof parts
}

const parts = { server, health, docs, page }

const routes: ReadonlyMap<string, Route> = new Map(
  Object.entries(parts).flatMap(([part, { endpoints }]) =>
    Object.values(endpoints).map(({ method, path }): readonly [string, Route] => [
      path,
      { allow: method === "GET" ? "GET, HEAD" : method, part: part as Route["part"] }
    ])
  )
)

const pathOf = (target: string): string => target.split("?", 1)[0] ?? ""

/** What is served at a path, with or without a query; `undefined` where nothing is. Paths have one spelling. */
export const routeOf = (target: string): Route | undefined => routes.get(pathOf(target))

/** The method of the server API that a path calls; `undefined` where it calls none. */
export const methodOf = (target: string): string | undefined =>
  routeOf(target)?.part === "server" ? pathOf(target).slice("/api/".length) : undefined
