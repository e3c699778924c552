/** How tests of running servers are declared: real clock, own scope, and nothing left behind. */
import { it } from "@effect/vitest"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { leaveNothing } from "./leaks.ts"

/** A test against real servers, sockets and time; `limit` in milliseconds. */
export const live = <E>(name: string, test: () => Effect.Effect<void, E, Scope.Scope>, limit = 90_000): void =>
  it.live(name, () => leaveNothing(test()), limit)
