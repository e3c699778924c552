import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Inbox } from "../src/Inbox.ts"
import { bench, broken, stage, take } from "./support/inbox.ts"
import { Watched } from "./support/wait.ts"

describe("Inbox, heavy tasks", () => {
  it.scoped("run four at a time; what comes behind the fifth waits with it", () =>
    Effect.gen(function* () {
      const { begun, gate, task } = yield* bench
      const watched = new Watched()
      const inbox = new Inbox({ fork: Effect.runFork, changed: () => watched.changed(), broken }, 1024)
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
      const inbox = new Inbox({ fork: Effect.runFork, changed: () => watched.changed(), broken }, 1024)
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
      const inbox = new Inbox({ fork: Effect.runFork, changed: () => undefined, broken }, 1024)
      for (let index = 1; index <= 6; index++) inbox.push(task(`light ${index}`, false))
      inbox.push(task("heavy", true))
      yield* take(inbox)
      expect(begun.length).toBe(7)
      yield* inbox.discard
    })
  )
})

describe("Inbox, exclusive tasks", () => {
  it.effect("wait for everything in flight, and everything behind them waits for them", () =>
    Effect.gen(function* () {
      const { begun, byNow, done, end, gate, inbox, inFiber } = stage()
      byNow("a", { lane: "a" })
      byNow("b", { lane: "b" }, true)
      inFiber("alone", { lane: "c", exclusive: true })
      byNow("d", { lane: "d" })
      done("a")
      expect(begun).toEqual(["a", "b"])
      done("b", gate("rest of b"))
      expect(begun).toEqual(["a", "b"])
      yield* end("rest of b")
      expect(begun).toEqual(["a", "b", "alone"])
      yield* end("alone")
      expect(begun).toEqual(["a", "b", "alone", "d"])
      done("d")
      expect(inbox.isIdle).toBe(true)
    })
  )

  it.effect("without a fiber are alone too", () =>
    Effect.sync(() => {
      const { begun, byNow, done } = stage()
      byNow("alone", { exclusive: true })
      byNow("b", { lane: "b" })
      expect(begun).toEqual(["alone"])
      done("alone")
      expect(begun).toEqual(["alone", "b"])
    })
  )
})

describe("Inbox, its bounds", () => {
  it.effect("at most 32 are taken, whether they run, wait in a lane or have no fiber", () =>
    Effect.gen(function* () {
      const { begun, byNow, done, end, inbox, inFiber } = stage()
      inFiber("holds the lane")
      for (let index = 1; index <= 10; index++) inFiber(`waits ${index}`)
      for (let index = 1; index <= 30; index++) byNow(`now ${index}`, { lane: `lane ${index}` })
      const taken = Array.from({ length: 21 }, (_, index) => `now ${index + 1}`)
      expect(begun).toEqual(["holds the lane", ...taken])
      done("now 21")
      expect(begun).toEqual(["holds the lane", ...taken, "now 22"])
      yield* end("holds the lane")
      expect(begun).toEqual(["holds the lane", ...taken, "now 22", "waits 1", "now 23"])
      yield* inbox.discard
    })
  )

  it.effect(
    "discard interrupts what runs and forgets what waits, in lanes too; then it is idle, and nothing starts",
    () =>
      Effect.gen(function* () {
        const { begun, byNow, done, ended, gate, inbox, inFiber } = stage()
        inFiber("a1", { lane: "a" })
        inFiber("a2", { lane: "a", isHeavy: true })
        byNow("b1", { lane: "b" })
        inFiber("b2", { lane: "b" })
        done("b1", gate("rest of b1"))
        for (let index = 1; index <= 40; index++) inFiber(`c${index}`, { lane: "c" })
        expect(begun).toEqual(["a1", "b1", "c1"])
        yield* inbox.discard
        expect(ended.toSorted()).toEqual(["a1, interrupted", "c1, interrupted", "rest of b1, interrupted"])
        expect(inbox.isIdle).toBe(true)
        inFiber("late", { lane: "late" })
        expect(begun).toEqual(["a1", "b1", "c1"])
      })
  )

  it.effect("discard cannot take back what has no fiber: it is idle once that is done, without a rest", () =>
    Effect.gen(function* () {
      const { begun, byNow, done, forked, gate, inbox, inFiber } = stage()
      byNow("a")
      inFiber("b")
      yield* inbox.discard
      expect(inbox.isIdle).toBe(false)
      done("a", gate("rest"))
      expect([begun, forked(), inbox.isIdle]).toEqual([["a"], 0, true])
    })
  )
})

describe("Inbox, the text of tasks", () => {
  it.scoped("makes it full, that of tasks that run included; at half of it there is room again", () =>
    Effect.gen(function* () {
      const { gate, task } = yield* bench
      const watched = new Watched()
      const inbox = new Inbox({ fork: Effect.runFork, changed: () => watched.changed(), broken }, 1000)
      const push = (size: number) => inbox.push({ ...task(`${size}`, false), size })
      push(600)
      push(399)
      yield* take(inbox)
      expect([inbox.isFull, inbox.hasRoom]).toEqual([false, false])
      push(1)
      expect([inbox.isFull, inbox.hasRoom]).toEqual([true, false])
      yield* take(inbox)
      expect([inbox.isFull, inbox.isIdle]).toEqual([true, false])
      yield* gate.open
      yield* watched.until(() => inbox.isIdle, "they are done")
      expect([inbox.isFull, inbox.hasRoom]).toEqual([false, true])
      for (const size of [500, 499]) push(size)
      expect(inbox.hasRoom).toBe(false)
      inbox.close()
      expect(inbox.hasRoom).toBe(true)
    })
  )
})
