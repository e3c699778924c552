/** Publishes to channels from application code, from the server API and for clients. */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import { Buffer } from "node:buffer"
import * as Broker from "./Broker.ts"
import * as Channel from "./Channel.ts"
import * as Cluster from "./Cluster.ts"
import type * as History from "./History.ts"
import * as Metrics from "./Metrics.ts"
import * as Namespace from "./Namespace.ts"
import * as Publication from "./protocol/Publication.ts"
import * as ServerConfig from "./ServerConfig.ts"
import * as Tracing from "./Tracing.ts"

/** Largest `data` of a publication, in bytes of UTF-8. */
export const MAX_BYTES = 64 * 1024

/**
 * A publication that no broker was asked to take.
 *
 * - `Channel`: not a channel name.
 * - `UnknownNamespace`: no such namespace is configured.
 * - `Data`: not JSON, or nothing at all.
 * - `TooLarge`: above `MAX_BYTES`.
 * - `IdempotencyKey`: empty, or above `MAX_KEY_LENGTH`.
 * - `Tags`: above `MAX_TAGS_BYTES`.
 * - `User`: empty: the anonymous clients have no user in common.
 */
export class InvalidPublication extends Data.TaggedError("InvalidPublication")<{
  readonly reason: "Channel" | "UnknownNamespace" | "Data" | "TooLarge" | "IdempotencyKey" | "Tags" | "User"
  readonly channel: string
  readonly message: string
}> {}

/** Longest idempotency key, in UTF-16 code units. */
export const MAX_KEY_LENGTH = 255

/** Largest `tags` of a publication, in bytes of JSON. */
export const MAX_TAGS_BYTES = 4096

/** How to publish. */
export interface Options {
  /** Carried beside `data`. */
  readonly tags?: Readonly<Record<string, string>>
  /** Not kept in the channel's history: it has no offset, and who misses it is not told. */
  readonly skipHistory?: boolean
  /**
   * Publishing again with the same key in the same channel, within
   * `Broker.IDEMPOTENCY_WINDOW`, publishes nothing and has the position of the
   * first time. With it a publish that timed out can be repeated safely.
   */
  readonly idempotencyKey?: string
}

/** Publishes to channels. */
export class Publisher extends Context.Tag("fanfare/Publisher")<
  Publisher,
  {
    /**
     * Publishes a JSON value. No permission is asked for: the caller is
     * trusted. Success means that the broker has accepted it; a `BrokerError`
     * with the reason `Timeout` leaves that open. The position is that of the
     * publication; `undefined` in a channel without history, or with
     * `skipHistory`.
     */
    readonly publish: (
      channel: string,
      data: unknown,
      options?: Options
    ) => Effect.Effect<History.Position | undefined, Broker.BrokerError | InvalidPublication>
    /** The same for a publication whose `data` is text already; it is carried as it is. */
    readonly publishRaw: (
      channel: string,
      publication: Publication.Publication,
      options?: Options
    ) => Effect.Effect<History.Position | undefined, Broker.BrokerError | InvalidPublication>
    /** Whether publishes are traced, and so are the commands that lead to them. */
    readonly isTraced: boolean
    /**
     * The same without a fiber. `false`: that cannot be, since it would have to
     * wait or is traced, and nothing was done.
     */
    readonly unsafePublishRaw: (
      channel: string,
      publication: Publication.Publication,
      publishing: Broker.Publishing<Broker.BrokerError | InvalidPublication>
    ) => boolean
    /**
     * Pushes a JSON value to every connection of a user that speaks the client
     * protocol, on every instance, outside of any channel. Success means that
     * the broker has accepted it; it is delivered at most once, and kept
     * nowhere.
     */
    readonly message: (user: string, data: unknown) => Effect.Effect<void, Broker.BrokerError | InvalidPublication>
  }
>() {}

const make = Effect.gen(function* () {
  const broker = yield* Broker.Broker
  const cluster = yield* Cluster.Cluster
  const config = yield* ServerConfig.ServerConfig
  const metrics = yield* Metrics.Metrics

  const checkOptions = (channel: string, { tags, idempotencyKey: key }: Options): InvalidPublication | undefined => {
    if (key !== undefined && (key.length === 0 || key.length > MAX_KEY_LENGTH)) {
      const message = `an idempotency key has from 1 to ${MAX_KEY_LENGTH} characters, this one ${key.length}`
      return new InvalidPublication({ reason: "IdempotencyKey", channel, message })
    }
    const bytes = tags === undefined ? 0 : Buffer.byteLength(JSON.stringify(tags))
    if (bytes > MAX_TAGS_BYTES) {
      const message = `tags have at most ${MAX_TAGS_BYTES} bytes, these ${bytes}`
      return new InvalidPublication({ reason: "Tags", channel, message })
    }
    return undefined
  }

  const checkSize = (channel: string, data: string): InvalidPublication | undefined => {
    const bytes = Buffer.byteLength(data)
    if (bytes <= MAX_BYTES) return undefined
    metrics.limits.publication_size.add()
    const message = `a publication has at most ${MAX_BYTES} bytes, this one ${bytes}`
    return new InvalidPublication({ reason: "TooLarge", channel, message })
  }

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
    return checkSize(channel, data)
  }

  const toJson = (channel: string, data: unknown): Either.Either<string, InvalidPublication> => {
    const text = Either.getOrUndefined(Either.try((): string | undefined => JSON.stringify(data)))
    return text === undefined
      ? Either.left(new InvalidPublication({ reason: "Data", channel, message: "data is not a JSON value" }))
      : Either.right(text)
  }

  /** The broker has answered, or has not in time. */
  const answered = (result: "accepted" | "failed", began: number): void => {
    metrics[result === "accepted" ? "published" : "publishFailed"].add()
    metrics.publishDuration[result].observe((performance.now() - began) / 1000)
  }

  /** What the broker is to carry, and how. A position is its to give, also where a publication is passed on that had one. */
  const prepare = (
    channel: string,
    publication: Publication.Publication,
    { tags, skipHistory, idempotencyKey }: Options,
    traceparent?: string
  ): readonly [Publication.Publication, Broker.PublishOptions] => {
    const retention = skipHistory === true ? undefined : Namespace.retention(config.channel, channel)
    const { offset: _offset, epoch: _epoch, traceparent: _traceparent, ...content } = publication
    return [
      { ...content, ...(tags === undefined ? {} : { tags }), ...(traceparent === undefined ? {} : { traceparent }) },
      {
        ...(retention === undefined ? {} : { retention }),
        ...(idempotencyKey === undefined ? {} : { idempotencyKey })
      }
    ]
  }

  const publishRaw = (
    channel: string,
    publication: Publication.Publication,
    options: Options = {}
  ): Effect.Effect<History.Position | undefined, Broker.BrokerError | InvalidPublication> =>
    Tracing.publish(
      channel,
      publication.data,
      (traceparent): Effect.Effect<History.Position | undefined, Broker.BrokerError | InvalidPublication> => {
        const invalid = check(channel, publication.data) ?? checkOptions(channel, options)
        if (invalid !== undefined) return Effect.fail(invalid)
        const began = performance.now()
        const accepted = broker.publish(channel, ...prepare(channel, publication, options, traceparent))
        return Effect.tapBoth(accepted, {
          onSuccess: () => Effect.sync(() => answered("accepted", began)),
          onFailure: () => Effect.sync(() => answered("failed", began))
        })
      }
    )

  const isTraced = yield* Tracing.isOn

  /** One that is under way without a fiber: a single object, see `Broker/InFlight`. */
  class Timed implements Broker.Publishing {
    readonly #began = performance.now()
    readonly #publishing: Broker.Publishing<Broker.BrokerError | InvalidPublication>

    constructor(publishing: Broker.Publishing<Broker.BrokerError | InvalidPublication>) {
      this.#publishing = publishing
    }

    sent(): void {
      this.#publishing.sent()
    }

    done(result: Exit.Exit<History.Position | undefined, Broker.BrokerError>): void {
      answered(Exit.isSuccess(result) ? "accepted" : "failed", this.#began)
      this.#publishing.done(result)
    }
  }

  const unsafePublishRaw: Context.Tag.Service<Publisher>["unsafePublishRaw"] = (channel, publication, publishing) => {
    if (isTraced) return false
    const invalid = check(channel, publication.data)
    if (invalid !== undefined) {
      publishing.done(Exit.fail(invalid))
      return true
    }
    const timed = new Timed(publishing)
    return broker.unsafePublish(channel, ...prepare(channel, publication, {}), timed)
  }

  return Publisher.of({
    publishRaw,
    isTraced,
    unsafePublishRaw,
    publish: (channel, data, options) =>
      Effect.flatMap(
        Effect.suspend(() => toJson(channel, data)),
        (text) => publishRaw(channel, Publication.fromJson(text), options)
      ),
    message: (user, data) =>
      Effect.gen(function* () {
        if (user === "") {
          return yield* new InvalidPublication({ reason: "User", channel: "", message: "a message is for a user" })
        }
        const text = yield* toJson("", data)
        const invalid = checkSize("", text)
        if (invalid !== undefined) return yield* invalid
        yield* cluster.message(user, text)
      })
  })
})

/** Publishes through the broker. */
export const layer: Layer.Layer<
  Publisher,
  never,
  Broker.Broker | Cluster.Cluster | Metrics.Metrics | ServerConfig.ServerConfig
> = Layer.effect(Publisher, make)
