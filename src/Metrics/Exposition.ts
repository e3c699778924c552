/**
 * The metrics of any registries of Effect in Prometheus's text format, version
 * 0.0.4 (prometheus.io, "Exposition formats").
 *
 * A program names its metrics as it likes, and one line that breaks the format
 * costs the whole scrape. So names and labels are made valid, and a series that
 * then is there already, or whose name belongs to another family, is left out:
 * what comes first stays.
 */
import * as MetricKeyType from "effect/MetricKeyType"
import type * as MetricPair from "effect/MetricPair"
import * as MetricState from "effect/MetricState"
import * as Option from "effect/Option"

type Type = "counter" | "gauge" | "histogram" | "summary"

type Label = readonly [name: string, value: string]

/** A line: what is added to the family's name, and to the labels of the series. */
type Sample = readonly [suffix: "" | "_bucket" | "_sum" | "_count", label: Label | undefined, value: number | bigint]

interface Family {
  readonly type: Type
  readonly header: string
  /** By name and labels. */
  readonly samples: Map<string, string>
}

/** The names that a family's lines have, beside its own. */
const SUFFIXES: Readonly<Record<Type, ReadonlyArray<string>>> = {
  counter: [],
  gauge: [],
  histogram: ["_bucket", "_sum", "_count"],
  summary: ["_sum", "_count"]
}

/** Labels that the format itself gives a meaning. */
const RESERVED: ReadonlySet<string> = new Set(["le", "quantile"])

/** The label of what a frequency counts. */
const FREQUENCY_LABEL = "key"

const validName = (name: string): string => name.replace(/[^a-zA-Z0-9_]/g, "_").replace(/^(?![a-zA-Z_])/, "_")

// Those that begin with two underscores are Prometheus's own.
const validLabel = (name: string): string => {
  const valid = validName(name).replace(/^_+/, "_")
  return RESERVED.has(valid) ? `${valid}_` : valid
}

const escapeHelp = (text: string): string => text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n")

const escapeValue = (text: string): string => escapeHelp(text).replaceAll('"', '\\"')

const numeral = (value: number | bigint): string =>
  value === Infinity ? "+Inf" : value === -Infinity ? "-Inf" : String(value)

const histogram = ({ buckets, count, sum }: MetricState.MetricState.Histogram): ReadonlyArray<Sample> => [
  ...buckets
    .filter(([bound]) => Number.isFinite(bound))
    .map(([bound, below]): Sample => ["_bucket", ["le", numeral(bound)], below]),
  ["_bucket", ["le", "+Inf"], count],
  ["_sum", undefined, sum],
  ["_count", undefined, count]
]

const summary = ({ count, quantiles, sum }: MetricState.MetricState.Summary): ReadonlyArray<Sample> => [
  ...quantiles.map(([quantile, value]): Sample => [
    "",
    ["quantile", numeral(quantile)],
    Option.getOrElse(value, () => NaN)
  ]),
  ["_sum", undefined, sum],
  ["_count", undefined, count]
]

/** Effect's counters may go down unless they are made otherwise; a name in `_total` says as much. */
const isCounter = ({ metricKey: { keyType, name } }: MetricPair.MetricPair.Untyped): boolean =>
  (MetricKeyType.isCounterKey(keyType) && keyType.incremental) || name.endsWith("_total")

const read = (pair: MetricPair.MetricPair.Untyped): readonly [Type, ReadonlyArray<Sample>] | undefined => {
  const state: unknown = pair.metricState
  if (MetricState.isCounterState(state)) return [isCounter(pair) ? "counter" : "gauge", [["", undefined, state.count]]]
  if (MetricState.isGaugeState(state)) return ["gauge", [["", undefined, state.value]]]
  if (MetricState.isHistogramState(state)) return ["histogram", histogram(state)]
  if (MetricState.isSummaryState(state)) return ["summary", summary(state)]
  if (!MetricState.isFrequencyState(state)) return undefined
  return ["counter", Array.from(state.occurrences, ([word, count]): Sample => ["", [FREQUENCY_LABEL, word], count])]
}

const series = (labels: ReadonlyMap<string, string>): string =>
  labels.size === 0 ? "" : `{${Array.from(labels, ([name, value]) => `${name}="${escapeValue(value)}"`).join(",")}}`

/** The text of what registries hold; `metrics` are their snapshots, one after the other. */
export const render = (metrics: Iterable<MetricPair.MetricPair.Untyped>): string => {
  const families = new Map<string, Family>()
  /** Which family a name belongs to. */
  const owners = new Map<string, string>()

  const familyOf = (name: string, type: Type, help: string): Family | undefined => {
    const known = families.get(name)
    if (known !== undefined) return known.type === type ? known : undefined
    const names = ["", ...SUFFIXES[type]].map((suffix) => name + suffix)
    if (names.some((one) => owners.has(one))) return undefined
    for (const one of names) owners.set(one, name)
    const header = `# HELP ${name} ${escapeHelp(help)}\n# TYPE ${name} ${type}\n`
    const family: Family = { type, header, samples: new Map() }
    families.set(name, family)
    return family
  }

  for (const pair of metrics) {
    const { description, name: given, tags } = pair.metricKey
    const found = read(pair)
    if (found === undefined) continue
    const [type, samples] = found
    const valid = validName(given)
    const name = type === "counter" && !valid.endsWith("_total") ? `${valid}_total` : valid
    const family = familyOf(
      name,
      type,
      Option.getOrElse(description, () => `${given}, of the program.`)
    )
    if (family === undefined) continue
    const labels = tags.map(({ key, value }): Label => [validLabel(key), value])
    const lines = samples.map(([suffix, label, value]) => {
      const key = name + suffix + series(new Map(label === undefined ? labels : [...labels, label]))
      return [key, `${key} ${numeral(value)}\n`] as const
    })
    // A histogram is shown as a whole or not at all.
    if (lines.some(([key]) => family.samples.has(key))) continue
    for (const [key, line] of lines) family.samples.set(key, line)
  }

  return Array.from(families.values(), ({ header, samples }) => header + Array.from(samples.values()).join("")).join("")
}
