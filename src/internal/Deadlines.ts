/**
 * Many waits of one length. They end in the order in which they began, so one
 * fiber that sleeps until the oldest is due serves them all; `within` costs two
 * fibers and a timer each time.
 *
 * What that is worth: see `Broker/InFlight`.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

interface Wait {
  /** In milliseconds of a clock that nobody sets. */
  readonly due: number
  readonly expire: () => void
}

/** Waits of one length. */
export interface Deadlines {
  /**
   * Calls `expire` when the time is over, unless the function that is returned
   * is called before. What it throws is logged.
   */
  readonly begin: (expire: () => void) => () => void
}

/** Waits of the length `limit`; when the scope closes, those that have not ended are forgotten. */
export const make = (limit: Duration.Duration): Effect.Effect<Deadlines, never, Scope.Scope> =>
  Effect.gen(function* () {
    const clock = yield* Effect.clock
    const now = (): number => Number(clock.unsafeCurrentTimeNanos()) / 1e6
    // In the order in which they are due.
    const waits = new Set<Wait>()
    const any = yield* Effect.makeLatch(false)

    const next = Effect.suspend(() => {
      const [oldest] = waits
      if (oldest === undefined) {
        any.unsafeClose()
        return any.await
      }
      const left = oldest.due - now()
      if (left > 0) return Effect.sleep(Math.ceil(left))
      waits.delete(oldest)
      return Effect.catchAllDefect(Effect.sync(oldest.expire), (defect) =>
        Effect.logError("the end of a wait failed", defect)
      )
    })
    yield* Effect.forkScoped(Effect.forever(next))

    return {
      begin: (expire) => {
        const wait = { due: now() + Duration.toMillis(limit), expire }
        waits.add(wait)
        any.unsafeOpen()
        return () => void waits.delete(wait)
      }
    }
  })
