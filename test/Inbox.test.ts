import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Inbox } from "../src/Inbox.ts"
import type { Task } from "../src/Session.ts"
import { Watched } from "./support/wait.ts"

/** Tasks that wait for a latch, and what has begun and ended. */
const bench = Effect.gen(function* () {
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

const broken = (defect: unknown): void => {
  throw defect
}

const take = (inbox: Inbox) => Effect.sync(() => inbox.take(() => true))

describe("Inbox, heavy tasks", () => {
  it.scoped("run four at a time; what comes behind the fifth waits with it", () =>
    Effect.gen(function* () {
      const { begun, gate, task } = yield* bench
      const watched = new Watched()
      const inbox = new Inbox({ fork: Effect.runFork, changed: () => watched.changed(), broken })
      for (let index = 1; index <= 6; index++) inbox.push(task(`heavy ${index}`, true))
      inbox.push(task("light", false))
      yield* take(inbox)
      expect(begun).toEqual(["heavy 1", "heavy 2", "heavy 3", "heavy 4"])
      yield* gate.open
      yield* watched.until(() => inbox.isIdle, "they are done")
      yield* take(inbox)
      expect(begun).toEqual(["heavy 1", "heavy 2", "heavy 3", "heavy 4", "heavy 5", "heavy 6", "light"])
    })
  )

  it.scoped("that end as interrupted, or die, give their place back, and those behind them run", () =>
    Effect.gen(function* () {
      const { begun, task } = yield* bench
      const watched = new Watched()
      const inbox = new Inbox({ fork: Effect.runFork, changed: () => watched.changed(), broken })
      for (const run of [Effect.interrupt, Effect.die("a defect"), Effect.interrupt, Effect.interrupt, Effect.void]) {
        inbox.push(task("one lane", true, run))
      }
      inbox.push({ ...task("alone", true, Effect.interrupt), exclusive: true })
      inbox.push(task("last", true, Effect.void))
      while (begun.length < 7) {
        yield* take(inbox)
        yield* watched.until(() => inbox.isIdle, "they are done")
      }
      expect(begun).toEqual([...Array.from({ length: 5 }, () => "one lane"), "alone", "last"])
    })
  )

  it.scoped("do not hold up light ones before them", () =>
    Effect.gen(function* () {
      const { begun, task } = yield* bench
      const inbox = new Inbox({ fork: Effect.runFork, changed: () => undefined, broken })
      for (let index = 1; index <= 6; index++) inbox.push(task(`light ${index}`, false))
      inbox.push(task("heavy", true))
      yield* take(inbox)
      expect(begun.length).toBe(7)
      yield* inbox.discard
    })
  )
})
