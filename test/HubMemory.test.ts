/** The hub over a broker in the test's hands: what it remembers for newcomers, and what a removal does about it. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import { Member, publish, range, since, start, Stub } from "./support/hub.ts"

/** A channel with five publications and somebody in it, and how many reads newcomers have made since. */
const inUse = Effect.gen(function* () {
  const stub = new Stub()
  const running = yield* start(stub)
  publish(stub, 5)
  const member = new Member()
  yield* member.join(running)
  const before = stub.reads
  const comes = (offset: number) =>
    Effect.map(new Member().join(running, since(offset)), ({ isRecovered, publications }) =>
      isRecovered ? publications.map(({ data }) => data) : undefined
    )
  return { stub, running, member, comes, reads: () => stub.reads - before }
})

describe("Hub, newcomers who come one after the other", () => {
  it.scoped("share what one of them has read, with what was published since, for a second on the clock", () =>
    Effect.gen(function* () {
      const { comes, member, reads, stub } = yield* inUse
      expect([yield* comes(2), reads()]).toEqual([range(3, 5), 1])
      stub.publish()
      yield* member.gets("e1:6")
      expect([yield* comes(2), yield* comes(4), yield* comes(6), reads()]).toEqual([range(3, 6), range(5, 6), [], 1])
      yield* TestClock.adjust("999 millis")
      expect([yield* comes(3), reads()]).toEqual([range(4, 6), 1])
      // It is a second after the read, not after whoever came last.
      yield* TestClock.adjust("1 millis")
      expect([yield* comes(3), reads()]).toEqual([range(4, 6), 2])
      yield* TestClock.adjust("999 millis")
      expect([yield* comes(3), reads()]).toEqual([range(4, 6), 2])
      yield* TestClock.adjust("1 millis")
      expect([yield* comes(3), reads()]).toEqual([range(4, 6), 3])
    })
  )

  it.scoped("one that has seen less reads for itself, and those who come then share that for a second", () =>
    Effect.gen(function* () {
      const { comes, reads } = yield* inUse
      yield* comes(4)
      yield* TestClock.adjust("500 millis")
      expect([yield* comes(1), reads()]).toEqual([range(2, 5), 2])
      // The end of the first one's second is not that of the second one's.
      yield* TestClock.adjust("500 millis")
      expect([yield* comes(1), yield* comes(4), reads()]).toEqual([range(2, 5), range(5, 5), 2])
      yield* TestClock.adjust("500 millis")
      expect([yield* comes(4), reads()]).toEqual([range(5, 5), 3])
    })
  )

  it.scoped("the first two of a channel make one read", () =>
    Effect.gen(function* () {
      const stub = new Stub()
      const running = yield* start(stub)
      publish(stub, 5)
      for (const offset of [2, 3]) {
        expect(yield* new Member().join(running, since(offset))).toMatchObject({ isRecovered: true })
        expect(stub.reads).toBe(1)
      }
    })
  )

  it.scoped("what was read for one who then had to wait for this instance is not remembered: it may be old", () =>
    Effect.gen(function* () {
      const { comes, member, reads, stub } = yield* inUse
      stub.publish(true)
      // It is on its way, and comes once the newcomer has read that it is there.
      expect(yield* comes(6)).toEqual([])
      yield* member.gets("e1:6")
      const before = reads()
      expect([yield* comes(6), reads() - before]).toEqual([[], 1])
      expect([yield* comes(6), reads() - before]).toEqual([[], 1])
    })
  )

  it.scoped("what was read before the link was lost, and is joined with after that, is not remembered", () =>
    Effect.gen(function* () {
      const { comes, reads, running, stub } = yield* inUse
      const joined = yield* running.hub.prepare("x", since(2)).pipe(
        Effect.tap(stub.sink?.resync ?? Effect.void),
        Effect.map((prepared) => prepared.join(new Member())),
        Effect.scoped
      )
      expect([joined.isRecovered, reads()]).toEqual([true, 1])
      expect([yield* comes(2), reads()]).toEqual([range(3, 5), 2])
    })
  )

  it.scoped("what was not recovered is not remembered", () =>
    Effect.gen(function* () {
      const { comes, reads, running, stub } = yield* inUse
      stub.kept = []
      expect([yield* comes(2), yield* comes(2), reads()]).toEqual([undefined, undefined, 2])
      expect((yield* new Member().join(running, since(2, "other"))).isRecovered).toBe(false)
      expect([yield* comes(5), reads()]).toEqual([[], 4])
    })
  )

  it.scoped("a channel whose last subscription has left remembers nothing", () =>
    Effect.gen(function* () {
      const { comes, running, stub } = yield* inUse
      const member = new Member()
      yield* member.join(running, since(2), "y")
      const before = stub.reads
      yield* new Member().join(running, since(2), "x")
      running.hub.leave("y", member)
      expect(Array.from(running.hub.channels(), ([channel]) => channel)).toEqual(["x"])
      yield* new Member().join(running, since(2), "y")
      expect(stub.reads - before).toBe(2)
      // The other channel is not touched by it.
      expect([yield* comes(2), stub.reads - before]).toEqual([range(3, 5), 2])
    })
  )

  it.scoped("a link that has come back: what is remembered is from before", () =>
    Effect.gen(function* () {
      const { comes, reads, stub } = yield* inUse
      yield* comes(2)
      yield* stub.sink?.resync ?? Effect.void
      expect([yield* comes(2), reads()]).toEqual([range(3, 5), 2])
    })
  )
})

describe("Hub.forget", () => {
  it.scoped("whoever comes then reads, and recovers nothing of what was removed; other channels go on", () =>
    Effect.gen(function* () {
      const { comes, member, reads, running, stub } = yield* inUse
      yield* comes(2)
      running.hub.forget("y")
      expect([yield* comes(2), reads()]).toEqual([range(3, 5), 1])
      stub.kept = []
      running.hub.forget("x")
      expect([yield* comes(2), reads()]).toEqual([undefined, 2])
      // Who is there loses nothing, and what comes then is remembered again.
      stub.publish()
      yield* member.gets("e1:6")
      expect([yield* comes(5), yield* comes(5), yield* comes(2), reads()]).toEqual([
        range(6, 6),
        range(6, 6),
        undefined,
        4
      ])
    })
  )

  it.scoped("what was read before is recovered neither by who has read it, nor by who comes then", () =>
    Effect.gen(function* () {
      const { comes, reads, running, stub } = yield* inUse
      // Somebody has read it, and joins a moment later.
      const joined = yield* running.hub.prepare("x", since(2)).pipe(
        Effect.map((prepared) => {
          stub.kept = []
          running.hub.forget("x")
          return prepared.join(new Member())
        }),
        Effect.scoped
      )
      expect(joined).toMatchObject({ isRecovered: false, publications: [] })
      expect([yield* comes(2), reads()]).toEqual([undefined, 2])
    })
  )

  it.scoped("what was heard before and is delivered after it is not remembered, whoever joins in between", () =>
    Effect.gen(function* () {
      const { comes, member, reads, running, stub } = yield* inUse
      // In the hub's inbox: the fan-out is due at the end of this turn of the event loop.
      stub.publish()
      stub.kept = []
      running.hub.forget("x")
      expect([yield* comes(5), member.log]).toEqual([[], []])
      yield* member.gets("e1:6")
      expect([yield* comes(5), reads()]).toEqual([undefined, 2])
    })
  )

  it.scoped("what was read before, and heard but not delivered, is remembered by nobody who joins after it", () =>
    Effect.gen(function* () {
      const { comes, member, reads, running, stub } = yield* inUse
      const joined = yield* running.hub.prepare("x", since(5)).pipe(
        Effect.map((prepared) => {
          stub.publish()
          stub.kept = []
          running.hub.forget("x")
          return prepared.join(new Member())
        }),
        Effect.scoped
      )
      expect(joined).toMatchObject({ isRecovered: true, publications: [] })
      yield* member.gets("e1:6")
      expect([yield* comes(5), reads()]).toEqual([undefined, 2])
    })
  )

  it.scoped("what is remembered is not recovered by who was about to", () =>
    Effect.gen(function* () {
      const { comes, reads, running, stub } = yield* inUse
      yield* comes(2)
      const joined = yield* running.hub.prepare("x", since(2)).pipe(
        Effect.map((prepared) => {
          stub.kept = []
          running.hub.forget("x")
          return prepared.join(new Member())
        }),
        Effect.scoped
      )
      expect([joined.isRecovered, joined.publications, reads()]).toEqual([false, [], 1])
    })
  )

  it.scoped("a read that was under way is not shared by who comes then", () =>
    Effect.gen(function* () {
      const { comes, reads, running, stub } = yield* inUse
      const asked = yield* Effect.makeLatch(false)
      const answered = yield* Effect.makeLatch(false)
      stub.before = Effect.zipRight(asked.open, answered.await)
      const first = yield* Effect.fork(comes(2))
      yield* asked.await
      running.hub.forget("x")
      asked.unsafeClose()
      const second = yield* Effect.fork(comes(2))
      yield* asked.await
      yield* answered.open
      // The stub has removed nothing, so that what the second one reads is there.
      expect([yield* Fiber.join(first), yield* Fiber.join(second), reads()]).toEqual([undefined, range(3, 5), 2])
    })
  )
})
