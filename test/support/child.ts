/** A script in a process of its own that talks over IPC, so that it keeps its pace whatever the test's process does. */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type ChildProcess, fork } from "node:child_process"
import { fileURLToPath } from "node:url"
import { NeverHappened, Watched } from "./wait.ts"

/**
 * Signals a process that has not ended. Not `child.kill`: Deno says of a child
 * that was signalled so that the signal ended it, whatever it made of it.
 */
export const signal = (child: ChildProcess, name: NodeJS.Signals): void => {
  if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) process.kill(child.pid, name)
}

export interface Message {
  readonly type: string
}

export interface Child {
  readonly signal: (name: NodeJS.Signals) => void
  /** All messages of a type that have come. */
  readonly all: <M extends Message>(type: M["type"]) => ReadonlyArray<M>
  readonly send: (message: Message & Record<string, unknown>) => void
  /** Waits for the first message of a type, counted from `after` messages that have come. */
  readonly says: <M extends Message>(
    type: M["type"],
    limit: Duration.DurationInput,
    after?: number
  ) => Effect.Effect<M, NeverHappened>
  /** How many messages have come. */
  readonly said: () => number
  /** Fails when it has ended by itself. */
  readonly ends: Effect.Effect<never, NeverHappened>
}

/** Starts a script of this folder with `plan` as its argument; it ends with the scope. */
export const start = (script: string, plan: object): Effect.Effect<Child, never, Scope.Scope> =>
  Effect.gen(function* () {
    const watched = new Watched()
    const messages: Array<Message> = []
    let exited = false
    const path = fileURLToPath(new URL(script, import.meta.url))
    const child = yield* Effect.acquireRelease(
      Effect.sync(() => fork(path, [JSON.stringify(plan)], { execArgv: [] })),
      (started) =>
        Effect.zipRight(
          Effect.sync(() => signal(started, "SIGKILL")),
          Effect.orDie(watched.until(() => exited, `${script} ends`))
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
    return {
      signal: (name) => signal(child, name),
      all: <M extends Message>(type: M["type"]) => messages.filter((message): message is M => message.type === type),
      send: (message) => void child.send(message),
      said: () => messages.length,
      says: <M extends Message>(type: M["type"], limit: Duration.DurationInput, after = 0) => {
        const found = (): Message | undefined => messages.slice(after).find((message) => message.type === type)
        return Effect.map(
          watched.until(() => found() !== undefined, `${script} says ${type}`, limit),
          () => found() as M
        )
      },
      ends: Effect.zipRight(
        watched.until(() => exited, script, "1 day"),
        Effect.fail(new NeverHappened({ message: `${script} ended` }))
      )
    }
  })
