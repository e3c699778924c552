import { describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import type * as History from "../src/History.ts"
import { HELD, Sequence } from "../src/Hub/Sequence.ts"
import type { Publication } from "../src/protocol/Publication.ts"

const at = (offset: number, epoch = "e"): Publication => ({ data: `${epoch}${offset}`, json: false, epoch, offset })
const now = (data: string): Publication => ({ data, json: false })

const page = (top: number, offsets: ReadonlyArray<number>, epoch = "e"): History.Page => ({
  epoch,
  offset: top,
  publications: offsets.map((offset) => at(offset, epoch))
})

const data = (publications: ReadonlyArray<Publication>): ReadonlyArray<string> => publications.map(({ data }) => data)

/** A sequence that begins after an offset. */
const after = (offset: number): Sequence => {
  const sequence = new Sequence()
  sequence.begin({ epoch: "e", offset })
  return sequence
}

/** Fills from where the sequence is. */
const fill = (sequence: Sequence, one: History.Page) => sequence.fill(sequence.position ?? page(0, []), one)

describe("Sequence.offer", () => {
  it("passes on what comes next, and leaves out what came before", () => {
    const sequence = after(3)
    expect(data(sequence.offer(at(4)))).toEqual(["e4"])
    expect(data(sequence.offer(at(4)))).toEqual([])
    expect(data(sequence.offer(at(2)))).toEqual([])
    expect(data(sequence.offer(at(5)))).toEqual(["e5"])
    expect([sequence.isHolding, sequence.position]).toEqual([false, { epoch: "e", offset: 5 }])
  })

  it("holds everything back until it has begun", () => {
    const sequence = new Sequence()
    expect([at(3), at(4), now("x"), at(5)].flatMap((one) => sequence.offer(one))).toEqual([])
    const begun = sequence.begin({ epoch: "e", offset: 4 })
    expect(begun).toMatchObject({ isBroken: true, from: { epoch: "e", offset: 2 } })
    expect(data(begun?.publications ?? [])).toEqual(["e3", "e4", "x", "e5"])
    expect([sequence.isHolding, sequence.position?.offset, sequence.takeLost()]).toEqual([false, 5, 0])
    expect(sequence.begin({ epoch: "e", offset: 9 })).toBe(undefined)
  })

  it("begins at the top of the stream where it does not know its end", () => {
    const sequence = new Sequence()
    sequence.offer(at(3))
    expect(sequence.begin({ epoch: "e", offset: 5 })).toEqual({
      isBroken: true,
      from: { epoch: "e", offset: 5 },
      publications: []
    })
    expect([sequence.isHolding, sequence.takeLost()]).toEqual([false, 1])
  })

  it("begins, and holds on where what came has a hole, or is of another stream", () => {
    for (const one of [at(6), at(1, "f")]) {
      const sequence = new Sequence()
      sequence.offer(one)
      expect(sequence.begin({ epoch: "e", offset: 4 })?.publications).toEqual([])
      expect(sequence.isHolding).toBe(true)
    }
  })

  it("holds back what follows a hole, and everything after it, with or without an offset", () => {
    const sequence = after(3)
    expect([at(5), now("x"), at(4), at(6)].flatMap((one) => sequence.offer(one))).toEqual([])
    expect(sequence.isHolding).toBe(true)
  })

  it("holds back another epoch", () => {
    const sequence = after(3)
    expect(sequence.offer(at(4, "f"))).toEqual([])
    expect(sequence.isHolding).toBe(true)
  })

  it("passes on what has no offset at once while nothing is missing", () => {
    const sequence = after(3)
    expect(data(sequence.offer(now("x")))).toEqual(["x"])
    expect(sequence.position?.offset).toBe(3)
  })
})

describe("Sequence.fill", () => {
  it("passes on the page, then what came while it was read", () => {
    const sequence = after(3)
    sequence.offer(at(6))
    sequence.hold()
    sequence.offer(at(7))
    sequence.offer(now("x"))
    const filled = fill(sequence, page(6, [4, 5, 6]))
    expect([filled.isBroken, data(filled.publications)]).toEqual([false, ["e4", "e5", "e6", "e7", "x"]])
    expect([sequence.isHolding, sequence.position?.offset]).toEqual([false, 7])
  })

  it("holds on while the page is not the last one", () => {
    const sequence = after(3)
    sequence.offer(at(9))
    sequence.hold()
    expect(data(fill(sequence, page(9, [4, 5])).publications)).toEqual(["e4", "e5"])
    expect(sequence.isHolding).toBe(true)
    sequence.hold()
    expect(data(fill(sequence, page(9, [6, 7, 8, 9])).publications)).toEqual(["e6", "e7", "e8", "e9"])
    expect(sequence.isHolding).toBe(false)
  })

  it("holds on where what came meanwhile has a hole again", () => {
    const sequence = after(3)
    sequence.offer(at(5))
    sequence.hold()
    sequence.offer(at(8))
    expect(data(fill(sequence, page(5, [4, 5])).publications)).toEqual(["e4", "e5"])
    expect(sequence.isHolding).toBe(true)
    sequence.hold()
    expect(data(fill(sequence, page(8, [6, 7, 8])).publications)).toEqual(["e6", "e7", "e8"])
    expect(sequence.isHolding).toBe(false)
  })

  it("does nothing where nothing is missing", () => {
    const sequence = after(3)
    sequence.hold()
    sequence.offer(at(4))
    expect(fill(sequence, page(3, []))).toMatchObject({ isBroken: false, publications: [at(4)] })
    expect(sequence.isHolding).toBe(false)
  })

  it("breaks where history does not reach back, and goes on with what it has", () => {
    const sequence = after(3)
    sequence.offer(at(9))
    sequence.hold()
    const filled = fill(sequence, page(9, [7, 8, 9]))
    expect(filled).toMatchObject({ isBroken: true, from: { epoch: "e", offset: 6 } })
    expect(data(filled.publications)).toEqual(["e7", "e8", "e9"])
    expect([sequence.isHolding, sequence.position?.offset, sequence.takeLost()]).toEqual([false, 9, 3])
  })

  it("breaks where history is empty, has a hole, or has shrunk", () => {
    for (const [one, from] of [
      [page(9, []), 9],
      [page(9, [4, 5, 8, 9]), 7],
      [page(2, []), 2]
    ] as const) {
      const sequence = after(3)
      sequence.hold()
      expect(fill(sequence, one)).toMatchObject({ isBroken: true, from: { epoch: "e", offset: from } })
      expect(sequence.position?.offset).toBe(one.offset)
      expect(sequence.isHolding).toBe(false)
    }
  })

  it("breaks at another epoch, and goes on with what came of it", () => {
    const sequence = after(3)
    sequence.offer(at(1, "f"))
    sequence.offer(at(2, "f"))
    sequence.hold()
    const filled = fill(sequence, page(2, [], "f"))
    expect(filled).toMatchObject({ isBroken: true, from: { epoch: "f", offset: 0 } })
    expect(data(filled.publications)).toEqual(["f1", "f2"])
    expect(sequence.position).toEqual({ epoch: "f", offset: 2 })
  })

  it("forgets what came of an older epoch", () => {
    const sequence = after(3)
    sequence.hold()
    fill(sequence, page(5, [], "f"))
    expect(data(sequence.offer(at(6, "f")))).toEqual(["f6"])
    expect(sequence.offer(at(4, "e"))).toEqual([])
    expect(sequence.isHolding).toBe(true)
    sequence.hold()
    expect(fill(sequence, page(6, [], "f"))).toMatchObject({ isBroken: false, publications: [] })
    expect(sequence.isHolding).toBe(false)
  })

  it("reads on for what was left out beyond the bound of what is held", () => {
    const sequence = after(0)
    const top = HELD + 10
    for (let offset = 2; offset <= top; offset++) sequence.offer(at(offset))
    sequence.offer(now("never kept"))
    expect(sequence.takeLost()).toBe(1)
    const offsets = Array.from({ length: top }, (_, index) => index + 1)
    sequence.hold()
    expect(fill(sequence, page(top, offsets)).publications.length).toBe(top)
    expect(sequence.isHolding).toBe(false)
    // What is left out while a page is read is not in it: another one is needed.
    sequence.hold()
    for (let offset = top + 1; offset <= top + HELD + 1; offset++) sequence.offer(at(offset))
    expect(fill(sequence, page(top, [])).publications.length).toBe(HELD)
    expect(sequence.isHolding).toBe(true)
  })
})

describe("Sequence.giveUp", () => {
  it("breaks, passes nothing on, and begins again at the top of the stream", () => {
    const sequence = after(3)
    sequence.offer(at(6))
    sequence.offer(at(7))
    expect(sequence.giveUp()).toEqual({ isBroken: true, from: undefined, publications: [] })
    expect([sequence.isHolding, sequence.position]).toEqual([true, undefined])
    expect(sequence.begin({ epoch: "e", offset: 6 })).toEqual({
      isBroken: true,
      from: { epoch: "e", offset: 5 },
      publications: [at(6), at(7)]
    })
  })
})

describe("Sequence.begin after giveUp", () => {
  it("does not begin before what it has passed on, whatever page comes late", () => {
    const sequence = after(12)
    sequence.offer(at(14))
    sequence.giveUp()
    expect(sequence.begin({ epoch: "e", offset: 10 })).toMatchObject({ from: { epoch: "e", offset: 12 } })
    sequence.hold()
    expect(data(fill(sequence, page(14, [13, 14])).publications)).toEqual(["e13", "e14"])
    const other = after(12)
    other.giveUp()
    expect(other.begin({ epoch: "f", offset: 3 })).toMatchObject({ from: { epoch: "f", offset: 3 } })
  })
})

describe("Sequence, the budget of what is held", () => {
  it("is shared, and given back", () => {
    const budget = { maxBytes: 4, bytes: 0 }
    const [one, other] = [new Sequence(budget), new Sequence(budget)]
    one.begin({ epoch: "e", offset: 0 })
    other.begin({ epoch: "e", offset: 0 })
    one.offer(at(2))
    one.offer(at(3))
    expect(budget.bytes).toBe(4)
    other.offer(at(2))
    other.hold()
    // What was left out is in the page.
    expect(data(fill(other, page(2, [1, 2])).publications)).toEqual(["e1", "e2"])
    one.hold()
    fill(one, page(3, [1, 2, 3]))
    expect([budget.bytes, one.isHolding, other.isHolding]).toEqual([0, false, false])
    one.offer(at(9))
    one.discard()
    expect(budget.bytes).toBe(0)
  })
})

describe("Sequence, whatever comes", () => {
  /** A stream of `top` publications of which some do not come, some come twice, and pages are read now and then. */
  const story = FastCheck.array(
    FastCheck.record({
      publish: FastCheck.integer({ min: 0, max: 4 }),
      lost: FastCheck.array(FastCheck.boolean(), { minLength: 4, maxLength: 4 }),
      again: FastCheck.integer({ min: 0, max: 3 }),
      size: FastCheck.integer({ min: 1, max: 5 })
    }),
    { maxLength: 20 }
  )

  it.prop("passes on every publication once and in order, or says where it breaks", [story], ([steps]) => {
    const sequence = after(0)
    let top = 0
    let expected = 1
    const take = (publications: ReadonlyArray<Publication>): void => {
      for (const { offset } of publications) expect(offset).toBe(expected++)
    }
    const read = (size: number): void => {
      // What is published while the page is read comes behind it.
      sequence.hold()
      const from = sequence.position?.offset ?? 0
      const offsets = Array.from({ length: Math.min(size, top - from) }, (_, index) => from + index + 1)
      const filled = fill(sequence, page(top, offsets))
      expect(filled.isBroken).toBe(false)
      take(filled.publications)
    }
    for (const { again, lost, publish, size } of steps) {
      for (let index = 0; index < publish; index++) {
        top++
        if (lost[index] !== true) take(sequence.offer(at(top)))
      }
      for (let back = 0; back < again && top - back > 0; back++) take(sequence.offer(at(top - back)))
      if (sequence.isHolding) read(size)
    }
    for (let round = 0; sequence.isHolding; round++) {
      expect(round).toBeLessThan(100)
      read(3)
    }
    read(100)
    expect(expected).toBe(top + 1)
  })
})
