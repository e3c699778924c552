/** What playing the same to Fanfare and to the reference server has taught, held without the reference server. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { corpus } from "./reference/corpus.ts"
import * as Differences from "./reference/Differences.ts"
import * as Fanfare from "./reference/fanfare.ts"
import * as Page from "./reference/Page.ts"
import { live } from "./support/it.ts"

describe("the cases that are played to the reference server, too", () => {
  live(
    "are answered as they are expected to be",
    () =>
      Effect.gen(function* () {
        expect(Object.fromEntries(yield* Fanfare.answers)).toEqual(Differences.expectations())
      }),
    180_000
  )

  it("have a name each", () => {
    expect(new Set(corpus.map(({ name }) => name)).size).toBe(corpus.length)
  })
})

describe("the list of differences", () => {
  const list = Differences.list()

  it("has a reason for each, and no other reasons", () => {
    expect(Differences.problems(list, list.differences)).toEqual([])
  })

  it("has what Fanfare is expected to answer", () => {
    const expected = Differences.expectations()
    const others = list.differences.filter(
      ({ case: name, ours }) => !ours.every((line) => expected[name]?.includes(line))
    )
    expect(others).toEqual([])
  })

  it("is what docs/reference-differences.md tells", () => {
    const squeeze = (text: string): string => text.replace(/ +/g, " ").replace(/-{3,}/g, "---")
    expect(squeeze(Page.read())).toBe(squeeze(Page.updated(Page.read(), list)))
  })
})

describe("Differences", () => {
  const one = { case: "one", theirs: ["1"], ours: ["2"] }
  const known = { reasons: { why: "Because." }, differences: [{ ...one, because: ["why"] }] }

  it("between answers are the lines that the other has not, or all where only their order differs", () => {
    expect(Differences.between("one", ["a", "1", "b"], ["a", "2", "b"])).toEqual(one)
    expect(Differences.between("one", ["a", "b"], ["b", "a"])).toEqual({
      case: "one",
      theirs: ["a", "b"],
      ours: ["b", "a"]
    })
    expect(Differences.between("one", ["a"], ["a"])).toBeUndefined()
  })

  it.each([
    ["one that is not listed", { reasons: {}, differences: [] }, [one], "not listed: one"],
    ["one that has changed", known, [{ ...one, ours: ["3"] }], "listed otherwise: one"],
    ["one that is none any more", known, [], "listed, and there is none any more: one"],
    ["one without a reason", { reasons: {}, differences: [{ ...one, because: [] }] }, [one], "without a reason: one"],
    ["a reason that is not there", { ...known, reasons: {} }, [one], 'no reason is called "why": one'],
    ["a reason of nothing", { reasons: known.reasons, differences: [] }, [], "a reason of nothing: why"]
  ])("problems: %s", (_, list, found, problem) => {
    expect(Differences.problems(known, [one])).toEqual([])
    expect(Differences.problems(list, found)).toContainEqual(expect.stringContaining(problem))
  })

  it("updated keeps the reason of what has not changed, and gives none", () => {
    const other = { case: "other", theirs: [], ours: ["4"] }
    expect(Differences.updated(known, [one, other]).differences).toEqual([
      { ...one, because: ["why"] },
      { ...other, because: [] }
    ])
    expect(Differences.updated(known, [{ ...one, ours: ["3"] }]).differences[0]?.because).toEqual([])
  })
})
