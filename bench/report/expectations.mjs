// What Fanfare has to show. `--check` fails where a bound is missed.
import { byRound, ratios, summary } from "./statistics.mjs"

const expectations = [
  { scenario: "S1", figure: "rate", against: "hand-written", atLeast: 12 },
  { scenario: "S1", figure: "rate", against: "socket-io", atLeast: 12 },
  { scenario: "S1", figure: "rate", against: "batched", atLeast: 0.8, aim: 0.95 },
  { scenario: "S2", figure: "p50", against: "hand-written", atMost: 1.3, aim: 1 },
  { scenario: "S3 16", figure: "rate", against: "hand-written", atLeast: 2 },
  { scenario: "S4 10,000", figure: "bytes", atMost: 20_000, aim: 14_000 },
  { scenario: "S5", figure: "cpu", against: "hand-written", atMost: 1.25, aim: 0.9 },
  { scenario: "S6 10,000", figure: "cpu", againstScenario: "S5", atMost: 1.2, aim: 1 },
  { scenario: "S7", figure: "seconds", against: "socket-io", atMost: 1, aim: 0.5 },
  { scenario: "S7", figure: "again", against: "socket-io", atMost: 1, aim: 0.5 },
  { scenario: "start", figure: "seconds", atMost: 1.5, aim: 0.7 },
  { scenario: "start", figure: "megabytes", atMost: 120, aim: 90 }
]

const isMet = (value, { atLeast, atMost }) => (atLeast === undefined ? value <= atMost : value >= atLeast)

/**
 * Each expectation of which both sides were to be measured, with what was: `measured` is `undefined` where every run
 * of one of them had a fault.
 */
export const judge = (runs) => {
  const wasRun = (scenario, peer) => runs.some((run) => run.scenario === scenario && run.peer === peer)
  return expectations
    .filter(({ scenario, against = "fanfare", againstScenario = scenario }) => {
      return wasRun(scenario, "fanfare") && wasRun(againstScenario, against)
    })
    .map((expectation) => {
      const { scenario, figure, against, againstScenario } = expectation
      const own = byRound(runs, scenario, "fanfare", figure)
      const isRatio = against !== undefined || againstScenario !== undefined
      const other = byRound(runs, againstScenario ?? scenario, against ?? "fanfare", figure)
      const measured = summary(isRatio ? ratios(own, other) : Array.from(own.values()))
      return { ...expectation, isRatio, measured, isMet: measured !== undefined && isMet(measured.median, expectation) }
    })
}
