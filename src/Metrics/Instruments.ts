/**
 * What counts: the metrics of one registry of Effect, as the code that sees the
 * events uses them. The hooks of a registry are synchronous, and an update costs
 * what the addition costs that is in it.
 */
import * as MetricBoundaries from "effect/MetricBoundaries"
import type * as MetricHook from "effect/MetricHook"
import * as MetricKey from "effect/MetricKey"
import * as MetricLabel from "effect/MetricLabel"
import type * as MetricRegistry from "effect/MetricRegistry"

/** Goes up. */
export class Counter {
  readonly #hook: MetricHook.MetricHook.Counter<number>

  constructor(hook: MetricHook.MetricHook.Counter<number>) {
    this.#hook = hook
  }

  add(count = 1): void {
    this.#hook.update(count)
  }

  get value(): number {
    return this.#hook.get().count
  }
}

/** Goes up and down. */
export class Gauge {
  readonly #hook: MetricHook.MetricHook.Gauge<number>

  constructor(hook: MetricHook.MetricHook.Gauge<number>) {
    this.#hook = hook
  }

  add(count = 1): void {
    this.#hook.modify(count)
  }

  set(value: number): void {
    this.#hook.update(value)
  }

  get value(): number {
    return this.#hook.get().value
  }
}

/** Durations, in seconds, by how long they are. */
export class Histogram {
  readonly #hook: MetricHook.MetricHook.Histogram

  constructor(hook: MetricHook.MetricHook.Histogram) {
    this.#hook = hook
  }

  observe(seconds: number): void {
    this.#hook.update(seconds)
  }

  /** How many were observed. */
  get count(): number {
    return this.#hook.get().count
  }
}

/** The label value of everything that is not known beforehand, so that nobody's choice of values makes series. */
export const OTHER = "other"

/** Upper bounds of the buckets of all histograms, in seconds: from what a turn of the event loop takes to any deadline. */
const SECONDS = MetricBoundaries.fromIterable([
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5
])

type Labels = Readonly<Record<string, string>>

const labelsOf = (labels: Labels): ReadonlyArray<MetricLabel.MetricLabel> =>
  Object.entries(labels).map(([key, value]) => MetricLabel.make(key, value))

/** Makes the metrics of a registry. Each is there from then on, at 0; one with the same name and labels is the same. */
export class Instruments {
  readonly #registry: MetricRegistry.MetricRegistry

  constructor(registry: MetricRegistry.MetricRegistry) {
    this.#registry = registry
  }

  counter(name: string, description: string, labels: Labels = {}): Counter {
    const key = MetricKey.counter(name, { description, incremental: true })
    return new Counter(this.#registry.getCounter(MetricKey.taggedWithLabels(key, labelsOf(labels))))
  }

  gauge(name: string, description: string, labels: Labels = {}): Gauge {
    const key = MetricKey.gauge(name, { description })
    return new Gauge(this.#registry.getGauge(MetricKey.taggedWithLabels(key, labelsOf(labels))))
  }

  histogram(name: string, description: string, labels: Labels = {}): Histogram {
    const key = MetricKey.histogram(name, SECONDS, description)
    return new Histogram(this.#registry.getHistogram(MetricKey.taggedWithLabels(key, labelsOf(labels))))
  }
}

/** One for each value of a label. */
export const each = <Value extends string, A>(
  label: string,
  values: ReadonlyArray<Value>,
  make: (labels: Labels) => A
): Readonly<Record<Value, A>> =>
  Object.fromEntries(values.map((value) => [value, make({ [label]: value })])) as Record<Value, A>

/** One for each value of a label that is known beforehand, and one for all others. */
export const known = <A>(
  label: string,
  values: Iterable<string | number>,
  make: (labels: Labels) => A
): ((value: string | number) => A) => {
  const other = make({ [label]: OTHER })
  const byValue = new Map<string | number, A>(Array.from(values, (value) => [value, make({ [label]: String(value) })]))
  return (value) => byValue.get(value) ?? other
}
