/** Many subscribers in a process of their own, so that they keep up whatever the test's process does. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type Message, start } from "./child.ts"
import type { NeverHappened } from "./wait.ts"

/** What one subscriber got: how many messages, and a hash over all of them in their order. */
export interface Result {
  readonly count: number
  readonly order: string
  /** The close code, where it was closed. */
  readonly closed?: number
}

export interface Subscribers {
  /** Waits until each of them has got `expected` messages, or is closed. */
  readonly done: Effect.Effect<ReadonlyArray<Result>, NeverHappened>
  /** What they have got by now. */
  readonly report: Effect.Effect<ReadonlyArray<Result>, NeverHappened>
}

interface Report extends Message {
  readonly results: ReadonlyArray<Result>
}

/** Opens `each` plain sockets on every URL; returns when all are open. The process ends with the scope. */
export const open = (
  urls: ReadonlyArray<string>,
  each: number,
  expected: number
): Effect.Effect<Subscribers, NeverHappened, Scope.Scope> =>
  Effect.gen(function* () {
    const child = yield* start("./subscribers.mjs", { urls, each, expected })
    const results = (type: "done" | "report", after: number) =>
      Effect.map(child.says<Report>(type, "90 seconds", after), (report) => report.results)
    yield* child.says("open", "90 seconds")
    return {
      done: results("done", 0),
      report: Effect.suspend(() => {
        const before = child.said()
        child.send({ type: "report" })
        return results("report", before)
      })
    }
  })
