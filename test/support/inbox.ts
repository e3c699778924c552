/** Tasks of an inbox in the test's hands: which have begun, and when they end. */
import * as Effect from "effect/Effect"
import { Inbox } from "../../src/Inbox.ts"
import type { Task } from "../../src/Session.ts"
import { Watched } from "./wait.ts"

/** Tasks that wait for a latch, and what has begun and ended. */
export const bench = Effect.gen(function* () {
  const gate = yield* Effect.makeLatch(false)
  const begun: Array<string> = []
  const task = (name: string, isHeavy: boolean, run: Effect.Effect<void> = gate.await): Task => ({
    lane: name,
    exclusive: false,
    isHeavy,
    run: () =>
      Effect.zipRight(
        Effect.sync(() => begun.push(name)),
        run
      )
  })
  return { begun, gate, task }
})

export const broken = (defect: unknown): void => {
  throw defect
}

export const take = (inbox: Inbox) => Effect.sync(() => inbox.take(() => true))

/** Tasks that are begun, passed on and ended by the test. */
export const stage = () => {
  const begun: Array<string> = []
  const ended: Array<string> = []
  let forked = 0
  const defects: Array<unknown> = []
  const dones = new Map<string, (rest?: Effect.Effect<void>) => void>()
  const gates = new Map<string, (effect: Effect.Effect<void>) => void>()
  const watched = new Watched()
  const inbox = new Inbox(
    {
      fork: (effect) => {
        forked++
        return Effect.runFork(effect)
      },
      // As the connection does.
      changed: () => {
        inbox.take(() => true)
        watched.changed()
      },
      broken: (defect) => void defects.push(defect)
    },
    64 * 1024
  )
  const gate = (name: string): Effect.Effect<void> =>
    Effect.async<void>((resume) => void gates.set(name, resume)).pipe(
      Effect.onExit((exit) => Effect.sync(() => ended.push(exit._tag === "Success" ? name : `${name}, interrupted`)))
    )
  const push = (task: Partial<Task>): void => {
    inbox.push({
      lane: "lane",
      exclusive: false,
      isHeavy: false,
      run: () => Effect.die("it is done by `now`"),
      ...task
    })
    inbox.take(() => true)
  }
  return {
    inbox,
    begun,
    ended,
    defects,
    forked: () => forked,
    gate,
    /** Puts in a task that runs in a fiber until `end`. */
    inFiber: (name: string, task: Partial<Task> = {}) =>
      push({
        run: () =>
          Effect.suspend(() => {
            begun.push(name)
            return gate(name)
          }),
        ...task
      }),
    /** Puts in a task that has no fiber until `done`. */
    byNow: (name: string, task: Partial<Task> = {}, passesOn = false) =>
      push({
        now: (turn) => {
          begun.push(name)
          dones.set(name, (rest) => turn.done(rest))
          if (passesOn) turn.passOn()
          return true
        },
        ...task
      }),
    push,
    end: (name: string): Effect.Effect<void> =>
      Effect.suspend(() => {
        gates.get(name)?.(Effect.void)
        return Effect.orDie(watched.until(() => ended.includes(name), `${name} ends`))
      }),
    done: (name: string, rest?: Effect.Effect<void>): void => dones.get(name)?.(rest)
  }
}
