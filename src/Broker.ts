/**
 * The broker carries publications between instances. This is the port: what
 * every adapter guarantees, and the in-process adapter for one instance.
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type * as Scope from "effect/Scope"
import type { Publication } from "./protocol/Publication.ts"

/**
 * - `NotLive`: there is no link; nothing was sent.
 * - `Overloaded`: too much is in flight already; nothing was sent.
 * - `Timeout`: no answer within the deadline; the broker may have accepted it.
 * - `Failed`: the broker refused it, or the link broke before the answer.
 */
export type BrokerFailure = "NotLive" | "Overloaded" | "Timeout" | "Failed"

/** A publish or subscribe that did not succeed. All of them may succeed later. */
export class BrokerError extends Data.TaggedError("BrokerError")<{
  readonly reason: BrokerFailure
  readonly channel: string
  readonly message: string
  readonly cause?: unknown
}> {}

/**
 * - `Live`: publications go out and come in.
 * - `Degraded`: the link is lost; publish and subscribe fail at once.
 * - `Resyncing`: the link is back; subscriptions are being restored.
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
}

/**
 * Carries publications between instances.
 *
 * Order: all instances hear the publications of a channel in the one order in
 * which the broker accepted them.
 */
export class Broker extends Context.Tag("fanfare/Broker")<
  Broker,
  {
    /** `memory` or `redis`, for the banner and the health body. */
    readonly name: string
    /**
     * Publishes to a channel. Success: the broker has accepted it, and every
     * instance subscribed to the channel will hear it while its link lives.
     * `Timeout` and a link lost on the way leave open whether it was accepted.
     */
    readonly publish: (channel: string, publication: Publication) => Effect.Effect<void, BrokerError>
    /**
     * Subscribes this instance to a channel. After success every publication
     * accepted from then on reaches the sink, until `unsubscribe`; also after
     * the link was lost and came back, less what was published meanwhile.
     * Idempotent. On failure or interruption the channel is still wanted until
     * `unsubscribe`.
     */
    readonly subscribe: (channel: string) => Effect.Effect<void, BrokerError>
    /** Gives a channel up. Never waits, never fails. */
    readonly unsubscribe: (channel: string) => Effect.Effect<void>
    /** Connects the sink for as long as the scope is open. One at a time. */
    readonly attach: (sink: Sink) => Effect.Effect<void, never, Scope.Scope>
    /**
     * Waits until every publication that this instance had accepted for
     * subscribed channels has reached the sink, or the broker is not live.
     */
    readonly settled: Effect.Effect<void>
    /** The link's state, and every change of it. */
    readonly state: SubscriptionRef.SubscriptionRef<BrokerState>
  }
>() {}

/** Whether publications flow now. */
export const isLive = (broker: Context.Tag.Service<Broker>): Effect.Effect<boolean> =>
  Effect.map(SubscriptionRef.get(broker.state), (state) => state._tag === "Live")

const makeMemory = Effect.gen(function* () {
  const state = yield* SubscriptionRef.make<BrokerState>({ _tag: "Live" })
  const subscribed = new Set<string>()
  let sink: Sink | undefined

  // A publisher waits while the sink is full: that bounds what is in flight.
  const publish = (channel: string, publication: Publication): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (sink === undefined || !subscribed.has(channel)) return Effect.void
      if (sink.isFull()) return Effect.zipRight(sink.writable, publish(channel, publication))
      sink.offer(channel, publication)
      return Effect.void
    })

  return Broker.of({
    name: "memory",
    publish,
    subscribe: (channel) => Effect.sync(() => void subscribed.add(channel)),
    unsubscribe: (channel) => Effect.sync(() => void subscribed.delete(channel)),
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
    state
  })
})

/**
 * The broker of a single instance: no Redis, nothing survives the process.
 * Never `Degraded`; a publisher waits while the hub's inbox is full.
 */
export const layerMemory: Layer.Layer<Broker> = Layer.effect(Broker, makeMemory)
