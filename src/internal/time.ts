/**
 * Bounded waits that hold everywhere. `Effect.timeout` interrupts what it waits
 * for and waits for that, too: in a finalizer, or in any other uninterruptible
 * region, it waits for ever for an effect that does not end. These run the effect
 * in a fiber in which it can be interrupted, whatever region they stand in.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"

/** Waits at most `limit`; `None` where that was not enough. */
export const atMost =
  (limit: Duration.Duration) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<Option.Option<A>, E, R> =>
    Effect.timeoutOption(Effect.interruptible(effect), limit)

/** Waits at most `limit`, then fails. */
export const within =
  <E2>(limit: Duration.Duration, onTimeout: () => E2) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | E2, R> =>
    Effect.timeoutFail(Effect.interruptible(effect), { duration: limit, onTimeout })
