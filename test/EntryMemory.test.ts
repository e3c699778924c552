/** What an entry remembers of the past, for those who come one after the other. */
import { describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import type * as History from "../src/History.ts"
import { Entry, type Memory } from "../src/Hub/Entry.ts"
import type { Publication } from "../src/protocol/Publication.ts"
import { entryAt, LIMIT, offsets, page, range, retention, since, subscription, unbounded } from "./support/entry.ts"

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
    for (const position of [place(1), place(6), place(3, "other")]) {
      expect([position, entry.recalls(position)]).toEqual([position, false])
    }
    // An empty epoch is that of any stream.
    expect(entry.recalls(place(3, ""))).toBe(true)
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
    const shared = { ...unbounded(), remembered: { maxBytes: 4, bytes: 0, each: 0 } }
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
            // As those who join do: not what was removed since it was read, or may be before it is delivered here.
            const isUpToDate = !isRemoved && read.offset <= delivered
            const memory = isRecovered && isUpToDate ? entry.remember(place(was), publications) : undefined
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
