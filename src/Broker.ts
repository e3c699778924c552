/**
 * The broker carries publications between instances and keeps their history.
 * This is the port: what every adapter guarantees, and the in-process adapter
 * for one instance.
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type * as Scope from "effect/Scope"
import { Expiring } from "./Broker/Expiring.ts"
import { MemoryStreams } from "./Broker/MemoryStreams.ts"
import type * as History from "./History.ts"
import { type Publication, untraced } from "./protocol/Publication.ts"
import { clocks } from "./internal/clock.ts"
import * as ServerConfig from "./ServerConfig.ts"

/**
 * - `NotLive`: there is no link; nothing was sent, or nothing that changes anything.
 * - `Overloaded`: too much is in flight already, or the broker does no work for a time; nothing was done.
 * - `Timeout`: no answer within the deadline; the broker may have accepted it.
 * - `Failed`: the broker refused it, or the link broke before the answer.
 */
export type BrokerFailure = "NotLive" | "Overloaded" | "Timeout" | "Failed"

/** A command that did not succeed. All of them may succeed later. */
export class BrokerError extends Data.TaggedError("BrokerError")<{
  readonly reason: BrokerFailure
  readonly channel: string
  readonly message: string
  readonly cause?: unknown
}> {}

/**
 * - `Live`: publications go out and come in.
 * - `Degraded`: the link is lost; publish and subscribe fail at once.
 * - `Resyncing`: the link is back; subscriptions are being restored, and what was missed is read.
 */
export type BrokerState =
  | { readonly _tag: "Live" }
  | { readonly _tag: "Degraded"; readonly cause: string }
  | { readonly _tag: "Resyncing" }

/** Where an adapter hands over what it hears. Owned by the hub, which bounds it. */
export interface Sink {
  /** Takes a publication. It is taken even when the sink is full: an adapter stops reading then. */
  readonly offer: (channel: string, publication: Publication) => void
  /** Whether the bound is reached. */
  readonly isFull: () => boolean
  /** Completes once the sink has room. */
  readonly writable: Effect.Effect<void>
  /** A message came that cannot be read: counted, not delivered. */
  readonly undecodable: () => void
  /**
   * Reads what was missed. An adapter runs it whenever a link has come back:
   * after its subscriptions are restored, before it says `Live`, and while
   * `history` and `positions` work again.
   */
  readonly resync: Effect.Effect<void>
}

/** How a publication is to be accepted. */
export interface PublishOptions {
  /** Adds it to the channel's stream, which keeps so much; without it the publication has no offset. */
  readonly retention?: History.Retention
  /** A publish with a key that was accepted in the channel in the last `IDEMPOTENCY_WINDOW` is not accepted again. */
  readonly idempotencyKey?: string
}

/** Who publishes without a fiber; `E`: what it may fail with. Nothing here waits or throws. */
export interface Publishing<E = BrokerError> {
  /**
   * Its place in the order is settled: what is published from now on comes after
   * it. Called in the step in which that is so, where it is before `done`; else not
   * at all.
   */
  readonly sent: () => void
  /** It is accepted, or not. Called once, maybe within the call that publishes. */
  readonly done: (result: Exit.Exit<History.Position | undefined, E>) => void
}

/** How long a broker knows an idempotency key. */
export const IDEMPOTENCY_WINDOW = Duration.minutes(5)

/**
 * How much this instance has asked of the broker since it started, publishes above
 * all, and how much of that is answered, or will not be. One object, changed in
 * place; both only grow.
 */
export interface Progress {
  readonly asked: number
  readonly answered: number
}

/** A channel with history. */
export interface Kept {
  readonly channel: string
  readonly retention: History.Retention
}

/**
 * Carries publications between instances and keeps their history.
 *
 * Order: all instances hear the publications of a channel in the one order in
 * which the broker accepted them.
 *
 * History: a publication gets its offset, becomes part of the stream and is
 * published in one step, or none of it. Offsets never skip: what is published
 * with an offset is in the stream, until `retention` lets it go. A stream that
 * the broker has lost, or may have lost a part of, gets another epoch.
 */
export class Broker extends Context.Tag("fanfare/Broker")<
  Broker,
  {
    /** `memory` or `redis`, for the banner and the health body. */
    readonly name: string
    /**
     * Publishes to a channel. Success: the broker has accepted it, and every
     * instance subscribed to the channel will hear it while its link lives;
     * the position is that of the publication, where it has one. `Timeout` and
     * a link lost on the way leave open whether it was accepted.
     */
    readonly publish: (
      channel: string,
      publication: Publication,
      options?: PublishOptions
    ) => Effect.Effect<History.Position | undefined, BrokerError>
    /**
     * Publishes as `publish` does, without a fiber. `false`: it would have to
     * wait, and nothing was done. Never waits, never throws.
     */
    readonly unsafePublish: (
      channel: string,
      publication: Publication,
      options: PublishOptions,
      publishing: Publishing
    ) => boolean
    /** Reads publications of a stream. A channel without one gets it by this, so that it has an epoch. */
    readonly history: (kept: Kept, range: History.Range) => Effect.Effect<History.Page, BrokerError>
    /** The tops of many streams, in the order asked; `undefined` for one that is lost. Keeps them from expiring. */
    readonly positions: (
      kept: ReadonlyArray<Kept>
    ) => Effect.Effect<ReadonlyArray<History.Position | undefined>, BrokerError>
    /**
     * Removes the publications of a stream. Its epoch and offset go on. What
     * instances remember of it, they forget within a second, or by
     * `Cluster.forget`.
     */
    readonly removeHistory: (channel: string) => Effect.Effect<void, BrokerError>
    /**
     * Subscribes this instance to a channel. After success every publication
     * accepted from then on reaches the sink, until `unsubscribe`; also after
     * the link was lost and came back, less what was published meanwhile.
     * Idempotent. On failure or interruption the channel is still wanted until
     * `unsubscribe`.
     */
    readonly subscribe: (channel: string) => Effect.Effect<void, BrokerError>
    /** Whether this instance is subscribed, so that `subscribe` would have nothing to do. */
    readonly isSubscribed: (channel: string) => boolean
    /** Gives a channel up. Never waits, never throws. */
    readonly unsubscribe: (channel: string) => void
    /** Connects the sink for as long as the scope is open. One at a time. */
    readonly attach: (sink: Sink) => Effect.Effect<void, never, Scope.Scope>
    /**
     * Waits until every publication that this instance had accepted for
     * subscribed channels has reached the sink, or the broker is not live.
     */
    readonly settled: Effect.Effect<void>
    /**
     * What is published comes back about when it is answered, and the hub may wait
     * a moment for it. Where an answer is there at once, both stay at 0.
     */
    readonly progress: Progress
    /**
     * Sends a control message to every instance that listens, this one
     * included, or to one of them. At most once. The answer is how many
     * instances the broker has handed it to.
     */
    readonly sendControl: (message: string, to?: string) => Effect.Effect<number, BrokerError>
    /**
     * Hears control messages to everybody and to `instance`, for as long as the
     * scope is open. `hear` neither waits nor throws. One listener at a time.
     */
    readonly listenControl: (
      instance: string,
      hear: (message: string) => void
    ) => Effect.Effect<void, never, Scope.Scope>
    /** The link's state, and every change of it. */
    readonly state: SubscriptionRef.SubscriptionRef<BrokerState>
  }
>() {}

/** Whether publications flow now. */
export const isLive = (broker: Context.Tag.Service<Broker>): Effect.Effect<boolean> =>
  Effect.map(SubscriptionRef.get(broker.state), (state) => state._tag === "Live")

/** How often the in-process broker looks for what has expired. */
const SWEEP_INTERVAL = Duration.seconds(30)

/** Most idempotency keys that it knows; with more of them in the window the oldest are forgotten early. */
const MAX_IDEMPOTENCY_KEYS = 100_000

const makeMemory = Effect.gen(function* () {
  // One clock for all streams, whatever clock a publisher's own fiber has.
  const { monotonic: now } = yield* clocks
  const { history_max_size } = (yield* ServerConfig.ServerConfig).broker.memory
  const state = yield* SubscriptionRef.make<BrokerState>({ _tag: "Live" })
  const streams = new MemoryStreams(history_max_size)
  const accepted = new Expiring<{ readonly position: History.Position | undefined }>(
    Duration.toMillis(IDEMPOTENCY_WINDOW),
    MAX_IDEMPOTENCY_KEYS
  )
  const subscribed = new Set<string>()
  let sink: Sink | undefined
  let listener: { readonly instance: string; readonly hear: (message: string) => void } | undefined

  yield* Effect.sync(() => streams.sweep(now())).pipe(Effect.repeat(Schedule.spaced(SWEEP_INTERVAL)), Effect.forkScoped)

  const accept = (
    channel: string,
    publication: Publication,
    { retention, idempotencyKey }: PublishOptions
  ): History.Position | undefined => {
    const key = idempotencyKey === undefined ? undefined : JSON.stringify([channel, idempotencyKey])
    const earlier = key === undefined ? undefined : accepted.get(now(), key)
    if (earlier !== undefined) return earlier.position
    const kept = untraced(publication)
    const one = retention === undefined ? kept : streams.append(now(), channel, retention, kept)
    const { epoch, offset } = one
    const position = epoch === undefined || offset === undefined ? undefined : { epoch, offset }
    if (key !== undefined) accepted.set(now(), key, { position })
    const { traceparent } = publication
    if (subscribed.has(channel)) sink?.offer(channel, traceparent === undefined ? one : { ...one, traceparent })
    return position
  }

  // A publisher waits while the sink is full: that bounds what is in flight.
  const mustWait = (channel: string): boolean => sink?.isFull() === true && subscribed.has(channel)

  const publish = (
    channel: string,
    publication: Publication,
    options: PublishOptions = {}
  ): Effect.Effect<History.Position | undefined> =>
    Effect.suspend(() =>
      sink !== undefined && mustWait(channel)
        ? Effect.zipRight(sink.writable, publish(channel, publication, options))
        : Effect.succeed(accept(channel, publication, options))
    )

  return Broker.of({
    name: "memory",
    publish,
    unsafePublish: (channel, publication, options, publishing) => {
      if (mustWait(channel)) return false
      publishing.done(Exit.succeed(accept(channel, publication, options)))
      return true
    },
    history: ({ channel, retention }, range) => Effect.sync(() => streams.read(now(), channel, retention, range)),
    positions: (kept) =>
      Effect.sync(() => kept.map(({ channel, retention }) => streams.position(now(), channel, retention))),
    removeHistory: (channel) => Effect.sync(() => streams.remove(channel)),
    subscribe: (channel) =>
      Effect.sync(() => {
        subscribed.add(channel)
        streams.pin(channel, true)
      }),
    isSubscribed: (channel) => subscribed.has(channel),
    unsubscribe: (channel) => {
      subscribed.delete(channel)
      streams.pin(channel, false)
    },
    attach: (one) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          sink = one
        }),
        () =>
          Effect.sync(() => {
            sink = undefined
          })
      ),
    settled: Effect.void,
    progress: { asked: 0, answered: 0 },
    sendControl: (message, to) =>
      Effect.sync(() => {
        if (listener === undefined || (to !== undefined && to !== listener.instance)) return 0
        listener.hear(message)
        return 1
      }),
    listenControl: (instance, hear) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          listener = { instance, hear }
        }),
        () =>
          Effect.sync(() => {
            listener = undefined
          })
      ),
    state
  })
})

/**
 * The broker of a single instance: no Redis, nothing survives the process.
 * Never `Degraded`; a publisher waits while the hub's inbox is full. All
 * streams together keep at most `broker.memory.history_max_size`.
 */
export const layerMemory: Layer.Layer<Broker, never, ServerConfig.ServerConfig> = Layer.scoped(Broker, makeMemory)
