/** Many subscribers in a process of their own, so that they keep up whatever the test's process does. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { fork } from "node:child_process"
import { fileURLToPath } from "node:url"
import { type NeverHappened, Watched } from "./wait.ts"

/** What one subscriber got: how many messages, and a hash over all of them in their order. */
export interface Result {
  readonly count: number
  readonly order: string
  /** The close code, where it was closed. */
  readonly closed?: number
}

export interface Subscribers {
  /** Waits until each of them has got `expected` messages. */
  readonly done: Effect.Effect<ReadonlyArray<Result>, NeverHappened>
  /** What they have got by now. */
  readonly report: Effect.Effect<ReadonlyArray<Result>, NeverHappened>
}

interface Message {
  readonly type: "open" | "done" | "report"
  readonly results?: ReadonlyArray<Result>
}

/** Opens `each` plain sockets on every URL; returns when all are open. The process ends with the scope. */
export const start = (
  urls: ReadonlyArray<string>,
  each: number,
  expected: number
): Effect.Effect<Subscribers, NeverHappened, Scope.Scope> =>
  Effect.gen(function* () {
    const watched = new Watched()
    const messages: Array<Message> = []
    let exited = false
    const script = fileURLToPath(new URL("./subscribers.mjs", import.meta.url))
    const child = yield* Effect.acquireRelease(
      Effect.sync(() => fork(script, [JSON.stringify({ urls, each, expected })], { execArgv: [] })),
      (process) =>
        Effect.zipRight(
          Effect.sync(() => process.kill("SIGKILL")),
          Effect.orDie(watched.until(() => exited, "the subscribers end"))
        )
    )
    child.on("message", (message: Message) => {
      messages.push(message)
      watched.changed()
    })
    child.on("close", () => {
      exited = true
      watched.changed()
    })
    const next = (type: Message["type"]) =>
      Effect.map(
        watched.until(() => messages.some((message) => message.type === type), `subscribers say ${type}`, "90 seconds"),
        () => messages.findLast((message) => message.type === type)?.results ?? []
      )
    yield* next("open")
    return {
      done: next("done"),
      report: Effect.zipRight(
        Effect.sync(() => child.send("report")),
        next("report")
      )
    }
  })
