/** `POST /api/{method}`: what back ends call. */
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as HttpIncomingMessage from "@effect/platform/HttpIncomingMessage"
import type * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { createHash, timingSafeEqual } from "node:crypto"
import * as Broker from "../Broker.ts"
import * as Channel from "../Channel.ts"
import * as History from "../History.ts"
import * as Hub from "../Hub.ts"
import * as Namespace from "../Namespace.ts"
import * as Codes from "../protocol/Codes.ts"
import * as Json from "../protocol/Json.ts"
import * as Publication from "../protocol/Publication.ts"
import * as Raw from "../protocol/Raw.ts"
import * as Publisher from "../Publisher.ts"
import * as ServerConfig from "../ServerConfig.ts"
import * as Api from "./Api.ts"

/** Largest body, in bytes. A larger one is refused by its `Content-Length`, or once it has come so far. */
const MAX_BODY = 1024 * 1024

/** Channels of one broadcast that are published to at a time. */
const BROADCAST_CONCURRENCY = 32

const refusal = <const E extends Codes.ErrorCode>(
  error: E,
  message: string = error.message
): { readonly error: { readonly code: E["code"]; readonly message: string } } => ({
  error: { code: error.code, message }
})

const digest = (text: string): Uint8Array => createHash("sha256").update(text).digest()

/** Compares in a time that does not depend on where the texts differ. */
const isSame = (expected: Redacted.Redacted, given: string): boolean =>
  timingSafeEqual(digest(Redacted.value(expected)), digest(given))

/** The key in `X-API-Key`, or in `Authorization: apikey …`. */
const keyOf = (request: HttpServerRequest.HttpServerRequest): string =>
  request.headers["x-api-key"] ?? /^apikey (.+)$/i.exec(request.headers["authorization"] ?? "")?.[1] ?? ""

const authorize = (config: ServerConfig.Config, request: HttpServerRequest.HttpServerRequest) => {
  const expected = config.http_api.key
  if (expected === undefined) {
    return Effect.fail(new Api.NoApi(refusal(Codes.notAvailable, "the server API is off: http_api.key is not set")))
  }
  return isSame(expected, keyOf(request)) ? Effect.void : Effect.fail(new Api.Unauthorized(refusal(Codes.unauthorized)))
}

const tooLarge = (message: string): Api.TooLarge => new Api.TooLarge(refusal(Codes.limitExceeded, message))

const readBody = (request: HttpServerRequest.HttpServerRequest) => {
  const message = `a body has at most ${MAX_BODY} bytes`
  if (Number(request.headers["content-length"] ?? 0) > MAX_BODY) return Effect.fail(tooLarge(message))
  return request.text.pipe(
    HttpIncomingMessage.withMaxBodySize(Option.some(MAX_BODY)),
    Effect.mapError(() => tooLarge(message))
  )
}

const decodeBody = <A, I>(schema: Schema.Schema<A, I>, text: string) =>
  Either.try((): unknown => JSON.parse(text)).pipe(
    Either.flatMap(Schema.decodeUnknownEither(schema)),
    Either.mapLeft(
      () => new Api.BadRequest(refusal(Codes.badRequest, "the body is not the JSON that this method takes"))
    )
  )

/** The text of `data` in a body, so that it is relayed as it came. */
const dataOf = (text: string): Either.Either<Publication.Publication, Api.BadRequest> => {
  const raw = Raw.property(text, "data")
  if (raw === undefined) return Either.left(new Api.BadRequest(refusal(Codes.badRequest, "no data")))
  if (raw === "too deep") {
    return Either.left(new Api.BadRequest(refusal(Codes.badRequest, `data is nested deeper than ${Raw.MAX_DEPTH}`)))
  }
  return Either.right(Publication.fromJson(raw.text))
}

interface Publishing {
  readonly skip_history: boolean
  readonly tags?: Readonly<Record<string, string>> | undefined
  readonly idempotency_key?: string | undefined
}

const optionsOf = ({ skip_history, tags, idempotency_key }: Publishing): Publisher.Options => ({
  skipHistory: skip_history,
  ...(tags === undefined ? {} : { tags }),
  ...(idempotency_key === undefined ? {} : { idempotencyKey: idempotency_key })
})

/** Most publications in one page of `history`. */
const MAX_PAGE = 1000

/** The handlers of the group `server`. */
export const layer = HttpApiBuilder.group(Api.Api, "server", (handlers) =>
  Effect.gen(function* () {
    const config = yield* ServerConfig.ServerConfig
    const publisher = yield* Publisher.Publisher

    const broker = yield* Broker.Broker
    const hub = yield* Hub.Hub

    const unavailable = (error: Broker.BrokerError) => Effect.succeed(refusal(Codes.internal, error.message))

    const publish = (channel: string, publication: Publication.Publication, options: Publisher.Options) =>
      publisher.publishRaw(channel, publication, options).pipe(
        Effect.map((position) => ({ result: position ?? {} })),
        Effect.catchTag("BrokerError", unavailable),
        Effect.catchTag("InvalidPublication", (error) =>
          error.reason === "TooLarge"
            ? Effect.fail(tooLarge(error.message))
            : Effect.succeed(
                refusal(error.reason === "UnknownNamespace" ? Codes.unknownChannel : Codes.badRequest, error.message)
              )
        )
      )

    const withHistory = (name: string): Either.Either<Broker.Kept, ReturnType<typeof refusal>> => {
      const channel = ServerConfig.parseChannel(config, name)
      if (Either.isLeft(channel)) return Either.left(refusal(Codes.badRequest, channel.left))
      const retention = Namespace.retention(config.channel, name)
      if (retention !== undefined) return Either.right({ channel: name, retention })
      return Either.left(
        Namespace.find(config.channel, name) === undefined
          ? refusal(
              Codes.unknownChannel,
              `no namespace "${Channel.namespace(name)}"; known: ${Namespace.known(config.channel)}`
            )
          : refusal(Codes.notAvailable, "the channel has no history")
      )
    }

    return handlers
      .handleRaw("publish", ({ request }) =>
        Effect.gen(function* () {
          yield* authorize(config, request)
          const text = yield* readBody(request)
          const body = yield* decodeBody(Api.Publish, text)
          return yield* publish(body.channel, yield* dataOf(text), optionsOf(body))
        })
      )
      .handleRaw("broadcast", ({ request }) =>
        Effect.gen(function* () {
          yield* authorize(config, request)
          const text = yield* readBody(request)
          const body = yield* decodeBody(Api.Broadcast, text)
          const publication = yield* dataOf(text)
          const options = optionsOf(body)
          const responses = yield* Effect.forEach(body.channels, (channel) => publish(channel, publication, options), {
            concurrency: BROADCAST_CONCURRENCY
          })
          return { result: { responses } }
        })
      )
      .handleRaw("history", ({ request }) =>
        Effect.gen(function* () {
          yield* authorize(config, request)
          const body = yield* decodeBody(Api.History, yield* readBody(request))
          const kept = withHistory(body.channel)
          if (Either.isLeft(kept)) return kept.left
          const maxBytes = config.client.reply_max_size
          const page = yield* Effect.either(hub.history(kept.right, History.bounded(body, MAX_PAGE, maxBytes)))
          if (Either.isLeft(page)) return yield* unavailable(page.left)
          if (History.isOfAnother(page.right, body)) return refusal(Codes.unrecoverable)
          // As text, so that `data` goes out as it came in.
          const result = Json.historyResult(page.right, Json.page(page.right.publications, maxBytes))
          return HttpServerResponse.text(Json.object({ result }), { contentType: "application/json" })
        })
      )
      .handleRaw("historyRemove", ({ request }) =>
        Effect.gen(function* () {
          yield* authorize(config, request)
          const { channel } = yield* decodeBody(Api.HistoryRemove, yield* readBody(request))
          const kept = withHistory(channel)
          if (Either.isLeft(kept)) return kept.left
          return yield* Effect.catchAll(Effect.as(broker.removeHistory(channel), { result: {} }), unavailable)
        })
      )
  })
)
