import { describe, expect, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as FastCheck from "effect/FastCheck"
import * as Frame from "../src/Frame.ts"
import type * as History from "../src/History.ts"
import { Entry, type Memory, type Subscription, type Want } from "../src/Hub/Entry.ts"
import type { Insufficiency } from "../src/Metrics.ts"
import type { Publication } from "../src/protocol/Publication.ts"
import { unbounded } from "./support/entry.ts"

const retention = { size: 100, ttl: Duration.minutes(5), metaTtl: Duration.hours(1) }
const LIMIT = { publications: 10, bytes: 1000 }

const at = (offset: number, epoch = "e"): Publication => ({ data: String(offset), json: true, epoch, offset })

const range = (from: number, to: number): ReadonlyArray<Publication> =>
  Array.from({ length: Math.max(0, to - from + 1) }, (_, index) => at(from + index))

const page = (top: number, publications: ReadonlyArray<Publication> = [], epoch = "e"): History.Page => ({
  epoch,
  offset: top,
  publications
})

const since = (offset: number, epoch = "e"): Want => ({ since: { epoch, offset } })

/** An entry at an offset, with somebody who is about to join. */
const entryAt = (offset: number): Entry => {
  const entry = new Entry("x", retention, LIMIT, unbounded())
  entry.breakOff({ epoch: "e", offset })
  entry.expect()
  return entry
}

/** A subscription that keeps what it gets; with `room`, only so many publications. */
const subscription = (isPositioned = true, room = Infinity) => {
  const got: Array<string> = []
  const ended: Array<Insufficiency> = []
  const one: Subscription = {
    encoding: "plain",
    isPositioned,
    hearsAttendance: false,
    excludes: undefined,
    deliver: (frame) => {
      const texts = Array.from({ length: Frame.count(frame) }, (_, index) =>
        Frame.slice(frame, index, index + 1)
          .bytes.subarray(2)
          .toString()
      )
      const fit = texts.slice(0, room - got.length)
      got.push(...fit)
      return fit.length === texts.length
    },
    insufficient: (why) => ended.push(why)
  }
  return { one, got, ended }
}

const offsets = (publications: ReadonlyArray<Publication>): ReadonlyArray<number | undefined> =>
  publications.map(({ offset }) => offset)

describe("Entry.join", () => {
  it("without history: no position", () => {
    const entry = new Entry("x", undefined, LIMIT, unbounded())
    entry.expect()
    expect(entry.join(subscription().one, undefined, undefined)).toEqual({
      position: undefined,
      publications: [],
      isRecovered: false
    })
  })

  it("at the place of the others, whatever the stream's top is", () => {
    const joined = entryAt(5).join(subscription().one, undefined, undefined)
    expect(joined.position).toEqual({ epoch: "e", offset: 5 })
  })

  it("history reaches further than this instance: the replay ends where the others are", () => {
    const joined = entryAt(5).join(subscription().one, since(3), page(8, range(4, 8)))
    expect([offsets(joined.publications), joined.isRecovered, joined.position?.offset]).toEqual([[4, 5], true, 5])
  })

  it("this instance has got further than the history that was read: what was delivered meanwhile is added", () => {
    const entry = entryAt(5)
    entry.deliver(range(6, 8))
    const joined = entry.join(subscription().one, since(3), page(6, range(4, 6)))
    expect([offsets(joined.publications), joined.isRecovered]).toEqual([[4, 5, 6, 7, 8], true])
    const empty = entry.join(subscription().one, since(6), page(6))
    expect([offsets(empty.publications), empty.isRecovered]).toEqual([[7, 8], true])
  })

  it("nothing missed: recovered, with nothing", () => {
    expect(entryAt(5).join(subscription().one, since(5), page(5))).toMatchObject({
      publications: [],
      isRecovered: true
    })
  })

  it("not recovered: a hole, above the top, another epoch, more than the limit", () => {
    const cases: ReadonlyArray<readonly [Want, History.Page]> = [
      [since(3), page(5, [at(5)])],
      [since(3), page(5)],
      [since(6), page(5)],
      [since(3, "other"), page(5)],
      [since(3), page(5, [], "other")]
    ]
    for (const [want, read] of cases) {
      expect(entryAt(5).join(subscription().one, want, read)).toMatchObject({
        position: { epoch: "e", offset: 5 },
        publications: [],
        isRecovered: false
      })
    }
    const entry = entryAt(0)
    entry.deliver(range(1, 12))
    const long = entry.join(subscription().one, since(0), page(6, range(1, 6)))
    expect([long.publications, long.isRecovered]).toEqual([[], false])
  })

  it("what was delivered meanwhile is kept up to the limit of a replay, in number and in bytes", () => {
    const entry = entryAt(0)
    entry.deliver(range(1, 12))
    // The first two are gone: of history that ends before them there is no whole.
    expect(entry.join(subscription().one, since(0), page(1, range(1, 1))).isRecovered).toBe(false)
    expect(entry.join(subscription().one, since(2), page(2)).isRecovered).toBe(true)
    const large = entryAt(0)
    large.deliver([
      { ...at(1), data: "x".repeat(600) },
      { ...at(2), data: "x".repeat(600) }
    ])
    expect(large.join(subscription().one, since(0), page(0)).isRecovered).toBe(false)
    expect(large.join(subscription().one, since(1), page(1)).isRecovered).toBe(true)
  })

  it("what was delivered while nobody joined is not kept", () => {
    const entry = entryAt(0)
    entry.unexpect()
    entry.deliver(range(1, 3))
    entry.expect()
    expect(entry.join(subscription().one, since(0), page(0)).isRecovered).toBe(false)
    expect(entry.join(subscription().one, since(0), page(3, range(1, 3))).isRecovered).toBe(true)
  })

  it("last: the last so many up to where the others are, and none before a hole", () => {
    const entry = entryAt(5)
    entry.deliver(range(6, 7))
    const last = (count: number, read: History.Page) =>
      offsets(entry.join(subscription().one, { last: count }, read).publications)
    expect(last(3, page(6, range(4, 6)))).toEqual([5, 6, 7])
    // What this instance has not got to yet follows: together they are the last three.
    expect(last(3, page(9, range(7, 9)))).toEqual([7])
    expect(last(5, page(7, [at(3), at(4), at(6), at(7)]))).toEqual([6, 7])
    expect(last(5, page(3, range(1, 3)))).toEqual([6, 7])
    expect(last(2, page(5))).toEqual([6, 7])
    // What was delivered is not in the stream any more.
    expect(last(2, page(7))).toEqual([])
    expect(last(2, page(7, range(1, 7), "other"))).toEqual([])
  })
})

describe("Entry.isAbreast", () => {
  it("once the others have got as far as the newcomer was, in the same epoch", () => {
    const entry = entryAt(5)
    expect(entry.isAbreast(page(8), since(7))).toBe(false)
    let changes = 0
    const stop = entry.watch(() => changes++)
    entry.deliver(range(6, 7))
    expect([changes, entry.isAbreast(page(8), since(7))]).toEqual([1, true])
    stop()
    entry.deliver(range(8, 8))
    expect(changes).toBe(1)
    expect(entry.isAbreast(page(8), undefined)).toBe(true)
    expect(entry.isAbreast(page(8), { last: 3 })).toBe(true)
    // It will not be recovered, so that there is nothing to wait for.
    expect(entry.isAbreast(page(8), since(9))).toBe(true)
    expect(entry.isAbreast(page(8), since(8, "other"))).toBe(true)
    expect(entry.isAbreast(page(8, [], "other"), undefined)).toBe(false)
  })
})

describe("Entry.deliver", () => {
  it("ends a positioned subscription at the first that it cannot take, and no other", () => {
    const entry = entryAt(0)
    const full = subscription(true, 2)
    const lossy = subscription(false, 2)
    const roomy = subscription()
    for (const { one } of [full, lossy, roomy]) entry.join(one, undefined, undefined)
    expect(entry.deliver(range(1, 3))).toBe(1)
    expect(entry.deliver(range(4, 4))).toBe(0)
    expect([full.got, full.ended]).toEqual([["1", "2"], ["overflow"]])
    expect([lossy.got, lossy.ended]).toEqual([["1", "2"], []])
    expect([roomy.got, roomy.ended]).toEqual([["1", "2", "3", "4"], []])
    expect(entry.size).toBe(2)
  })
})

describe("Entry.breakOff", () => {
  it("ends all that are positioned, and goes on from a position", () => {
    const entry = entryAt(0)
    const positioned = subscription()
    const lossy = subscription(false)
    for (const { one } of [positioned, lossy]) entry.join(one, undefined, undefined)
    entry.deliver(range(1, 2))
    expect(entry.breakOff({ epoch: "e", offset: 6 })).toBe(1)
    entry.deliver(range(7, 7))
    expect([positioned.got, positioned.ended]).toEqual([["1", "2"], ["gap"]])
    expect([lossy.got, lossy.ended]).toEqual([["1", "2", "7"], []])
    // What was delivered before the break is no part of a replay after it.
    expect(entry.join(subscription().one, since(1), page(2, range(1, 2))).isRecovered).toBe(false)
  })
})

/** An entry at an offset with somebody in it, and nobody who joins. */
const settledAt = (offset: number): Entry => {
  const entry = entryAt(offset)
  entry.join(subscription().one, undefined, undefined)
  entry.unexpect()
  return entry
}

const place = (offset: number, epoch = "e"): History.Position => ({ epoch, offset })

/** Joins one who has read a page, and remembers what it got. */
const remembering = (entry: Entry, was: number, read: History.Page) => {
  entry.expect()
  const { isRecovered, publications } = entry.join(subscription().one, since(was), read)
  const memory = isRecovered ? entry.remember(place(was), publications) : undefined
  entry.unexpect()
  return memory
}

/** What one gets who joins without a read. */
const recalled = (entry: Entry, was: number) => {
  entry.expect()
  const { isRecovered, publications } = entry.join(subscription().one, since(was), undefined)
  entry.unexpect()
  return [isRecovered, offsets(publications)]
}

describe("Entry.remember", () => {
  it("who comes later gets exactly what it missed, with what was delivered since, and reads nothing", () => {
    const entry = settledAt(5)
    expect(entry.recalls(place(5))).toBe(false)
    expect(remembering(entry, 2, page(5, range(3, 5)))).toBeDefined()
    entry.deliver(range(6, 7))
    for (const [was, missed] of [
      [2, [3, 4, 5, 6, 7]],
      [4, [5, 6, 7]],
      [6, [7]],
      [7, []]
    ] as const) {
      expect([was, entry.recalls(place(was)), ...recalled(entry, was)]).toEqual([was, true, true, missed])
    }
  })

  it("those who have read it together, or come later, get one and the same list, until something is delivered", () => {
    const entry = settledAt(5)
    const read = page(5, range(3, 5))
    entry.expect()
    entry.deliver(range(6, 6))
    const join = (from: History.Page | undefined) => entry.join(subscription().one, since(2), from).publications
    entry.remember(place(2), join(read))
    const lists = [join(read), join(read), join(undefined)]
    expect([offsets(lists[0] ?? []), new Set(lists).size]).toEqual([[3, 4, 5, 6], 1])
    entry.deliver(range(7, 7))
    expect([offsets(join(read)), offsets(join(undefined))]).toEqual([
      [3, 4, 5, 6, 7],
      [3, 4, 5, 6, 7]
    ])
  })

  it("not what is before it, above the place of the others, or in another epoch", () => {
    const entry = settledAt(5)
    remembering(entry, 2, page(5, range(3, 5)))
    for (const position of [place(1), place(6), place(3, "other"), place(3, "")]) {
      expect([position, entry.recalls(position)]).toEqual([position, false])
    }
    expect(recalled(entry, 1)).toEqual([false, []])
    expect(recalled(entry, 6)).toEqual([false, []])
  })

  it("not once it is forgotten, and nothing that was delivered since then", () => {
    const entry = settledAt(5)
    const memory = remembering(entry, 2, page(5, range(3, 5)))
    entry.forget(memory)
    entry.deliver(range(6, 6))
    for (const was of [2, 5, 6]) expect([was, entry.recalls(place(was))]).toEqual([was, false])
    expect(recalled(entry, 5)).toEqual([false, []])
  })

  it("not once what is delivered has begun anew", () => {
    for (const position of [place(5), place(5, "other"), undefined]) {
      const entry = settledAt(5)
      remembering(entry, 2, page(5, range(3, 5)))
      entry.breakOff(position)
      expect([position, entry.recalls(place(2)), entry.recalls(position ?? place(5))]).toEqual([position, false, false])
    }
  })

  it("one that is forgotten does not end a newer one", () => {
    const entry = settledAt(5)
    const older = remembering(entry, 4, page(5, range(5, 5)))
    // Whoever is covered by that needs no other one.
    expect(entry.remember(place(5), [])).toBe(undefined)
    const newer = remembering(entry, 2, page(5, range(3, 5)))
    expect(newer).not.toBe(older)
    entry.forget(older)
    expect([entry.recalls(place(2)), recalled(entry, 2)]).toEqual([true, [true, [3, 4, 5]]])
    entry.forget(newer)
    expect(entry.recalls(place(4))).toBe(false)
  })

  it("not beyond what the stream keeps, or a replay may have", () => {
    const small = new Entry("x", { ...retention, size: 3 }, LIMIT, unbounded())
    small.breakOff(place(5))
    remembering(small, 2, page(5, range(3, 5)))
    small.deliver(range(6, 6))
    expect([small.recalls(place(2)), small.recalls(place(3)), recalled(small, 3)]).toEqual([
      false,
      true,
      [true, [4, 5, 6]]
    ])
    const entry = settledAt(5)
    remembering(entry, 2, page(5, range(3, 5)))
    entry.deliver(range(6, 12))
    expect(recalled(entry, 2)).toEqual([true, range(3, 12).map(({ offset }) => offset)])
    entry.deliver(range(13, 13))
    expect([entry.recalls(place(2)), entry.recalls(place(3))]).toEqual([false, true])
  })

  it("what others who join still need stays at hand", () => {
    const entry = settledAt(5)
    entry.expect()
    // One has read as far as 5, which takes its time.
    const read = page(5, range(3, 5))
    entry.deliver(range(6, 8))
    expect(remembering(entry, 7, page(8, range(8, 8)))).toBeDefined()
    const joined = entry.join(subscription().one, since(2), read)
    expect([joined.isRecovered, offsets(joined.publications)]).toEqual([true, [3, 4, 5, 6, 7, 8]])
  })

  it("only what was read for it: what is at hand for those who join is older, and may be gone from the stream", () => {
    const entry = settledAt(5)
    const memory = remembering(entry, 2, page(5, range(3, 5)))
    // Somebody joins for longer than that is remembered, and another one has missed nothing.
    entry.expect()
    entry.forget(memory)
    expect(entry.recalls(place(2))).toBe(false)
    expect(remembering(entry, 5, page(5))).toBeDefined()
    expect([entry.recalls(place(5)), entry.recalls(place(2))]).toEqual([true, false])
  })

  it("what it holds is counted, and given back when it is forgotten, is broken off, or ends", () => {
    for (const end of [
      (entry: Entry) => entry.forget(),
      (entry: Entry) => entry.removePast(),
      (entry: Entry) => entry.breakOff(place(9)),
      (entry: Entry) => entry.discard()
    ]) {
      const shared = unbounded()
      const entry = new Entry("x", retention, LIMIT, shared)
      entry.breakOff(place(5))
      remembering(entry, 2, page(5, range(3, 5)))
      entry.deliver(range(6, 6))
      expect(shared.remembered.bytes).toBe(4)
      end(entry)
      expect([shared.remembered.bytes, entry.recalls(place(6))]).toEqual([0, false])
    }
  })

  it("where all channels remember too much, this one forgets; nobody who joins loses anything by it", () => {
    const shared = { ...unbounded(), remembered: { maxBytes: 4, bytes: 0 } }
    const entry = new Entry("x", retention, LIMIT, shared)
    entry.breakOff(place(5))
    remembering(entry, 2, page(5, range(3, 5)))
    entry.expect()
    entry.deliver(range(6, 7))
    expect([entry.recalls(place(2)), entry.recalls(place(7))]).toEqual([false, false])
    const joined = entry.join(subscription().one, since(2), page(5, range(3, 5)))
    expect([joined.isRecovered, offsets(joined.publications)]).toEqual([true, [3, 4, 5, 6, 7]])
    entry.unexpect()
    expect(shared.remembered.bytes).toBe(0)
    // There is no room for so much.
    expect(remembering(entry, 2, page(7, range(3, 7)))).toBe(undefined)
    expect([shared.remembered.bytes, entry.recalls(place(7))]).toEqual([0, false])
  })
})

describe("Entry.removePast", () => {
  it("nothing from before it is at hand, also while somebody joins; what comes then is", () => {
    const entry = settledAt(5)
    const memory = remembering(entry, 2, page(5, range(3, 5)))
    entry.expect()
    entry.removePast()
    for (const was of [2, 5]) expect([was, entry.recalls(place(was))]).toEqual([was, false])
    // One that was about to join with what was remembered.
    expect(recalled(entry, 2)).toEqual([false, []])
    entry.forget(memory)
    entry.deliver(range(6, 7))
    expect(entry.join(subscription().one, since(4), page(5)).isRecovered).toBe(false)
    const joined = entry.join(subscription().one, since(5), page(5))
    expect([joined.isRecovered, offsets(joined.publications)]).toEqual([true, [6, 7]])
  })

  it("what was removed is not recovered by who reads after that, though it was delivered while others joined", () => {
    const entry = settledAt(5)
    entry.expect()
    entry.deliver(range(6, 8))
    // This instance has not been told of the removal.
    for (const was of [5, 7]) {
      expect(entry.join(subscription().one, since(was), page(8))).toMatchObject({
        publications: [],
        isRecovered: false
      })
    }
    expect(entry.join(subscription().one, { last: 5 }, page(8)).publications).toEqual([])
  })
})

describe("Entry, remembering whatever happens", () => {
  type Step =
    | { readonly do: "publish"; readonly count: number; readonly isLate: boolean }
    | { readonly do: "begin"; readonly back: number }
    | { readonly do: "join" | "expire" | "remove" | "remove unheard" }

  const step: FastCheck.Arbitrary<Step> = FastCheck.oneof(
    FastCheck.record({
      do: FastCheck.constant("publish" as const),
      count: FastCheck.integer({ min: 1, max: 4 }),
      isLate: FastCheck.boolean()
    }),
    { weight: 3, arbitrary: FastCheck.record({ do: FastCheck.constant("begin" as const), back: FastCheck.nat(8) }) },
    { weight: 2, arbitrary: FastCheck.constant<Step>({ do: "join" }) },
    FastCheck.constantFrom<Step>({ do: "expire" }, { do: "expire" }, { do: "remove" }, { do: "remove unheard" })
  )

  /** Somebody who joins: what they have read, and how often the past had been removed then. */
  interface Joining {
    readonly was: number
    readonly read: History.Page
    readonly removals: number
    readonly unheard: number
  }

  const SIZE = 12

  it.prop(
    "a newcomer gets everything once and in order, or is not recovered; nothing that was removed comes back",
    [FastCheck.array(step, { minLength: 1, maxLength: 40 })],
    ([steps]) => {
      const shared = unbounded()
      const entry = new Entry("x", { ...retention, size: SIZE }, { publications: 100, bytes: 10_000 }, shared)
      entry.breakOff(place(0))
      let top = 0
      let delivered = 0
      let first = 1
      /** Up to where a removal has removed the stream, and how many removals this instance has not heard of. */
      let removed = 0
      let unheard = 0
      /** How far the others were at the last removal that it has heard of. */
      let forgotten = 0
      const joining: Array<Joining> = []
      const memories: Array<{ readonly memory: Memory; readonly unheard: number }> = []
      const members: Array<{ readonly was: number; readonly log: () => ReadonlyArray<string> }> = []
      const join = (was: number, read: History.Page | undefined) => {
        const { got, one } = subscription()
        const result = entry.join(one, since(was), read)
        expect(result.position).toEqual(place(delivered))
        const texts = result.publications.map(({ data }) => data)
        expect(texts).toEqual(result.isRecovered ? range(was + 1, delivered).map(({ data }) => data) : [])
        members.push({ was: result.isRecovered ? was : delivered, log: () => [...texts, ...got] })
        return result
      }
      const publish = (count: number, isLate: boolean): void => {
        top += count
        first = Math.max(first, top - SIZE + 1)
        if (isLate) return
        entry.deliver(range(delivered + 1, top))
        delivered = top
      }
      const remove = (): void => {
        first = top + 1
        removed = top
      }
      for (const one of steps) {
        switch (one.do) {
          case "publish":
            publish(one.count, one.isLate)
            break
          case "begin": {
            const was = Math.max(0, top - one.back)
            entry.expect()
            if (entry.recalls(place(was))) {
              expect(join(was, undefined).isRecovered).toBe(true)
              // Only what was read before a removal that it has not heard of, and is not forgotten yet.
              if (was < removed) expect(memories.some((memory) => memory.unheard < unheard)).toBe(true)
              entry.unexpect()
            } else {
              const read = page(top, range(Math.max(was + 1, first), top))
              joining.push({ was, read, removals: entry.removals, unheard })
            }
            break
          }
          case "join": {
            const newcomer = joining.shift()
            if (newcomer === undefined) break
            const { read, removals, was } = newcomer
            if (!entry.isAbreast(read, since(was))) {
              entry.unexpect()
              break
            }
            const isRemoved = entry.removals !== removals
            const { isRecovered, publications } = join(was, isRemoved ? { ...read, publications: [] } : read)
            const isRead = ({ offset = 0 }: Publication): boolean =>
              offset > read.offset || (!isRemoved && read.publications.some((one) => one.offset === offset))
            const isAtHand = (publication: Publication): boolean =>
              isRead(publication) && (!isRemoved || (publication.offset ?? 0) > forgotten)
            const needed = range(was + 1, delivered)
            if (isRecovered) expect(needed.every(isRead)).toBe(true)
            else expect(needed.every(isAtHand) && needed.length <= SIZE).toBe(false)
            const memory = isRecovered ? entry.remember(place(was), publications) : undefined
            if (memory !== undefined) memories.push({ memory, unheard: newcomer.unheard })
            entry.unexpect()
            break
          }
          case "expire":
            entry.forget(memories.shift()?.memory ?? { after: 0 })
            break
          case "remove":
            remove()
            entry.removePast()
            forgotten = delivered
            memories.length = 0
            break
          case "remove unheard":
            remove()
            unheard++
        }
      }
      publish(1, false)
      for (const { log, was } of members) expect(log()).toEqual(range(was + 1, top).map(({ data }) => data))
      for (const { memory } of memories) entry.forget(memory)
      for (const _ of joining) entry.unexpect()
      expect(shared.remembered.bytes).toBe(0)
    }
  )
})

describe("Entry, joining at any moment", () => {
  const moment = FastCheck.record({
    /** Where the newcomer was. */
    was: FastCheck.nat(12),
    /** How far the stream was when history was read for it. */
    read: FastCheck.nat(12),
    /** How far the others were when it began to join, and when it joined. */
    begun: FastCheck.nat(12),
    joined: FastCheck.nat(12),
    /** The first publication that history still had. */
    first: FastCheck.integer({ min: 1, max: 12 })
  })

  it.prop(
    "a newcomer gets everything once and in order, or is not recovered",
    [moment],
    ([{ was, read, begun, joined, first }]) => {
      const entry = new Entry("x", retention, { publications: 100, bytes: 10_000 }, unbounded())
      const start = Math.min(begun, joined)
      // History is read after it began to join, so that nothing before is missing in between.
      const top = Math.max(read, start)
      entry.breakOff({ epoch: "e", offset: start })
      entry.expect()
      entry.deliver(range(start + 1, joined))
      const isAbreast = entry.isAbreast(page(top), since(was))
      const { one, got } = subscription()
      const result = entry.join(one, since(was), page(top, range(Math.max(was + 1, first), top)))
      entry.deliver(range(joined + 1, 15))
      const log = [...result.publications.map(({ data }) => data), ...got]
      expect(result.position?.offset).toBe(Math.max(joined, start))
      if (result.isRecovered) {
        expect(log).toEqual(range(was + 1, 15).map(({ data }) => data))
      } else {
        expect(result.publications).toEqual([])
      }
      // Exactly when it is complete: what it needs is in history, or was delivered after that was read.
      const place = Math.max(joined, start)
      const needed = range(was + 1, place)
      const has = ({ offset = 0 }: Publication): boolean => offset >= first || offset > top
      if (was <= top) expect(isAbreast).toBe(was <= place)
      expect(result.isRecovered).toBe(was <= Math.min(place, top) && needed.every(has))
    }
  )
})
