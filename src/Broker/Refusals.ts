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
import type { OnRefusal } from "./InFlight.ts"

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

/** Where refusals are heard of. Nothing here throws or waits. */
export interface Refusals {
  readonly refused: OnRefusal
  /** A command of the heartbeat is refused; one that the user may not call is said once. */
  readonly heartbeat: (command: string, cause: unknown) => void
  /** A warning that holds for every link of this instance: it is logged once. */
  readonly once: (warning: string) => void
}

/** Hears of refusals by the Redis at `where`. */
export const make = (where: string): Effect.Effect<Refusals, never, Metrics.Metrics> =>
  Effect.gen(function* () {
    const { brokerRefusals } = yield* Metrics.Metrics
    const fork = Runtime.runFork(yield* Effect.runtime<never>())
    const clock = yield* Effect.clock
    const told = new Map<string, Told>()
    const said = new Set<string>()

    const once = (warning: string): void => {
      if (said.has(warning)) return
      said.add(warning)
      fork(Effect.logWarning(warning))
    }

    const refused: OnRefusal = (what, cause, count) => {
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

    return {
      refused,
      once,
      heartbeat: (command, cause) => {
        if (!Reply.isDenied(cause)) return refused(`answer a heartbeat (${command})`, cause, 1)
        brokerRefusals(kindOf(cause)).add()
        once(
          `redis at ${where} does not permit ${command} to the heartbeat: ${Reply.wordsOf(cause)}; a Redis that becomes a replica may be noticed late`
        )
      }
    }
  })
