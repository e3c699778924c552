import { describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import { type MemoryBudget, Tail } from "../src/Hub/Tail.ts"
import type { Publication } from "../src/protocol/Publication.ts"

const at = (offset: number, size = 1): Publication => ({ data: "x".repeat(size), json: false, epoch: "e", offset })

const range = (from: number, to: number): ReadonlyArray<Publication> =>
  Array.from({ length: Math.max(0, to - from + 1) }, (_, index) => at(from + index))

const place = (offset: number) => ({ epoch: "e", offset })

const offsets = (publications: ReadonlyArray<Publication>): ReadonlyArray<number | undefined> =>
  publications.map(({ offset }) => offset)

const LIMIT = { publications: 5, bytes: 10 }

const make = (maxBytes = Infinity, each = 0) => {
  const budget: MemoryBudget = { maxBytes, bytes: 0, each }
  const another = () => new Tail(LIMIT, budget)
  return { another, budget, tail: another() }
}

/** Where it begins, in a channel that has got to 9, and what it has. */
const held = (tail: Tail) => [tail.start(place(9)), offsets(tail.after(tail.start(place(9))))]

describe("Tail", () => {
  it("has nothing before the place of the others, and then what is delivered", () => {
    const { tail } = make()
    expect(held(tail)).toEqual([9, []])
    for (const one of range(8, 9)) tail.push(one)
    expect(held(tail)).toEqual([7, [8, 9]])
    expect([offsets(tail.after(8)), tail.after(9)]).toEqual([[9], []])
    tail.clear()
    expect(held(tail)).toEqual([9, []])
  })

  it("whoever asks for the same gets the same answer, until something changes", () => {
    const { tail } = make()
    for (const one of range(6, 8)) tail.push(one)
    const answer = tail.after(6)
    expect(tail.after(6)).toBe(answer)
    tail.push(at(9))
    expect([offsets(answer), offsets(tail.after(6))]).toEqual([
      [7, 8],
      [7, 8, 9]
    ])
    tail.replace(range(9, 9))
    expect(offsets(tail.after(6))).toEqual([9])
    tail.clear()
    expect(tail.after(6)).toEqual([])
  })

  it("what it replaced it with stays as it is, whatever is delivered then", () => {
    const { tail } = make()
    const given = range(7, 8)
    tail.replace(given)
    tail.push(at(9))
    expect([offsets(given), held(tail)]).toEqual([
      [7, 8],
      [6, [7, 8, 9]]
    ])
  })

  it("the oldest go where there are too many, or too many bytes; one alone that is too large as well", () => {
    const { tail } = make()
    for (const one of range(1, 9)) tail.push(one)
    expect(held(tail)).toEqual([4, [5, 6, 7, 8, 9]])
    const other = make().tail
    for (const one of [at(7, 4), at(8, 4), at(9, 4)]) other.push(one)
    expect(held(other)).toEqual([7, [8, 9]])
    other.push(at(10, 11))
    expect([other.start(place(10)), other.after(9)]).toEqual([10, []])
  })
})

describe("Tail.replace, Tail.keep", () => {
  it("refuse what is beyond a limit, and change nothing", () => {
    const { budget, tail } = make()
    expect(tail.replace(range(8, 9))).toBe(true)
    for (const beyond of [range(4, 9), [at(9, 11)], [at(8, 5), at(9, 6)]]) {
      expect([tail.replace(beyond), held(tail), budget.bytes]).toEqual([false, [7, [8, 9]], 2])
    }
    expect([tail.replace(range(5, 9)), tail.replace([at(9, 10)]), budget.bytes]).toEqual([true, true, 10])
  })

  it("refuse what the budget has no room for, beside what it has of it already", () => {
    const { another, budget, tail } = make(12)
    expect(tail.replace([at(9, 8)])).toBe(true)
    const other = another()
    expect([other.replace([at(9, 5)]), held(other), budget.bytes]).toEqual([false, [9, []], 8])
    expect([other.replace([at(9, 4)]), budget.bytes]).toEqual([true, 12])
    // In place of its own 8.
    expect([tail.replace([at(9, 9)]), tail.replace([at(9, 8)]), tail.replace([at(9, 7)])]).toEqual([false, true, true])
    expect([tail.isTooMuch, other.isTooMuch, budget.bytes]).toEqual([false, false, 11])
    const kept = another()
    for (const one of range(8, 9)) kept.push(one)
    expect([kept.keep(), budget.bytes, held(kept)]).toEqual([false, 11, [7, [8, 9]]])
    other.clear()
    expect([kept.keep(), kept.keep(), budget.bytes]).toEqual([true, true, 9])
  })

  it("what is only there for who joins takes nothing of the budget", () => {
    const { budget, tail } = make(1)
    for (const one of range(5, 9)) tail.push(one)
    expect([budget.bytes, tail.isTooMuch]).toEqual([0, false])
    tail.clear()
    expect(budget.bytes).toBe(0)
  })

  it("publications count beside their text, as many as there are", () => {
    const { another, budget, tail } = make(350, 100)
    expect([tail.replace(range(5, 7)), budget.bytes]).toEqual([true, 303])
    expect([another().replace([at(9, 0)]), budget.bytes]).toEqual([false, 303])
    tail.push(at(8, 10))
    // Only that one has room within the limit of a channel.
    expect([held(tail), budget.bytes, tail.isTooMuch]).toEqual([[7, [8]], 110, false])
    expect([tail.keep(), another().replace(range(8, 9)), budget.bytes]).toEqual([true, true, 312])
    tail.clear()
    expect(budget.bytes).toBe(202)
  })

  it("what is delivered then is counted as well, also where there was nothing or nothing is left", () => {
    const { budget, tail } = make(6)
    expect(tail.replace([])).toBe(true)
    tail.push(at(7, 3))
    expect(budget.bytes).toBe(3)
    // Nothing of it stays.
    tail.push(at(8, 11))
    expect(budget.bytes).toBe(0)
    tail.push(at(9, 6))
    expect([budget.bytes, tail.isTooMuch]).toEqual([6, false])
    tail.push(at(10, 1))
    expect([budget.bytes, tail.isTooMuch]).toEqual([7, true])
    tail.clear()
    expect([budget.bytes, tail.isTooMuch]).toEqual([0, false])
    tail.push(at(11, 3))
    expect(budget.bytes).toBe(0)
  })

  type Step =
    | { readonly do: "push"; readonly tail: number; readonly sizes: ReadonlyArray<number> }
    | { readonly do: "replace"; readonly tail: number; readonly sizes: ReadonlyArray<number> }
    | { readonly do: "keep"; readonly tail: number }
    | { readonly do: "clear"; readonly tail: number }

  const tail = FastCheck.nat(2)
  const sizes = FastCheck.array(FastCheck.nat(6), { maxLength: 6 })
  const step: FastCheck.Arbitrary<Step> = FastCheck.oneof(
    FastCheck.record({ do: FastCheck.constant("push" as const), tail, sizes }),
    FastCheck.record({ do: FastCheck.constant("replace" as const), tail, sizes }),
    FastCheck.record({ do: FastCheck.constant("keep" as const), tail }),
    FastCheck.record({ do: FastCheck.constant("clear" as const), tail })
  )

  it.prop(
    "the budget is what those hold that were told to, whatever happens; no tail is beyond its limit",
    [FastCheck.array(step, { maxLength: 40 })],
    ([steps]) => {
      const { another, budget } = make(15)
      const tails = [another(), another(), another()]
      const isCounted = [false, false, false]
      const bytesOf = (tail: Tail) => tail.after(0).reduce((sum, { data }) => sum + data.length, 0)
      let offset = 0
      for (const one of steps) {
        const tail = tails[one.tail] as Tail
        const before = budget.bytes
        if (one.do === "push") for (const size of one.sizes) tail.push(at(++offset, size))
        else if (one.do === "clear") {
          tail.clear()
          isCounted[one.tail] = false
        } else {
          const isDone = one.do === "keep" ? tail.keep() : tail.replace(one.sizes.map((size) => at(++offset, size)))
          if (isDone) {
            isCounted[one.tail] = true
            expect(budget.bytes).toBeLessThanOrEqual(15)
          } else expect(budget.bytes).toBe(before)
        }
        const held = tails.map(bytesOf)
        expect(budget.bytes).toBe(held.reduce((sum, bytes, index) => sum + (isCounted[index] === true ? bytes : 0), 0))
        expect(Math.max(...held)).toBeLessThanOrEqual(LIMIT.bytes)
        expect(Math.max(...tails.map((each) => each.after(0).length))).toBeLessThanOrEqual(LIMIT.publications)
      }
      for (const tail of tails) tail.clear()
      expect(budget.bytes).toBe(0)
    }
  )
})
