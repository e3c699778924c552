/** `POST /api/{method}`: what back ends call. */
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import type * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Broker from "../Broker.ts"
import * as Cluster from "../Cluster.ts"
import * as Hooks from "../Hooks.ts"
import * as Hub from "../Hub.ts"
import * as Metrics from "../Metrics.ts"
import * as Presence from "../Presence.ts"
import * as Codes from "../protocol/Codes.ts"
import * as Publisher from "../Publisher.ts"
import * as ServerConfig from "../ServerConfig.ts"
import * as Api from "./Api.ts"
import * as Batch from "./api/Batch.ts"
import * as Channels from "./api/Channels.ts"
import * as Method from "./api/Method.ts"
import * as Publishing from "./api/Publishing.ts"
import * as Users from "./api/Users.ts"
import * as Body from "./Body.ts"

const respond = (text: string, status = 200): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.text(text, { status, contentType: "application/json" })

const read = (request: HttpServerRequest.HttpServerRequest): Effect.Effect<string, Method.Refused> =>
  Effect.mapError(Body.read(request), (problem) =>
    problem === "too large"
      ? Method.tooLarge(`a body has at most ${Body.MAX_BODY} bytes`)
      : Method.malformed(`the body is ${problem}`)
  )

/** A method without arguments needs no body, and `null` is none. */
const parse = (text: string): Either.Either<unknown, Method.Refused> =>
  Either.try({
    try: (): unknown => JSON.parse(text === "" ? "{}" : text) ?? {},
    catch: () => Method.malformed("the body is not JSON")
  })

/** What a caller of the reference server tells it to answer errors with another status than 200 with. */
const ERROR_MODE = "x-centrifugo-error-mode"

/** A caller that looks at the status alone would take every error for a success. */
const checkMode = ({ headers }: HttpServerRequest.HttpServerRequest): Either.Either<void, Method.Refused> =>
  headers[ERROR_MODE] === "transport"
    ? Either.left(Method.malformed(`${ERROR_MODE}: transport is not available; errors are answered with status 200`))
    : Either.void

/** Carries a method out; what is wrong in it is no reason to take the others of a batch down. */
const safely =
  (name: string, method: Method.Method): Method.Method =>
  (call) =>
    Effect.catchAllDefect(
      Effect.suspend(() => method(call)),
      (defect) =>
        Effect.logError(`server API: ${name} failed`, defect).pipe(
          Effect.annotateLogs("method", name),
          Effect.zipRight(Method.refused(Codes.internal))
        )
    )

/** The handlers of the group `server`. */
export const layer = HttpApiBuilder.group(Api.Api, "server", (handlers) =>
  Effect.gen(function* () {
    const metrics = yield* Metrics.Metrics
    const services: Method.Services = {
      broker: yield* Broker.Broker,
      cluster: yield* Cluster.Cluster,
      config: yield* ServerConfig.ServerConfig,
      hooks: yield* Hooks.Hooks,
      hub: yield* Hub.Hub,
      metrics,
      presence: yield* Presence.Presence,
      publisher: yield* Publisher.Publisher
    }
    const methods = new Map(
      Object.entries({
        ...Publishing.make(services),
        ...Users.make(services),
        ...Channels.make(services)
      }).map(([name, method]) => [name, safely(name, method)] as const)
    )
    const batch = Batch.make(methods)

    const answer = (name: string, method: Method.Method, write: (result: string) => string) => {
      const count = metrics.apiRequests(name)
      return ({ request }: { readonly request: HttpServerRequest.HttpServerRequest }) =>
        Effect.gen(function* () {
          yield* checkMode(request)
          const text = yield* read(request)
          const body = yield* parse(text)
          const result = yield* method({ text, body, maxBytes: services.config.client.reply_max_size })
          count(Metrics.NO_ERROR).add()
          return respond(write(result))
        }).pipe(
          Effect.catchTag("Refused", (refused) =>
            Effect.sync(() => {
              count(refused.code).add()
              return respond(`{"error":${Method.errorOf(refused)}}`, refused.status)
            })
          )
        )
    }
    const call = (name: Api.MethodName) =>
      answer(name, methods.get(name) as Method.Method, (result) => `{"result":${result}}`)

    return handlers
      .handleRaw("publish", call("publish"))
      .handleRaw("broadcast", call("broadcast"))
      .handleRaw("subscribe", call("subscribe"))
      .handleRaw("unsubscribe", call("unsubscribe"))
      .handleRaw("disconnect", call("disconnect"))
      .handleRaw("refresh", call("refresh"))
      .handleRaw("presence", call("presence"))
      .handleRaw("presence_stats", call("presence_stats"))
      .handleRaw("history", call("history"))
      .handleRaw("history_remove", call("history_remove"))
      .handleRaw("channels", call("channels"))
      .handleRaw("info", call("info"))
      .handleRaw("rpc", call("rpc"))
      .handleRaw(
        "batch",
        answer("batch", batch, (result) => result)
      )
  })
)
