import { describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import type * as History from "../src/History.ts"
import { Entry, type Want } from "../src/Hub/Entry.ts"
import type { Publication } from "../src/protocol/Publication.ts"
import { at, entryAt, LIMIT, offsets, page, range, retention, since, subscription, unbounded } from "./support/entry.ts"

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

  it("an empty epoch is that of any stream, for what is read, for what is remembered, and while this instance is behind", () => {
    const joined = entryAt(5).join(subscription().one, since(3, ""), page(5, range(4, 5)))
    expect([offsets(joined.publications), joined.isRecovered]).toEqual([[4, 5], true])
    expect(joined.position).toEqual({ epoch: "e", offset: 5 })
    const begun = entryAt(2).join(subscription().one, since(0, ""), page(2, range(1, 2)))
    expect([offsets(begun.publications), begun.isRecovered]).toEqual([[1, 2], true])
    expect(entryAt(5).join(subscription().one, since(6, ""), page(5)).isRecovered).toBe(false)
    expect(entryAt(5).join(subscription().one, since(3, ""), page(5, [at(5)])).isRecovered).toBe(false)

    const entry = entryAt(5)
    expect(entry.isAbreast(page(7), since(6, ""))).toBe(false)
    expect(entry.isAbreast(page(7), since(5, ""))).toBe(true)
    expect(entry.remember({ epoch: "", offset: 3 }, range(4, 5))).toBeDefined()
    expect([entry.recalls({ epoch: "", offset: 3 }), entry.recalls({ epoch: "", offset: 2 })]).toEqual([true, false])
    const recalled = entry.join(subscription().one, since(4, ""), undefined)
    expect([offsets(recalled.publications), recalled.isRecovered]).toEqual([[5], true])
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

  it("what was delivered meanwhile is kept also where the stream keeps less", () => {
    const entry = new Entry("x", { ...retention, size: 1 }, LIMIT, unbounded())
    entry.breakOff({ epoch: "e", offset: 5 })
    entry.expect()
    entry.deliver(range(6, 8))
    const { isRecovered, publications } = entry.join(subscription().one, since(5), page(5))
    expect([isRecovered, offsets(publications)]).toEqual([true, [6, 7, 8]])
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
