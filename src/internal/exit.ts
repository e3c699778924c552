/** Effects that are over before they have begun: what `Effect.succeed`, `Effect.fail` and `Effect.void` make are exits. */
import type * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"

/** What an effect ends with, where that needs no fiber to be known. */
const settled = <A, E>(effect: Effect.Effect<A, E>): Exit.Exit<A, E> | undefined =>
  Exit.isExit(effect) ? (effect as Exit.Exit<A, E>) : undefined

/** What it succeeds with, where that needs no fiber to be known. */
export const value = <A, E>(effect: Effect.Effect<A, E>): { readonly value: A } | undefined => {
  const exit = settled(effect)
  return exit !== undefined && Exit.isSuccess(exit) ? exit : undefined
}
