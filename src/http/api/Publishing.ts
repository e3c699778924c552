/** `publish`, `broadcast`, `history` and `history_remove`. */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Predicate from "effect/Predicate"
import type * as Broker from "../../Broker.ts"
import * as History from "../../History.ts"
import * as Namespace from "../../Namespace.ts"
import * as Codes from "../../protocol/Codes.ts"
import * as Json from "../../protocol/Json.ts"
import * as Publication from "../../protocol/Publication.ts"
import * as Publisher from "../../Publisher.ts"
import * as Schemas from "../schema/Publishing.ts"
import * as Method from "./Method.ts"

/** Channels of one broadcast that are published to at a time. */
const BROADCAST_CONCURRENCY = 32

/** Most publications in one page of `history`. */
const MAX_PAGE = 1000

const publicationOf = (call: Method.Call): Either.Either<Publication.Publication, Method.Refused> =>
  Either.flatMap(Method.rawOf(call, "data", Publisher.MAX_BYTES), (data) =>
    data === undefined
      ? Either.left(Method.refused(Codes.badRequest, "data: is missing"))
      : Either.right(Publication.fromJson(data))
  )

const optionsOf = (body: typeof Schemas.Publish.Type | typeof Schemas.Broadcast.Type): Publisher.Options => ({
  skipHistory: body.skip_history ?? false,
  ...(body.tags === undefined || body.tags === null ? {} : { tags: body.tags }),
  ...(Predicate.isNullable(body.idempotency_key) || body.idempotency_key === ""
    ? {}
    : { idempotencyKey: body.idempotency_key })
})

const refusalOf = (error: Publisher.InvalidPublication): Method.Refused => {
  if (error.reason === "TooLarge") return Method.tooLarge(error.message)
  const code = error.reason === "UnknownNamespace" ? Codes.unknownChannel : Codes.badRequest
  return Method.refused(code, error.message)
}

/** The methods about publications. */
export const make = ({ broker, cluster, config, hub, metrics, publisher }: Method.Services) => {
  const publish = (
    channel: string,
    publication: Publication.Publication,
    options: Publisher.Options
  ): Effect.Effect<string, Method.Refused> =>
    publisher.publishRaw(channel, publication, options).pipe(
      Effect.map((position) => JSON.stringify(position ?? {})),
      Effect.mapError((error) => (error._tag === "BrokerError" ? Method.unavailable(error) : refusalOf(error)))
    )

  const kept = (name: string): Either.Either<Broker.Kept, Method.Refused> =>
    Either.flatMap(Method.namespaceOf(config, name), () => {
      const retention = Namespace.retention(config.channel, name)
      return retention === undefined
        ? Either.left(Method.refused(Codes.notAvailable, "the channel has no history"))
        : Either.right({ channel: name, retention })
    })

  return {
    publish: Method.make(
      Schemas.Publish,
      (body, call) =>
        Effect.flatMap(publicationOf(call), (publication) => publish(body.channel, publication, optionsOf(body))),
      Schemas.unavailable
    ),

    broadcast: Method.make(
      Schemas.Broadcast,
      (body, call) =>
        Effect.gen(function* () {
          const { length } = body.channels
          if (length === 0) return yield* Method.refused(Codes.badRequest, "channels: there are none")
          if (length > Schemas.MAX_CHANNELS) {
            const message = `a broadcast has at most ${Schemas.MAX_CHANNELS} channels, this one ${length}`
            return yield* Method.refused(Codes.limitExceeded, message)
          }
          const publication = yield* publicationOf(call)
          const options = optionsOf(body)
          const one = (channel: string): Effect.Effect<string> =>
            Effect.match(publish(channel, publication, options), {
              onFailure: (refused) => `{"error":${Method.errorOf(refused)}}`,
              onSuccess: (result) => `{"result":${result}}`
            })
          const responses = yield* Effect.forEach(body.channels, one, { concurrency: BROADCAST_CONCURRENCY })
          return `{"responses":[${responses.join(",")}]}`
        }),
      Schemas.unavailable
    ),

    history: Method.make(Schemas.History, (body, { maxBytes }) =>
      Effect.gen(function* () {
        const of = yield* kept(body.channel)
        const asked: History.Asked = {
          limit: body.limit ?? 0,
          reverse: body.reverse ?? false,
          ...(body.since === undefined || body.since === null
            ? {}
            : { since: { offset: body.since.offset ?? 0, epoch: body.since.epoch ?? "" } })
        }
        const range = History.bounded(asked, MAX_PAGE, maxBytes)
        const page = yield* Effect.mapError(hub.history(of, range), Method.unavailable)
        if (History.isOfAnother(page, asked)) return yield* Method.refused(Codes.unrecoverable)
        // As text, so that `data` goes out as it came in.
        const texts = Json.page(page.publications, maxBytes)
        if (History.isCut(page, range, texts.length)) metrics.limits.reply_size.add()
        return Json.historyResult(page, texts)
      })
    ),

    history_remove: Method.make(Schemas.HistoryRemove, ({ channel }) =>
      Effect.flatMap(kept(channel), () =>
        broker.removeHistory(channel).pipe(
          Effect.mapError(Method.unavailable),
          // Before the answer: whoever subscribes after it recovers nothing of what was removed.
          Effect.zipRight(cluster.forget(channel)),
          Effect.as(Json.EMPTY)
        )
      )
    )
  }
}
