import { describe, expect, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import * as Deadlines from "../src/internal/Deadlines.ts"

const LIMIT = Duration.seconds(1)

const setup = Effect.gen(function* () {
  const deadlines = yield* Deadlines.make(LIMIT)
  const expired: Array<string> = []
  return { expired, begin: (name: string) => deadlines.call(() => void expired.push(name)) }
})

describe("Deadlines", () => {
  it.scoped("expire at the limit, not before, in the order in which they began", () =>
    Effect.gen(function* () {
      const { begin, expired } = yield* setup
      begin("a")
      begin("b")
      yield* TestClock.adjust("400 millis")
      begin("c")
      yield* TestClock.adjust("599 millis")
      expect(expired).toEqual([])
      yield* TestClock.adjust("1 millis")
      expect(expired).toEqual(["a", "b"])
      yield* TestClock.adjust("399 millis")
      expect(expired).toEqual(["a", "b"])
      yield* TestClock.adjust("1 millis")
      expect(expired).toEqual(["a", "b", "c"])
      yield* TestClock.adjust("1 hour")
      expect(expired).toEqual(["a", "b", "c"])
    })
  )

  it.scoped("do not expire when they were ended before; those behind them do, at their own time", () =>
    Effect.gen(function* () {
      const { begin, expired } = yield* setup
      const endA = begin("a")
      const endB = begin("b")
      yield* TestClock.adjust("500 millis")
      const endC = begin("c")
      begin("d")
      endA()
      endC()
      yield* TestClock.adjust("499 millis")
      endB()
      yield* TestClock.adjust("500 millis")
      expect(expired).toEqual([])
      yield* TestClock.adjust("1 millis")
      expect(expired).toEqual(["d"])
    })
  )

  it.scoped("begin anew after all were ended, or have expired", () =>
    Effect.gen(function* () {
      const { begin, expired } = yield* setup
      begin("a")()
      yield* TestClock.adjust("10 seconds")
      const endB = begin("b")
      yield* TestClock.adjust("1 seconds")
      expect(expired).toEqual(["b"])
      // It is over: to end it is nothing.
      endB()
      yield* TestClock.adjust("10 seconds")
      begin("c")
      yield* TestClock.adjust("999 millis")
      expect(expired).toEqual(["b"])
      yield* TestClock.adjust("1 millis")
      expect(expired).toEqual(["b", "c"])
    })
  )

  it.scoped("may begin and end others while they expire", () =>
    Effect.gen(function* () {
      const deadlines = yield* Deadlines.make(LIMIT)
      const expired: Array<string> = []
      const ends: Array<() => void> = []
      deadlines.call(() => {
        expired.push("a")
        for (const end of ends) end()
        deadlines.call(() => void expired.push("after a"))
      })
      ends.push(deadlines.call(() => void expired.push("b")))
      yield* TestClock.adjust("1 seconds")
      expect(expired).toEqual(["a"])
      yield* TestClock.adjust("1 seconds")
      expect(expired).toEqual(["a", "after a"])
    })
  )

  it.scoped("expire in order however many they are", () =>
    Effect.gen(function* () {
      const { begin, expired } = yield* setup
      const names = Array.from({ length: 10_000 }, (_, index) => `${index}`)
      const ends = names.map(begin)
      for (const [index, end] of ends.entries()) if (index % 3 === 0) end()
      yield* TestClock.adjust(LIMIT)
      yield* Effect.repeat(Effect.yieldNow(), { until: () => expired.length >= 6666 })
      expect(expired).toEqual(names.filter((_, index) => index % 3 !== 0))
    })
  )

  it.scoped("are the others whichever of them end, in whatever order, and more than once", () =>
    Effect.gen(function* () {
      const { begin, expired } = yield* setup
      const orders: ReadonlyArray<ReadonlyArray<number>> = [
        [0, 0, 1, 2, 3],
        [3, 3, 2, 1, 0],
        [1, 1, 2, 2, 0, 1],
        [0, 3, 0, 3, 1],
        [2, 0, 2, 3, 2],
        []
      ]
      for (const order of orders) {
        expired.length = 0
        const ends = [0, 1, 2, 3].map((index) => begin(`${index}`))
        for (const index of order) ends[index]?.()
        const later = begin("later")
        // Those that have ended are of no list any more.
        for (const index of order) ends[index]?.()
        yield* TestClock.adjust("999 millis")
        expect([order, expired]).toEqual([order, []])
        yield* TestClock.adjust("1 millis")
        const left = ["0", "1", "2", "3"].filter((name) => !order.includes(Number(name)))
        expect([order, expired]).toEqual([order, [...left, "later"]])
        // What has expired has ended: nothing that begins later is lost with it.
        const after = begin("after")
        for (const end of [...ends, later]) end()
        yield* TestClock.adjust(LIMIT)
        expect([order, expired]).toEqual([order, [...left, "later", "after"]])
        after()
      }
    })
  )

  it.scoped("expire whatever the end of another one throws", () =>
    Effect.gen(function* () {
      const deadlines = yield* Deadlines.make(LIMIT)
      const expired: Array<string> = []
      deadlines.call(() => {
        throw new Error("a fault of its own")
      })
      deadlines.call(() => void expired.push("b"))
      yield* TestClock.adjust(LIMIT)
      expect(expired).toEqual(["b"])
    })
  )

  it.effect("are forgotten when the scope closes", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const { begin, expired } = yield* Scope.extend(setup, scope)
      begin("a")
      yield* TestClock.adjust("999 millis")
      yield* Scope.close(scope, Exit.void)
      begin("b")
      yield* TestClock.adjust("1 hour")
      expect(expired).toEqual([])
    })
  )
})
