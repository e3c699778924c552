/** Publishes to channels from application code, from the server API and for clients. */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import { Buffer } from "node:buffer"
import * as Broker from "./Broker.ts"
import * as Channel from "./Channel.ts"
import * as Metrics from "./Metrics.ts"
import * as Namespace from "./Namespace.ts"
import * as Publication from "./protocol/Publication.ts"
import * as ServerConfig from "./ServerConfig.ts"

/** Largest `data` of a publication, in bytes of UTF-8. */
export const MAX_BYTES = 64 * 1024

/**
 * A publication that no broker was asked to take.
 *
 * - `Channel`: not a channel name.
 * - `UnknownNamespace`: no such namespace is configured.
 * - `Data`: not JSON, or nothing at all.
 * - `TooLarge`: above `MAX_BYTES`.
 */
export class InvalidPublication extends Data.TaggedError("InvalidPublication")<{
  readonly reason: "Channel" | "UnknownNamespace" | "Data" | "TooLarge"
  readonly channel: string
  readonly message: string
}> {}

/** Publishes to channels. */
export class Publisher extends Context.Tag("fanfare/Publisher")<
  Publisher,
  {
    /**
     * Publishes a JSON value. No permission is asked for: the caller is
     * trusted. Success means that the broker has accepted it; a `BrokerError`
     * with the reason `Timeout` leaves that open.
     */
    readonly publish: (channel: string, data: unknown) => Effect.Effect<void, Broker.BrokerError | InvalidPublication>
    /** The same for a publication whose `data` is text already; it is carried as it is. */
    readonly publishRaw: (
      channel: string,
      publication: Publication.Publication
    ) => Effect.Effect<void, Broker.BrokerError | InvalidPublication>
  }
>() {}

const make = Effect.gen(function* () {
  const broker = yield* Broker.Broker
  const config = yield* ServerConfig.ServerConfig
  const metrics = yield* Metrics.Metrics

  const check = (channel: string, data: string): InvalidPublication | undefined => {
    const parsed = Channel.parse(channel, config.channel.max_length)
    if (Either.isLeft(parsed)) return new InvalidPublication({ reason: "Channel", channel, message: parsed.left })
    if (Namespace.find(config.channel, channel) === undefined) {
      return new InvalidPublication({
        reason: "UnknownNamespace",
        channel,
        message: `no namespace "${Channel.namespace(channel)}"; known: ${Namespace.known(config.channel)}`
      })
    }
    const bytes = Buffer.byteLength(data)
    if (bytes > MAX_BYTES) {
      return new InvalidPublication({
        reason: "TooLarge",
        channel,
        message: `a publication has at most ${MAX_BYTES} bytes, this one ${bytes}`
      })
    }
    return undefined
  }

  const publishRaw = (
    channel: string,
    publication: Publication.Publication
  ): Effect.Effect<void, Broker.BrokerError | InvalidPublication> =>
    Effect.suspend((): Effect.Effect<void, Broker.BrokerError | InvalidPublication> => {
      const invalid = check(channel, publication.data)
      if (invalid !== undefined) return Effect.fail(invalid)
      return Effect.tapBoth(broker.publish(channel, publication), {
        onSuccess: () => Effect.sync(() => metrics.published++),
        onFailure: () => Effect.sync(() => metrics.publishFailed++)
      })
    })

  return Publisher.of({
    publishRaw,
    publish: (channel, data) =>
      Effect.suspend((): Effect.Effect<void, Broker.BrokerError | InvalidPublication> => {
        const text = Either.getOrUndefined(Either.try((): string | undefined => JSON.stringify(data)))
        return text === undefined
          ? Effect.fail(new InvalidPublication({ reason: "Data", channel, message: "data is not a JSON value" }))
          : publishRaw(channel, Publication.fromJson(text))
      })
  })
})

/** Publishes through the broker. */
export const layer: Layer.Layer<Publisher, never, Broker.Broker | Metrics.Metrics | ServerConfig.ServerConfig> =
  Layer.effect(Publisher, make)
