/** Reads of streams that newcomers share, over a history in the test's hands. */
import { describe, expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as Scope from "effect/Scope"
import * as Broker from "../src/Broker.ts"
import type * as History from "../src/History.ts"
import { Entry } from "../src/Hub/Entry.ts"
import * as Reads from "../src/Hub/Reads.ts"
import { unbounded } from "./support/entry.ts"

type Answer = Exit.Exit<History.Page, Broker.BrokerError>

const RETENTION: History.Retention = { size: 100, ttl: Duration.minutes(5), metaTtl: Duration.hours(1) }

const LOST = new Broker.BrokerError({ reason: "NotLive", channel: "x", message: "lost" })

const page = (offset: number): Answer => Exit.succeed({ epoch: "e", offset, publications: [] })

const since = (offset: number): History.Range => ({
  since: { epoch: "e", offset },
  limit: 10,
  maxBytes: 1000,
  whole: true
})

// Every fiber that can go on does so, several times over.
const settle = Effect.repeatN(Effect.yieldNow(), 20)

/** A read that was asked for, and is answered by the test. */
interface Asked {
  readonly channel: string
  readonly since: number | undefined
  readonly answer: (result: Answer) => Effect.Effect<void>
  isInterrupted: boolean
}

/** Somebody who waits for a read, and what they were told. */
interface Newcomer {
  readonly told: Array<Answer>
  readonly leave: () => void
}

const setup = Effect.gen(function* () {
  const asked: Array<Asked> = []
  const released: Array<Entry> = []
  const reads = yield* Reads.make(
    {
      history: ({ channel }, range) =>
        Effect.suspend(() => {
          const answer = Deferred.unsafeMake<History.Page, Broker.BrokerError>(FiberId.none)
          const one: Asked = {
            channel,
            since: range.since?.offset,
            answer: (result) => Effect.zipRight(Deferred.done(answer, result), settle),
            isInterrupted: false
          }
          asked.push(one)
          return Effect.onInterrupt(Deferred.await(answer), () => Effect.sync(() => (one.isInterrupted = true)))
        })
    },
    (entry) => void released.push(entry)
  )
  const kept = (channel: string): Broker.Kept => ({ channel, retention: RETENTION })
  const ask = (of: Entry, range: History.Range): Newcomer => {
    const told: Array<Answer> = []
    return { told, leave: reads.unsafeShared(of, kept(of.channel), range, (answer) => void told.push(answer)) }
  }
  const askAlone = (channel: string, range: History.Range): Newcomer => {
    const told: Array<Answer> = []
    return { told, leave: reads.unsafeOne(kept(channel), range, (answer) => void told.push(answer)) }
  }
  const entry = (channel: string) => new Entry(channel, RETENTION, { publications: 100, bytes: 10_000 }, unbounded())
  return { asked, ask, askAlone, entry, released }
})

describe("Reads.unsafeShared", () => {
  it.scoped("newcomers that have seen the same make one read, and all get its page; then it is released", () =>
    Effect.gen(function* () {
      const { ask, asked, entry, released } = yield* setup
      const x = entry("x")
      const newcomers = Array.from({ length: 1000 }, () => ask(x, since(3)))
      yield* settle
      expect(asked.map(({ since }) => since)).toEqual([3])
      // What it reads is only a part of the past while the entry remembers what comes.
      expect([x.isUnused, released]).toEqual([false, []])
      yield* asked[0]!.answer(page(7))
      expect(newcomers.map(({ told }) => told)).toEqual(newcomers.map(() => [page(7)]))
      expect([x.isUnused, released]).toEqual([true, [x]])
      // It is over for all of them: to leave is nothing.
      for (const { leave } of newcomers) leave()
      expect([x.isUnused, released]).toEqual([true, [x]])
    })
  )

  it.scoped("one that comes when the read is over makes another one", () =>
    Effect.gen(function* () {
      const { ask, asked, entry, released } = yield* setup
      const x = entry("x")
      for (const offset of [7, 8]) {
        const { told } = ask(x, since(3))
        yield* settle
        yield* asked.at(-1)!.answer(page(offset))
        expect(told).toEqual([page(offset)])
      }
      expect([asked.length, x.isUnused, released]).toEqual([2, true, [x, x]])
    })
  )

  it.scoped("other positions, and other channels, are read on their own", () =>
    Effect.gen(function* () {
      const { ask, asked, entry } = yield* setup
      const [x, y] = [entry("x"), entry("y")]
      const newcomers = [
        ask(x, since(3)),
        ask(x, since(4)),
        ask(y, since(3)),
        ask(x, { ...since(3), since: { epoch: "another", offset: 3 } }),
        ask(x, { ...since(3), maxBytes: 999 }),
        ask(x, since(4))
      ]
      yield* settle
      expect(asked.map(({ channel, since }) => `${channel} ${since}`)).toEqual(["x 3", "x 4", "y 3", "x 3", "x 3"])
      for (const [index, one] of asked.entries()) yield* one.answer(page(index))
      expect(newcomers.map(({ told }) => told)).toEqual([0, 1, 2, 3, 4, 1].map((offset) => [page(offset)]))
      expect([x.isUnused, y.isUnused]).toEqual([true, true])
    })
  )

  it.scoped("the end of one read leaves another of the same entry to be shared", () =>
    Effect.gen(function* () {
      const { ask, asked, entry } = yield* setup
      const x = entry("x")
      const first = ask(x, since(3))
      const second = ask(x, since(4))
      yield* settle
      yield* asked[0]!.answer(page(7))
      const third = ask(x, since(4))
      yield* settle
      expect([asked.length, x.isUnused]).toEqual([2, false])
      yield* asked[1]!.answer(page(8))
      expect([first.told, second.told, third.told]).toEqual([[page(7)], [page(8)], [page(8)]])
      expect(x.isUnused).toBe(true)
    })
  )

  it.scoped("whoever goes does not hurt the others, the first neither, and is not told", () =>
    Effect.gen(function* () {
      const { ask, asked, entry } = yield* setup
      const x = entry("x")
      const [first, second, third] = [ask(x, since(3)), ask(x, since(3)), ask(x, since(3))]
      first.leave()
      yield* settle
      third.leave()
      third.leave()
      yield* settle
      expect(asked.map(({ isInterrupted }) => isInterrupted)).toEqual([false])
      // It is still the read that is shared.
      const fourth = ask(x, since(3))
      yield* settle
      expect(asked.length).toBe(1)
      yield* asked[0]!.answer(page(7))
      expect([first.told, second.told, third.told, fourth.told]).toEqual([[], [page(7)], [], [page(7)]])
      expect(x.isUnused).toBe(true)
    })
  )

  it.scoped("where all have gone the read ends, is released once, and the next one reads again", () =>
    Effect.gen(function* () {
      const { ask, asked, entry, released } = yield* setup
      const x = entry("x")
      for (const { leave } of [ask(x, since(3)), ask(x, since(3))]) {
        yield* settle
        leave()
      }
      yield* settle
      expect(asked.map(({ isInterrupted }) => isInterrupted)).toEqual([true])
      expect([x.isUnused, released]).toEqual([true, [x]])
      const { told } = ask(x, since(3))
      yield* settle
      yield* asked[1]!.answer(page(7))
      expect([told, x.isUnused, released]).toEqual([[page(7)], true, [x, x]])
    })
  )

  it.scoped("one that fails, fails all who wait; the next one reads again", () =>
    Effect.gen(function* () {
      const { ask, asked, entry, released } = yield* setup
      const x = entry("x")
      const newcomers = Array.from({ length: 10 }, () => ask(x, since(3)))
      yield* settle
      yield* asked[0]!.answer(Exit.fail(LOST))
      expect(newcomers.map(({ told }) => told)).toEqual(newcomers.map(() => [Exit.fail(LOST)]))
      expect([x.isUnused, released]).toEqual([true, [x]])
      const { told } = ask(x, since(3))
      yield* settle
      yield* asked[1]!.answer(page(7))
      expect(told).toEqual([page(7)])
    })
  )

  it.scoped("one that began before the channel began anew is not shared any more", () =>
    Effect.gen(function* () {
      const { ask, asked, entry } = yield* setup
      const x = entry("x")
      const before = ask(x, since(3))
      yield* settle
      x.breakOff(undefined)
      const after = ask(x, since(3))
      yield* settle
      expect(asked.length).toBe(2)
      yield* asked[1]!.answer(page(8))
      yield* asked[0]!.answer(page(7))
      expect([before.told, after.told, x.isUnused]).toEqual([[page(7)], [page(8)], true])
    })
  )

  it.scoped("one that began before the past was removed is not shared any more", () =>
    Effect.gen(function* () {
      const { ask, asked, entry } = yield* setup
      const x = entry("x")
      const before = ask(x, since(3))
      yield* settle
      x.removePast()
      const after = ask(x, since(3))
      yield* settle
      expect(asked.length).toBe(2)
      yield* asked[0]!.answer(page(7))
      yield* asked[1]!.answer(page(8))
      expect([before.told, after.told, x.isUnused]).toEqual([[page(7)], [page(8)], true])
    })
  )

  it.scoped("the late end of one that began before does not part those who share one that began after", () =>
    Effect.gen(function* () {
      const { ask, asked, entry } = yield* setup
      const x = entry("x")
      ask(x, since(3))
      yield* settle
      x.breakOff(undefined)
      ask(x, since(3))
      yield* settle
      yield* asked[1]!.answer(page(8))
      const second = ask(x, since(3))
      yield* settle
      yield* asked[0]!.answer(page(7))
      const third = ask(x, since(3))
      yield* settle
      expect(asked.length).toBe(3)
      yield* asked[2]!.answer(page(9))
      expect([second.told, third.told, x.isUnused]).toEqual([[page(9)], [page(9)], true])
    })
  )

  it.effect("those under way are interrupted when the scope closes, and whoever waits is told", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const { ask, asked, entry } = yield* Scope.extend(setup, scope)
      const x = entry("x")
      const { told } = ask(x, since(3))
      yield* settle
      yield* Scope.close(scope, Exit.void)
      expect(asked.map(({ isInterrupted }) => isInterrupted)).toEqual([true])
      expect([told.map(Exit.isInterrupted), x.isUnused]).toEqual([[true], true])
    })
  )
})

describe("Reads", () => {
  it.scoped("are eight at a time, shared ones and others, in the order asked", () =>
    Effect.gen(function* () {
      const { ask, askAlone, asked, entry } = yield* setup
      const x = entry("x")
      const shared = [0, 1, 2, 3, 4].map((offset) => ask(x, since(offset)))
      const own = [10, 11, 12, 13, 14, 15, 16].map((offset) => askAlone("y", since(offset)))
      const offsets = () => asked.map(({ since }) => since)
      yield* settle
      expect(offsets()).toEqual([0, 1, 2, 3, 4, 10, 11, 12])
      yield* asked[0]!.answer(Exit.fail(LOST))
      expect(offsets().slice(8)).toEqual([13])
      // One that is given up makes room; one that has not begun does not begin.
      own[4]!.leave()
      own[0]!.leave()
      yield* settle
      expect(offsets().slice(8)).toEqual([13, 15])
      expect(asked[5]?.isInterrupted).toBe(true)
      yield* asked[1]!.answer(page(1))
      expect(offsets().slice(8)).toEqual([13, 15, 16])
      for (const one of asked) yield* one.answer(page(1))
      expect(shared.map(({ told }) => told.length)).toEqual([1, 1, 1, 1, 1])
      expect(own.map(({ told }) => told.length)).toEqual([0, 1, 1, 1, 0, 1, 1])
      expect(x.isUnused).toBe(true)
    })
  )

  it.scoped("that are answered at once are told once each, and no place is lost", () =>
    Effect.gen(function* () {
      const released: Array<Entry> = []
      const reads = yield* Reads.make({ history: () => page(7) }, (entry) => void released.push(entry))
      const x = new Entry("x", RETENTION, { publications: 100, bytes: 10_000 }, unbounded())
      const told: Array<Answer> = []
      for (let index = 0; index < 100; index++) {
        reads.unsafeShared(x, { channel: "x", retention: RETENTION }, since(3), (answer) => void told.push(answer))
        yield* settle
      }
      expect([told.length, released.length, x.isUnused]).toEqual([100, 100, true])
    })
  )
})
