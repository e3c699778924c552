import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { stage } from "./support/inbox.ts"

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
        now: (turn) => {
          begun.push("twice")
          // Whoever comes next has the turn.
          byNow("a", PIPELINED, true)
          byNow("b", PIPELINED)
          byNow("c", PIPELINED)
          turn.passOn()
          turn.passOn()
          turn.done()
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
          now: (turn) => {
            begun.push(name)
            turn.done()
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
