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

/** Tasks that are begun, passed on and ended by the test. */
const stage = () => {
  const begun: Array<string> = []
  const ended: Array<string> = []
  let forked = 0
  const defects: Array<unknown> = []
  const dones = new Map<string, (rest?: Effect.Effect<void>) => void>()
  const gates = new Map<string, (effect: Effect.Effect<void>) => void>()
  const watched = new Watched()
  const inbox = new Inbox({
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
  })
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
        now: (passOn, done) => {
          begun.push(name)
          dones.set(name, done)
          if (passesOn) passOn()
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

const PIPELINED = { isPipelined: true }

describe("Inbox, lanes", () => {
  it.effect("a task that passes its turn on lets the next one start before it is done, in order", () =>
    Effect.gen(function* () {
      const { begun, byNow, done, end, inbox, inFiber } = stage()
      inFiber("first")
      byNow("a", {}, true)
      byNow("b", PIPELINED, true)
      byNow("c", PIPELINED)
      byNow("d", PIPELINED)
      expect(begun).toEqual(["first"])
      yield* end("first")
      // The turn is with "c", which keeps it.
      expect(begun).toEqual(["first", "a", "b", "c"])
      done("c")
      expect(begun).toEqual(["first", "a", "b", "c", "d"])
      expect(inbox.isIdle).toBe(false)
      yield* inbox.discard
    })
  )

  it.effect("the end of a task that has passed its turn on is not another turn, nor is passing it on twice", () =>
    Effect.gen(function* () {
      const { begun, byNow, done, inbox, push } = stage()
      push({
        now: (passOn, done) => {
          begun.push("twice")
          // Whoever comes next has the turn.
          byNow("a", PIPELINED, true)
          byNow("b", PIPELINED)
          byNow("c", PIPELINED)
          passOn()
          passOn()
          done()
          return true
        }
      })
      expect(begun).toEqual(["twice", "a", "b"])
      done("a")
      expect(begun).toEqual(["twice", "a", "b"])
      done("b")
      expect(begun).toEqual(["twice", "a", "b", "c"])
      done("c")
      expect(inbox.isIdle).toBe(true)
      yield* inbox.discard
    })
  )

  it.effect(
    "what needs a fiber, the rest of one too, waits for those before it, and is not passed by those behind it",
    () =>
      Effect.gen(function* () {
        const { begun, byNow, done, end, ended, gate, inbox, inFiber } = stage()
        byNow("a", {}, true)
        byNow("b", PIPELINED, true)
        inFiber("c", PIPELINED)
        byNow("d", PIPELINED, true)
        done("b", gate("rest of b"))
        expect(begun).toEqual(["a", "b"])
        done("a")
        expect(begun).toEqual(["a", "b"])
        yield* end("rest of b")
        expect(begun).toEqual(["a", "b", "c"])
        yield* end("c")
        expect([begun, ended]).toEqual([
          ["a", "b", "c", "d"],
          ["rest of b", "c"]
        ])
        done("d")
        expect(inbox.isIdle).toBe(true)
      })
  )

  it.effect("a task that does not pass its turn on holds up its lane, and no other", () =>
    Effect.gen(function* () {
      const { begun, byNow, done, inbox, inFiber } = stage()
      byNow("a1", { lane: "a" })
      inFiber("a2", { lane: "a" })
      inFiber("b1", { lane: "b" })
      byNow("b2", { lane: "b" })
      expect(begun).toEqual(["a1", "b1"])
      done("a1")
      expect(begun).toEqual(["a1", "b1", "a2"])
      yield* inbox.discard
    })
  )

  it.effect("a lane whose turn was passed on with nobody behind is free for one that is pipelined", () =>
    Effect.gen(function* () {
      const { begun, byNow, inbox } = stage()
      byNow("a", {}, true)
      byNow("b", PIPELINED)
      byNow("c", PIPELINED)
      expect(begun).toEqual(["a", "b"])
      yield* inbox.discard
    })
  )

  it.effect("one that is not pipelined waits until all before it are done, and those behind it with it", () =>
    Effect.gen(function* () {
      const { begun, byNow, done, end, gate, inbox, inFiber } = stage()
      byNow("a", {}, true)
      byNow("b", PIPELINED, true)
      inFiber("c")
      byNow("d", PIPELINED, true)
      done("b")
      expect(begun).toEqual(["a", "b"])
      done("a", gate("rest of a"))
      expect(begun).toEqual(["a", "b"])
      yield* end("rest of a")
      expect(begun).toEqual(["a", "b", "c"])
      yield* end("c")
      expect(begun).toEqual(["a", "b", "c", "d"])
      done("d")
      expect(inbox.isIdle).toBe(true)
    })
  )

  it.effect("one that comes when all before it are done starts, pipelined or not", () =>
    Effect.gen(function* () {
      const { begun, byNow, done, inbox } = stage()
      for (const [name, task] of [
        ["a", {}],
        ["b", PIPELINED],
        ["c", {}]
      ] as const) {
        byNow(name, task)
        done(name)
      }
      expect([begun, inbox.isIdle]).toEqual([["a", "b", "c"], true])
      yield* inbox.discard
    })
  )
})

describe("Inbox, tasks without a fiber", () => {
  it.effect("need none, and count until they are done", () =>
    Effect.sync(() => {
      const { begun, byNow, done, forked, inbox } = stage()
      byNow("a")
      byNow("b", { lane: "another" })
      expect([begun, forked(), inbox.isIdle]).toEqual([["a", "b"], 0, false])
      done("b")
      expect(inbox.isIdle).toBe(false)
      done("a")
      expect([forked(), inbox.isIdle]).toEqual([0, true])
    })
  )

  it.effect("that leave a rest are done once it has run, in a fiber", () =>
    Effect.gen(function* () {
      const { begun, byNow, done, end, ended, forked, gate, inbox, inFiber } = stage()
      byNow("a")
      inFiber("b")
      done("a", gate("rest"))
      expect([begun, forked(), inbox.isIdle]).toEqual([["a"], 1, false])
      yield* end("rest")
      expect([begun, ended, forked(), inbox.isIdle]).toEqual([["a", "b"], ["rest"], 2, false])
      yield* end("b")
      expect(inbox.isIdle).toBe(true)
    })
  )

  it.effect("run in a fiber where they cannot be done at once, and count once", () =>
    Effect.gen(function* () {
      const { begun, end, forked, inbox, inFiber } = stage()
      let asked = 0
      const now = (): boolean => {
        asked++
        return false
      }
      inFiber("a", { now })
      inFiber("b", { now })
      expect([begun, asked, forked()]).toEqual([["a"], 1, 1])
      yield* end("a")
      yield* end("b")
      expect([begun, asked, forked(), inbox.isIdle]).toEqual([["a", "b"], 2, 2, true])
    })
  )

  it.effect("that throw are done, and whose inbox it is hears of it; that they are done counts once", () =>
    Effect.sync(() => {
      const { begun, byNow, done, inbox, push, defects } = stage()
      const bug = new Error("a fault of its own")
      push({
        now: () => {
          throw bug
        }
      })
      byNow("b")
      expect([defects, begun, inbox.isIdle]).toEqual([[bug], ["b"], false])
      done("b")
      done("b")
      expect(inbox.isIdle).toBe(true)
      byNow("c")
      expect(inbox.isIdle).toBe(false)
    })
  )

  it.effect("are all done, in order, however many of them are done in one step", () =>
    Effect.sync(() => {
      const { begun, byNow, done, inbox, push } = stage()
      byNow("first", { exclusive: true })
      const names = Array.from({ length: 20_000 }, (_, index) => `${index}`)
      for (const name of names) {
        push({
          lane: `lane ${Number(name) % 3}`,
          now: (_, done) => {
            begun.push(name)
            done()
            return true
          }
        })
      }
      done("first")
      for (const lane of [0, 1, 2]) {
        const isOfLane = (name: string): boolean => Number(name) % 3 === lane
        expect(begun.slice(1).filter(isOfLane)).toEqual(names.filter(isOfLane))
      }
      expect(inbox.isIdle).toBe(true)
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
