/** What the benchmark makes of its runs: statistics, bounds that are met or missed, and the report. */
import { describe, expect, it } from "@effect/vitest"
import { bars, load } from "./support/bench.ts"
import type { Json } from "./support/json.ts"

const { judge } = await load("report/expectations.mjs")
const { svg } = await load("report/plot.mjs")
const { byRound, median, quantile, ratios, summary } = await load("report/statistics.mjs")
const { markdown } = await load("report/table.mjs")

type Run = Readonly<Record<string, unknown>>

/** Runs of a server in a scenario, a figure for each round; `undefined`: that run had a fault. */
const runs = (scenario: string, peer: string, figure: string, values: ReadonlyArray<number | undefined>): Array<Run> =>
  values.map((value, index) => ({
    round: index + 1,
    scenario,
    peer,
    // A run that is refused has a figure, too: of what came until then.
    ...(value === undefined ? { fault: "3 of 9 deliveries lost", [figure]: 1e9 } : { [figure]: value })
  }))

describe("statistics", () => {
  it("median and quantiles, whatever the order", () => {
    expect([median([3, 1, 2]), median([4, 1, 3, 2]), median([10, 9, 1, 100, 2]), median([7])]).toEqual([2, 2.5, 9, 7])
    const hundred = Array.from({ length: 100 }, (_, index) => (index * 37) % 100)
    expect([0, 0.5, 0.99, 1].map((part) => quantile(hundred, part))).toEqual([0, 50, 99, 99])
    expect(summary([5, 1, 3])).toEqual({ median: 3, least: 1, most: 5, count: 3 })
    expect(summary([])).toBe(undefined)
  })

  it("figures by round: those of one server in one scenario, of runs without a fault", () => {
    const all = [
      ...runs("S1", "fanfare", "rate", [1, undefined, 3]),
      ...runs("S1", "other", "rate", [4, 5, 6]),
      ...runs("S2", "fanfare", "rate", [7, 8, 9])
    ]
    expect(Array.from(byRound(all, "S1", "fanfare", "rate"))).toEqual([
      [1, 1],
      [3, 3]
    ])
  })

  it("ratios: round by round, of rounds in which both have a figure", () => {
    const above = byRound(runs("S1", "fanfare", "rate", [10, 20, undefined, 40]), "S1", "fanfare", "rate")
    const below = byRound(runs("S1", "other", "rate", [1, undefined, 3, 8]), "S1", "other", "rate")
    expect(ratios(above, below)).toEqual([10, 5])
  })
})

const judged = (all: ReadonlyArray<Run>, figure: string): Json =>
  judge(all)
    .map((one: Json) => [one.scenario, one.figure, one.measured?.median, one.isMet])
    .filter((row: Json) => row[1] === figure)

describe("judge", () => {
  const S1 = (own: ReadonlyArray<number | undefined>, other: ReadonlyArray<number | undefined>) => [
    ...runs("S1", "fanfare", "rate", own),
    ...runs("S1", "hand-written", "rate", other)
  ]

  it("a bound that is reached exactly is met, one that is not quite is missed", () => {
    expect(judged(S1([120], [10]), "rate")).toEqual([["S1", "rate", 12, true]])
    expect(judged(S1([119], [10]), "rate")).toEqual([["S1", "rate", 11.9, false]])
    const idle = (bytes: number) => judged(runs("S4 10,000", "fanfare", "bytes", [bytes]), "bytes")
    expect(idle(20_000)).toEqual([["S4 10,000", "bytes", 20_000, true]])
    expect(idle(20_001)).toEqual([["S4 10,000", "bytes", 20_001, false]])
  })

  it("is about ratios round by round, not about the ratio of what each has in all rounds", () => {
    // The medians are 40 and 2, and 20 would do.
    expect(judged(S1([100, 10, 40], [10, 1, 2]), "rate")).toEqual([["S1", "rate", 10, false]])
    // A round in which one of them had a fault is none.
    expect(judged(S1([100, 240, 10], [10, 10, undefined]), "rate")).toEqual([["S1", "rate", 17, true]])
  })

  it("a bound of which a side could not be measured is missed", () => {
    for (const all of [
      S1([undefined, undefined], [10, 10]),
      S1([120, 120], [undefined, undefined]),
      S1([120, undefined], [undefined, 10])
    ]) {
      expect(judged(all, "rate")).toEqual([["S1", "rate", undefined, false]])
    }
    expect(judged(runs("S4 10,000", "fanfare", "bytes", [undefined]), "bytes")).toEqual([
      ["S4 10,000", "bytes", undefined, false]
    ])
    // Nothing divided by nothing is not a figure either.
    expect(judged(S1([0], [0]), "rate")).toEqual([["S1", "rate", NaN, false]])
  })

  it("says nothing of what was not to be measured", () => {
    expect(judge([])).toEqual([])
    expect(judge(runs("S1", "fanfare", "rate", [1]))).toEqual([])
    expect(judge(runs("S1", "hand-written", "rate", [1]))).toEqual([])
    expect(judge(runs("S4 10,000", "hand-written", "bytes", [1]))).toEqual([])
  })

  it("compares a scenario with another one of this server, too", () => {
    const grown = (cpu: number) => [
      ...runs("S5", "fanfare", "cpu", [10]),
      ...runs("S6 10,000", "fanfare", "cpu", [cpu])
    ]
    expect(judged(grown(12), "cpu")).toEqual([["S6 10,000", "cpu", 1.2, true]])
    expect(judged(grown(13), "cpu")).toEqual([["S6 10,000", "cpu", 1.3, false]])
  })
})

describe("the report", () => {
  const figures = { rate: { title: "deliveries/s", better: "more" } }
  const result = (own: ReadonlyArray<number | undefined>, other: ReadonlyArray<number | undefined>) => ({
    machine: "a machine",
    rounds: own.length,
    seconds: 1,
    scenarios: [{ id: "S1", title: "fan-out", figures }],
    peers: [
      { id: "fanfare", name: "Fanfare", about: "this" },
      { id: "hand-written", name: "hand-written", about: "a loop" }
    ],
    unavailable: [{ id: "bun", name: "Bun", why: "not installed" }],
    runs: [...runs("S1", "fanfare", "rate", own), ...runs("S1", "hand-written", "rate", other)]
  })

  it("says which bounds are met, which are missed, and which could not be measured", () => {
    const row = (text: string): string | undefined => /^\| S1 \| deliveries.*$/m.exec(text)?.[0]
    expect(row(markdown(result([120, 140], [10, 10])))).toContain("| ≥ 12 × |  | 13 (12 to 14) × | yes |")
    expect(row(markdown(result([90, 100], [10, 10])))).toContain("| ≥ 12 × |  | 9.5 (9 to 10) × | **no** |")
    expect(row(markdown(result([90, 100], [undefined, undefined])))).toContain("| no run without a fault | **no** |")
    expect(markdown(result([1], [1]))).toContain("- Bun: not measured: not installed")
  })

  it("has no figure of a run with a fault, and says why", () => {
    const broken = result([90, undefined, 100], [undefined, undefined, undefined])
    const text = markdown(broken)
    expect(text).toContain("- S1, Fanfare, round 2: 3 of 9 deliveries lost. No figure of this run is in the tables.")
    expect(text).toContain("| Fanfare | 95 (90 to 100) |  |")
    expect(text).toContain("| hand-written | none |  |")
    expect(text).not.toContain("1,000,000,000")
    const picture: string = svg(broken)
    expect([bars(picture), picture.match(/<circle/g)?.length]).toEqual([1, 2])
  })
})
