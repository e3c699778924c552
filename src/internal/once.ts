/** What is made when it is asked for the first time. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"

/**
 * Makes it on the first use and keeps it. Not `Effect.cached`: where the first
 * user is interrupted, that keeps the interruption, and every later user gets
 * it.
 */
export const once = <A, E, R>(make: Effect.Effect<A, E, R>): Effect.Effect<Effect.Effect<A, E, R>> =>
  Effect.map(Effect.makeSemaphore(1), (one) => {
    let made: Option.Option<A> = Option.none()
    const remember = Effect.tap(make, (a) =>
      Effect.sync(() => {
        made = Option.some(a)
      })
    )
    return one.withPermits(1)(Effect.suspend(() => (Option.isSome(made) ? Effect.succeed(made.value) : remember)))
  })
