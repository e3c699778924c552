/**
 * The leak invariant: when what a test started has ended, root fibers, sockets,
 * servers, timers and child processes are what they were before.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import { held } from "./timers.ts"
import { eventually } from "./wait.ts"

interface Census {
  readonly fibers: number
  readonly resources: Readonly<Record<string, number>>
}

const count = Effect.map(Fiber.roots, (fibers): Census => {
  const resources: Record<string, number> = {}
  const known = held()
  // Of the timers that the runtime counts, those that are known are named; the others are the runner's, and its own.
  let skipped = known.length
  // An immediate is due in this very turn; it holds nothing.
  const others = process
    .getActiveResourcesInfo()
    .filter((name) => name !== "Immediate" && (name !== "Timeout" || skipped-- <= 0))
  for (const resource of [...others, ...known]) resources[resource] = (resources[resource] ?? 0) + 1
  return { fibers: fibers.length, resources }
})

// Not in the first step of a wait, in which the timer that limits it is not set yet.
const census = Effect.delay(count, "1 millis")

/** What is there now beyond what was there before. */
const excess = (before: Census, now: Census): ReadonlyArray<string> => [
  ...(now.fibers > before.fibers ? [`${now.fibers - before.fibers} root fibers`] : []),
  ...Object.entries(now.resources)
    .map(([resource, count]) => [resource, count - (before.resources[resource] ?? 0)] as const)
    .filter(([, more]) => more > 0)
    .map(([resource, more]) => `${more} ${resource}`)
]

/** Runs a test in a scope of its own and fails if anything that it started outlives the scope. */
export const leaveNothing = <E>(test: Effect.Effect<void, E, Scope.Scope>): Effect.Effect<void, unknown> =>
  Effect.gen(function* () {
    // Counted in the same way before and after: the wait has a fiber and a timer of its own.
    const before = yield* eventually(census, () => true, "a census")
    yield* Effect.scoped(test)
    yield* eventually(
      Effect.map(census, (now) => excess(before, now)),
      (left) => left.length === 0,
      "nothing is left after the test"
    )
  })
