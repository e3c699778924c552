import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { spawnSync } from "node:child_process"
import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { dirname } from "node:path"
import { fileURLToPath } from "node:url"
import * as Api from "./support/api.ts"
import { raw } from "./support/history.ts"
import * as Http from "./support/http.ts"
import { live } from "./support/it.ts"
import * as Redis from "./support/redis.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"

const PROMTOOL = process.env["PROMTOOL_BIN"] ?? "promtool"
const path = (name: string): string => fileURLToPath(new URL(`../docs/${name}`, import.meta.url))
const read = (name: string): string => readFileSync(path(name), "utf8")

interface Family {
  readonly type: string
  readonly labels: ReadonlyArray<string>
}

/** What a server over Redis answers after some traffic, and its families. */
const scrape = Effect.gen(function* () {
  const { url } = yield* Redis.start()
  const server = yield* Server.start({ config: { redis_url: url, ...Api.keyed } })
  const plain = yield* Socket.open(`${server.ws}/channels/public:lobby`)
  const { ask } = yield* raw(server)
  yield* ask("subscribe", { channel: "public:lobby" })
  yield* ask("subscribe", { channel: "nowhere:x" })
  const api = yield* Api.make(server.http)
  yield* api.result("publish", { channel: "public:lobby", data: { hello: "world" } })
  plain.send("hello")
  yield* plain.count(2)
  return (yield* Http.send(`${server.http}/metrics`)).body
})

/** What this process has counted elsewhere is not the server's. */
const ours = (name: string): boolean => /^(fanfare|process|effect)_/.test(name)

const familiesOf = (text: string): ReadonlyMap<string, Family> =>
  new Map(
    Array.from(text.matchAll(/^# TYPE (\w+) (\w+)$/gm), ([, name = "", type = ""]) => {
      const samples = Array.from(text.matchAll(new RegExp(`^${name}(?:_bucket|_sum|_count)?\\{(.*)\\} `, "gm")))
      const labels = samples.flatMap(([, all = ""]) => Array.from(all.matchAll(/(\w+)="/g), ([, label = ""]) => label))
      const own = [...new Set(labels)].filter((label) => label !== "le").toSorted()
      return [name, { type, labels: own }] as const
    }).filter(([name]) => ours(name))
  )

/** What docs/metrics.md has in its tables. */
const documented: ReadonlyMap<string, Family> = new Map(
  Array.from(
    read("metrics.md").matchAll(/^\| `(\w+_\w+)` +\| (\w+) +\| ([^|]*) \|/gm),
    ([, name = "", type = "", labels = ""]) => [
      name,
      { type, labels: Array.from(labels.matchAll(/`(\w+)`/g), ([, label = ""]) => label).toSorted() }
    ]
  )
)

/** The names of a metric in queries. */
const queried = (text: string): ReadonlyArray<string> => [
  ...new Set(Array.from(text.matchAll(/\b(?:fanfare|process|effect)_\w+/g), ([name]) => name))
]

/** The names that lines of these families have. */
const namesOf = (families: ReadonlyMap<string, Family>): ReadonlySet<string> =>
  new Set(
    Array.from(families).flatMap(([name, { type }]) =>
      type === "histogram" ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name]
    )
  )

describe("/metrics", () => {
  live(
    "has no complaint of promtool; every metric is documented, with its type and labels, and the other way round",
    () =>
      Effect.gen(function* () {
        const text = yield* scrape
        const { status, stderr, stdout } = spawnSync(PROMTOOL, ["check", "metrics"], { input: text, encoding: "utf8" })
        expect({ status, stderr, stdout }).toEqual({ status: 0, stderr: "", stdout: "" })
        const families = familiesOf(text)
        const sorted = (all: ReadonlyMap<string, Family>) =>
          Array.from(all).toSorted(([one], [other]) => (one < other ? -1 : 1))
        expect(sorted(documented)).toEqual(sorted(families))
      })
  )
})

interface Panel {
  readonly id: number
  readonly type: string
  readonly title: string
  readonly targets?: ReadonlyArray<{ readonly expr: string }>
}

const dashboard = JSON.parse(read("grafana-dashboard.json")) as {
  readonly panels: ReadonlyArray<Panel>
  readonly templating: {
    readonly list: ReadonlyArray<{ readonly name: string; readonly type: string; readonly query: unknown }>
  }
}

describe("the dashboard", () => {
  it("asks for metrics that are served, and leaves none of Fanfare's out", () => {
    const expressions = dashboard.panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr))
    const names = queried([...expressions, JSON.stringify(dashboard.templating)].join("\n"))
    const known = namesOf(documented)
    expect(names.filter((name) => !known.has(name))).toEqual([])
    const missing = Array.from(documented.keys()).filter(
      (name) => name.startsWith("fanfare_") && !names.some((one) => one.replace(/_bucket$/, "") === name)
    )
    expect(missing).toEqual([])
  })

  it("has its rows and variables, and a number for each panel", () => {
    expect(dashboard.panels.filter(({ type }) => type === "row").map(({ title }) => title)).toEqual([
      "Clients",
      "Messages",
      "Latency",
      "Broker",
      "Process"
    ])
    expect(dashboard.templating.list.map(({ name, type }) => [name, type])).toEqual([
      ["datasource", "datasource"],
      ["job", "query"],
      ["instance", "query"]
    ])
    expect(new Set(dashboard.panels.map(({ id }) => id)).size).toBe(dashboard.panels.length)
  })

  it("has expressions that Prometheus understands", () => {
    const expressions = dashboard.panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr))
    const rules = expressions.map((expr, index) => {
      const concrete = expr
        .replaceAll("$__rate_interval", "5m")
        .replaceAll("$instance", ".*")
        .replaceAll("$job", "fanfare")
      return { record: `panel:${index}`, expr: concrete }
    })
    // JSON is YAML.
    const file = fileURLToPath(new URL("../reports/dashboard-rules.yml", import.meta.url))
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, JSON.stringify({ groups: [{ name: "dashboard", rules }] }))
    const { status, stderr } = spawnSync(PROMTOOL, ["check", "rules", file], { encoding: "utf8" })
    expect([status, stderr]).toEqual([0, ""])
  })
})

describe("the alerts", () => {
  const rules = read("prometheus-rules.yml")

  it("are rules without a complaint of promtool", () => {
    const { status, stderr, stdout } = spawnSync(PROMTOOL, ["check", "rules", path("prometheus-rules.yml")], {
      encoding: "utf8"
    })
    expect([status, stderr]).toEqual([0, ""])
    expect(stdout).toMatch(/SUCCESS: \d+ rules found/)
  })

  it("notice slow clients: one publication of a hundred that does not fit is enough, and less is not", () => {
    const alert = (dropped: number) => ({
      interval: "1m",
      input_series: [
        { series: 'fanfare_deliveries_total{instance="a"}', values: "0+10000x60" },
        { series: 'fanfare_dropped_total{instance="a",reason="mailbox_full"}', values: `0+${dropped}x60` }
      ],
      promql_expr_test: [
        {
          expr: 'count(ALERTS{alertname="FanfareSlowClients",alertstate="firing"}) or vector(0)',
          eval_time: "40m",
          exp_samples: [{ labels: "{}", value: dropped > 101 ? 1 : 0 }]
        }
      ]
    })
    const file = path("../reports/alert-tests.yml")
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, JSON.stringify({ rule_files: [path("prometheus-rules.yml")], tests: [alert(200), alert(50)] }))
    const { status, stderr, stdout } = spawnSync(PROMTOOL, ["test", "rules", file], { encoding: "utf8" })
    expect([status, stdout + stderr]).toEqual([0, expect.stringContaining("SUCCESS")])
  })

  it("ask for metrics that are served, and each is explained", () => {
    const known = namesOf(documented)
    expect(queried(rules).length).toBeGreaterThan(5)
    expect(queried(rules).filter((name) => !known.has(name))).toEqual([])
    const alerts = Array.from(rules.matchAll(/- alert: (\w+)/g), ([, name]) => name)
    expect(Array.from(read("metrics.md").matchAll(/^\| `(Fanfare\w+)`/gm), ([, name]) => name)).toEqual(alerts)
  })
})
