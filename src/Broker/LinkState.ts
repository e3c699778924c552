/**
 * The state of the link to Redis, for others, the log and the metrics. An outage
 * has one warning, however many attempts it takes and whatever they end with.
 * Where Redis itself gives another reason later (a password that has changed
 * meanwhile), that is said once, at the level info.
 */
import type * as Context from "effect/Context"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type { BrokerState } from "../Broker.ts"
import type * as Metrics from "../Metrics.ts"

/** Why the link is not live. */
export interface Reason {
  readonly message: string
  /** Where Redis itself says so: what it says, as a code. */
  readonly said?: string | undefined
}

/** The states of a link, as it goes through them. */
export interface LinkState {
  readonly state: SubscriptionRef.SubscriptionRef<BrokerState>
  /** There is no link, or none that works. `isLoss`: a link that was live is gone. */
  readonly degraded: (reason: Reason, isLoss: boolean) => Effect.Effect<void>
  readonly resyncing: Effect.Effect<void>
  readonly live: Effect.Effect<void>
}

/** Degraded, until the first link to the Redis at `where`. */
export const make = (
  where: string,
  metrics: Pick<Context.Tag.Service<Metrics.Metrics>, "brokerLinkLosses" | "brokerOutageSeconds">
): Effect.Effect<LinkState> =>
  Effect.gen(function* () {
    const state = yield* SubscriptionRef.make<BrokerState>({ _tag: "Degraded", cause: "not connected yet" })
    let lostAt: number | undefined
    /** What Redis has said in this outage; `undefined`: nothing was logged of it. */
    let heard: Set<string> | undefined

    return {
      state,
      degraded: ({ message, said }, isLoss) =>
        Effect.gen(function* () {
          yield* SubscriptionRef.set(state, { _tag: "Degraded", cause: message })
          if (isLoss) metrics.brokerLinkLosses.add()
          lostAt ??= yield* Clock.currentTimeMillis
          const isFirst = heard === undefined
          const isNews = said !== undefined && heard?.has(said) !== true
          heard ??= new Set()
          if (said !== undefined) heard.add(said)
          if (isFirst) return yield* Effect.logWarning(`broker degraded: redis at ${where}: ${message}; retrying`)
          yield* isNews
            ? Effect.logInfo(`broker still degraded: redis at ${where}: ${message}`)
            : Effect.logDebug(`broker still degraded: ${message}`)
        }),
      resyncing: SubscriptionRef.set(state, { _tag: "Resyncing" }),
      live: Effect.gen(function* () {
        const away = lostAt === undefined ? 0 : ((yield* Clock.currentTimeMillis) - lostAt) / 1000
        metrics.brokerOutageSeconds.add(away)
        lostAt = undefined
        heard = undefined
        yield* SubscriptionRef.set(state, { _tag: "Live" })
        yield* Effect.logInfo(`broker live: redis at ${where}${away === 0 ? "" : `, after ${away.toFixed(1)} s`}`)
      })
    }
  })
