import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import * as Metric from "effect/Metric"
import * as MetricBoundaries from "effect/MetricBoundaries"
import * as MetricKey from "effect/MetricKey"
import * as MetricRegistry from "effect/MetricRegistry"
import * as Exposition from "../src/Metrics/Exposition.ts"

const counter = (name: string, options: { readonly description?: string; readonly incremental?: boolean } = {}) =>
  MetricKey.counter(name, { incremental: true, ...options })

/** The text of a registry that a test fills. */
const rendered = (fill: (registry: MetricRegistry.MetricRegistry) => void): string => {
  const registry = MetricRegistry.make()
  fill(registry)
  return Exposition.render(registry.snapshot())
}

const LINE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/s
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\[\\"n])*)"(?:,|$)/y

/** Reads labels as Prometheus does; fails where they are none. */
const labelsOf = (text: string): ReadonlyArray<readonly [name: string, value: string]> => {
  const labels: Array<readonly [string, string]> = []
  LABEL.lastIndex = 0
  while (LABEL.lastIndex < text.length) {
    const [, name = "", value = ""] = LABEL.exec(text) ?? expect.fail(`not labels: ${text}`)
    labels.push([name, value.replace(/\\(.)/g, (_, escaped) => (escaped === "n" ? "\n" : escaped))])
  }
  return labels
}

/** The lines that are samples. */
const samples = (text: string) =>
  text
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => {
      const [, name = "", labels = "", value = ""] = LINE.exec(line) ?? expect.fail(`not a sample: ${line}`)
      return { name, labels: labelsOf(labels), value: Number(value.replace("Inf", "Infinity")) }
    })

describe("Exposition", () => {
  it("each type of Effect has its own in the format", () => {
    const text = rendered((registry) => {
      registry.getCounter(counter("sent_total", { description: "Sent." })).update(2)
      registry.getGauge(MetricKey.gauge("depth")).update(-1.5)
      registry.getCounter(counter("balance", { incremental: false })).update(-3)
      const histogram = MetricKey.histogram("wait_seconds", MetricBoundaries.fromIterable([0.1, 1]), "Wait.")
      for (const value of [0.05, 0.1, 0.5, 7]) registry.getHistogram(histogram).update(value)
      registry.getFrequency(MetricKey.frequency("words", { description: "Words." })).update("hello")
      const summary = MetricKey.summary({
        name: "size",
        maxAge: "1 hour",
        maxSize: 10,
        error: 0,
        quantiles: [0.5],
        description: "Size."
      })
      registry.getSummary(summary).update([4, Date.now()])
      registry.getCounter(MetricKey.counter("large_total", { bigint: true, incremental: true })).update(2n ** 64n)
    })
    expect(text).toBe(`# HELP sent_total Sent.
# TYPE sent_total counter
sent_total 2
# HELP depth depth, of the program.
# TYPE depth gauge
depth -1.5
# HELP balance balance, of the program.
# TYPE balance gauge
balance -3
# HELP wait_seconds Wait.
# TYPE wait_seconds histogram
wait_seconds_bucket{le="0.1"} 2
wait_seconds_bucket{le="1"} 3
wait_seconds_bucket{le="+Inf"} 4
wait_seconds_sum 7.65
wait_seconds_count 4
# HELP words_total Words.
# TYPE words_total counter
words_total{key="hello"} 1
# HELP size Size.
# TYPE size summary
size{quantile="0.5"} 4
size_sum 4
size_count 1
# HELP large_total large_total, of the program.
# TYPE large_total counter
large_total 18446744073709551616
`)
  })

  it("label values of any characters arrive as they are, each series on one line", () => {
    FastCheck.assert(
      FastCheck.property(FastCheck.string({ unit: "binary" }), (value) => {
        const text = rendered((registry) => registry.getCounter(MetricKey.tagged(counter("a"), "label", value)))
        expect(samples(text)).toEqual([{ name: "a_total", labels: [["label", value]], value: 0 }])
      }),
      { examples: [['"'], ["\\"], ["\n"], ['\\n"},a="'], ["\\\\\n\\"]] }
    )
  })

  it("names, labels and help of any characters are valid, and no label comes twice", () => {
    const text = FastCheck.string({ unit: "binary" })
    FastCheck.assert(
      FastCheck.property(text, text, FastCheck.array(text), (name, description, labels) => {
        const exposed = rendered((registry) =>
          registry.getGauge(
            labels.reduce((key, label) => MetricKey.tagged(key, label, "1"), MetricKey.gauge(name, { description }))
          )
        )
        expect(exposed.split("\n").length).toBe(4)
        const [sample] = samples(exposed)
        const names = sample?.labels.map(([label]) => label) ?? []
        expect(new Set(names).size).toBe(names.length)
        expect(names.filter((label) => label.startsWith("__") || label === "le" || label === "quantile")).toEqual([])
      }),
      { examples: [["a\nb", "c\nd\\", ["le", "__name__", "a-b", "a_b", ""]]] }
    )
  })

  it("histograms: buckets are cumulative, and the last is the count", () => {
    FastCheck.assert(
      FastCheck.property(
        FastCheck.uniqueArray(FastCheck.double({ noNaN: true, min: 0, max: 100 }), { minLength: 1 }),
        FastCheck.array(FastCheck.double({ noNaN: true, min: 0, max: 1000 })),
        (bounds, values) => {
          const text = rendered((registry) => {
            const boundaries = MetricBoundaries.fromIterable(bounds.toSorted((one, other) => one - other))
            const histogram = registry.getHistogram(MetricKey.histogram("h", boundaries))
            for (const value of values) histogram.update(value)
          })
          const all = samples(text)
          for (const { labels, name, value } of all) {
            if (name !== "h_bucket") continue
            const bound = Number(labels[0]?.[1].replace("Inf", "Infinity"))
            expect(value).toBe(values.filter((one) => one <= bound).length)
          }
          expect(all.at(-3)).toEqual({ name: "h_bucket", labels: [["le", "+Inf"]], value: values.length })
          expect(all.at(-1)).toEqual({ name: "h_count", labels: [], value: values.length })
        }
      )
    )
  })

  it("numbers that are none are written as Prometheus reads them", () => {
    const text = rendered((registry) => {
      for (const value of [Infinity, -Infinity, NaN, 1e-7, 1e21]) {
        registry.getGauge(MetricKey.tagged(MetricKey.gauge("g"), "v", String(value))).update(value)
      }
    })
    expect(Array.from(text.matchAll(/\} (\S+)/g), ([, value]) => value)).toEqual([
      "+Inf",
      "-Inf",
      "NaN",
      "1e-7",
      "1e+21"
    ])
  })

  it("what would be there twice is left out: the first stays", () => {
    const text = rendered((registry) => {
      registry.getHistogram(MetricKey.histogram("wait", MetricBoundaries.fromIterable([1]), "First."))
      registry.getGauge(MetricKey.gauge("wait_count")).update(7)
      registry.getGauge(MetricKey.gauge("wait", { description: "Another type." })).update(7)
      registry.getCounter(counter("a.b", { description: "First." })).update(1)
      registry.getCounter(counter("a_b")).update(7)
      registry.getCounter(MetricKey.tagged(counter("a-b"), "x", "1")).update(2)
    })
    expect(text).toBe(`# HELP wait First.
# TYPE wait histogram
wait_bucket{le="1"} 0
wait_bucket{le="+Inf"} 0
wait_sum 0
wait_count 0
# HELP a_b_total First.
# TYPE a_b_total counter
a_b_total 1
a_b_total{x="1"} 2
`)
  })

  it.effect("what a program counts with Effect's Metric is shown", () =>
    Effect.gen(function* () {
      const orders = Metric.counter("test_orders_total", { description: "Orders." })
      yield* Metric.incrementBy(Metric.tagged(orders, "shop", 'the "old" one'), 3)
      expect(Exposition.render(Metric.unsafeSnapshot())).toContain(
        '# HELP test_orders_total Orders.\n# TYPE test_orders_total counter\ntest_orders_total{shop="the \\"old\\" one"} 3\n'
      )
    })
  )
})
