/**
 * What Redis refuses: counted each time by its kind, and logged once a minute for
 * each kind, with Redis's words. A refusal that says that the link is over, or
 * waits, is counted only: the link has a line of its own.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Runtime from "effect/Runtime"
import * as Reply from "../internal/redisReply.ts"
import * as Metrics from "../Metrics.ts"
import type { Refused } from "./InFlight.ts"

/** The least time between two lines of one kind. */
export const INTERVAL = Duration.minutes(1)

/** A kind of refusal that was logged. */
interface Told {
  at: number
  /** Refusals since then. */
  since: number
}

const KINDS: ReadonlySet<string> = new Set(Metrics.REFUSAL_KINDS)

/** The kind of a refusal, as the label of its counter. */
export const kindOf = (cause: unknown): string => {
  const kind = Reply.codeOf(cause).toLowerCase()
  return KINDS.has(kind) ? kind : "other"
}

/** Hears of refusals by the Redis at `where`. */
export const make = (where: string): Effect.Effect<Refused, never, Metrics.Metrics> =>
  Effect.gen(function* () {
    const { brokerRefusals } = yield* Metrics.Metrics
    const fork = Runtime.runFork(yield* Effect.runtime<never>())
    const clock = yield* Effect.clock
    const told = new Map<string, Told>()
    return (what, cause, count) => {
      const kind = kindOf(cause)
      brokerRefusals(kind).add(count)
      if (Reply.verdictOf(cause) !== "Refuses") return
      const now = clock.unsafeCurrentTimeMillis()
      const before = told.get(kind)
      if (before !== undefined && now - before.at < Duration.toMillis(INTERVAL)) {
        before.since += count
        return
      }
      told.set(kind, { at: now, since: 0 })
      const more = before === undefined || before.since === 0 ? "" : `; ${before.since} more since the last such line`
      fork(Effect.logWarning(`redis at ${where} refuses to ${what}: ${Reply.wordsOf(cause)}${more}`))
    }
  })
