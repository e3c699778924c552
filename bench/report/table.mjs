// The report as Markdown.
import { byRound, ratios, summary } from "./statistics.mjs"
import { judge } from "./expectations.mjs"

/** Three digits that count, as people write them. */
export const number = (value) =>
  value >= 1000
    ? Number(value.toPrecision(3)).toLocaleString("en")
    : String(Number(value.toPrecision(value >= 1 ? 3 : 2)))

const spread = ({ median, least, most }) => `${number(median)} (${number(least)} to ${number(most)})`

const row = (cells) => `| ${cells.join(" | ")} |`

const table = (head, rows) => [row(head), row(head.map(() => "---")), ...rows.map(row)].join("\n")

const figureCells = (runs, scenario, peer, figure) => {
  const values = byRound(runs, scenario.id, peer.id, figure)
  const all = summary(Array.from(values.values()))
  if (all === undefined) return ["none", ""]
  const relative = summary(ratios(byRound(runs, scenario.id, "fanfare", figure), values))
  return [spread(all), peer.id === "fanfare" || relative === undefined ? "" : `${number(relative.median)} ×`]
}

const section = (runs, scenario, peers) => {
  const taking = peers.filter(({ id }) => runs.some((run) => run.scenario === scenario.id && run.peer === id))
  const figures = Object.entries(scenario.figures)
  const head = ["server", ...figures.flatMap(([, { title }]) => [title, "Fanfare against it"])]
  const rows = taking.map((peer) => [
    peer.name,
    ...figures.flatMap(([figure]) => figureCells(runs, scenario, peer, figure))
  ])
  return `### ${scenario.id}: ${scenario.title}\n\n${table(head, rows)}`
}

const bound = ({ atLeast, atMost, isRatio }) =>
  `${atLeast === undefined ? "≤" : "≥"} ${number(atLeast ?? atMost)}${isRatio ? " ×" : ""}`

const expectationRow = (expectation, { peers, scenarios }) => {
  const { scenario, figure, against, againstScenario, aim, isRatio, measured } = expectation
  const { title } = scenarios.find(({ id }) => id === scenario).figures[figure]
  const other = peers.find(({ id }) => id === against)?.name ?? (againstScenario && `its own in ${againstScenario}`)
  return [
    scenario,
    other === undefined ? title : `${title}, against ${other}`,
    bound(expectation),
    aim === undefined ? "" : number(aim),
    measured === undefined ? "no run without a fault" : `${spread(measured)}${isRatio ? " ×" : ""}`,
    expectation.isMet ? "yes" : "**no**"
  ]
}

const faults = (runs, peers) =>
  runs
    .filter(({ fault }) => fault !== undefined)
    .map(({ fault, peer, round, scenario }) => {
      const { name } = peers.find(({ id }) => id === peer)
      return `- ${scenario}, ${name}, round ${round}: ${fault}. No figure of this run is in the tables.`
    })

/** The whole report; `result` is what `reports/bench.json` holds. */
export const markdown = (result) => {
  const { machine, peers, rounds, runs, scenarios, unavailable } = result
  const about = peers.map(({ about, name }) => `- ${name}: ${about}`)
  const absent = unavailable.map(({ name, why }) => `- ${name}: not measured: ${why}`)
  const broken = faults(runs, peers)
  return [
    `${machine}. ${rounds} ${rounds === 1 ? "round" : "rounds"}; median (least to most).`,
    [...about, ...absent].join("\n"),
    ...(broken.length === 0 ? [] : [broken.join("\n")]),
    table(
      ["scenario", "figure", "bound", "aim", "measured", "met"],
      judge(runs).map((expectation) => expectationRow(expectation, result))
    ),
    ...scenarios.map((scenario) => section(runs, scenario, peers))
  ].join("\n\n")
}
