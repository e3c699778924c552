/** The benchmark measures others, too: what it says has to be true of runs that went well, and of no other. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { spawn } from "node:child_process"
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { delimiter, join } from "node:path"
import { fileURLToPath } from "node:url"
import { type WebSocket, WebSocketServer } from "ws"
import { live } from "./support/it.ts"
import type { Json } from "./support/json.ts"
import { Watched } from "./support/wait.ts"

// The benchmark is JavaScript, without types.
const load = (path: string): Promise<Json> => import(new URL(`../bench/${path}`, import.meta.url).href)

const { Load } = await load("harness/Load.mjs")
const { jsonRooms } = await load("peers/internal/json-rooms.mjs")
const { judge } = await load("report/expectations.mjs")
const { svg } = await load("report/plot.mjs")
const { byRound, median, quantile, ratios, summary } = await load("report/statistics.mjs")
const { markdown } = await load("report/table.mjs")

// ── The whole of it ────────────────────────────────────────────────────────

const RUN = fileURLToPath(new URL("../bench/run.mjs", import.meta.url))
const CENTRIFUGO = fileURLToPath(new URL("./support/centrifugo.mjs", import.meta.url))

const temporaryFolder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "fanfare-bench-"))),
  (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
)

/** A program of a few lines of shell. */
const script = (path: string, text: string): string => {
  writeFileSync(path, `#!/bin/sh\n${text}\n`)
  chmodSync(path, 0o755)
  return path
}

interface Bench {
  readonly code: number | null
  readonly said: string
  readonly result: Json
  readonly markdown: string
  readonly svg: string
}

/** Runs the benchmark to its end. Nothing can be installed by it, and `fault` is what stands for Centrifugo does wrong. */
const bench = (args: ReadonlyArray<string>, fault = "none"): Effect.Effect<Bench, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const folder = yield* temporaryFolder
    const [programs, out] = [join(folder, "programs"), join(folder, "reports", "new")]
    mkdirSync(programs)
    script(join(programs, "npm"), "echo nothing may be installed >&2; exit 1")
    const centrifugo = script(join(programs, "centrifugo"), `exec "${process.execPath}" "${CENTRIFUGO}" ${fault} "$@"`)
    const watched = new Watched()
    let said = ""
    let code: number | null | undefined
    yield* Effect.acquireRelease(
      Effect.sync(() => {
        // In a process group of its own: whatever happens, its servers end with it.
        const child = spawn(process.execPath, [RUN, ...args, "--out", out], {
          detached: true,
          env: {
            ...process.env,
            PATH: [programs, process.env["PATH"]].join(delimiter),
            CENTRIFUGO_BIN: centrifugo
          },
          stdio: ["ignore", "pipe", "pipe"]
        })
        for (const stream of [child.stdout, child.stderr]) {
          stream.setEncoding("utf8").on("data", (text: string) => {
            said += text
          })
        }
        child.on("close", (with_) => {
          code = with_
          watched.changed()
        })
        return child
      }),
      ({ pid }) =>
        Effect.suspend(() => {
          if (code !== undefined || pid === undefined) return Effect.void
          process.kill(-pid, "SIGKILL")
          return Effect.orDie(watched.until(() => code !== undefined, "the benchmark ends"))
        })
    )
    yield* watched.until(
      () => code !== undefined,
      () => `the benchmark ends; it says ${said}`,
      "4 minutes"
    )
    const read = (name: string): string => (existsSync(join(out, name)) ? readFileSync(join(out, name), "utf8") : "")
    return {
      code: code ?? null,
      said,
      result: JSON.parse(read("bench.json") || "null"),
      markdown: read("bench.md"),
      svg: read("bench.svg")
    }
  })

const LIMIT = 300_000

const SHORT = ["--rounds", "1", "--seconds", "0.5"]

const bars = (svg: string): number => svg.match(/<rect x/g)?.length ?? 0

describe("npm run bench", () => {
  live(
    "measures this server and one that needs no packages of its own, and reports both",
    () =>
      Effect.gen(function* () {
        const ran = yield* bench([...SHORT, "--scenarios", "S1,S5", "--peers", "fanfare,hand-written"])
        expect([ran.code, ran.said]).toEqual([0, expect.stringContaining("0 runs refused")])
        const measured = ran.result.runs.map(({ fault, peer, round, scenario }: Json) => [round, scenario, peer, fault])
        expect(measured).toEqual([
          [1, "S1", "fanfare", undefined],
          [1, "S1", "hand-written", undefined],
          [1, "S5", "fanfare", undefined],
          [1, "S5", "hand-written", undefined]
        ])
        for (const { cpu, rate, scenario } of ran.result.runs) {
          expect(cpu).toBeGreaterThan(0)
          if (scenario === "S1") expect(rate).toBeGreaterThan(0)
        }
        expect(ran.markdown).toMatch(/^\| Fanfare \| \d.*\) \|/m)
        expect(ran.markdown).toMatch(/^\| hand-written \| \d.*\) \| \d\S* × \|/m)
        expect(ran.said).toContain(ran.markdown)
        // Rate and CPU in one scenario, CPU in the other, of both.
        expect(bars(ran.svg)).toBe(6)
      }),
    LIMIT
  )

  const OTHER = [...SHORT, "--check", "--scenarios", "S2", "--peers", "centrifugo"]

  live(
    "--check: a run in which everything came, once and in order, is one",
    () =>
      Effect.gen(function* () {
        const ran = yield* bench(OTHER)
        expect([ran.code, ran.said]).toEqual([0, expect.stringContaining("0 runs refused")])
        expect(ran.result.runs[0].p50).toBeGreaterThan(0)
        expect(bars(ran.svg)).toBe(2)
      }),
    LIMIT
  )

  for (const [fault, why] of [
    ["lose", /deliveries lost/],
    ["repeat", /deliveries twice, out of order/],
    ["swap", /deliveries lost/]
  ] as const) {
    live(
      `--check: the run of a server that does not deliver well (${fault}) has no figure, and fails it`,
      () =>
        Effect.gen(function* () {
          const ran = yield* bench(OTHER, fault)
          expect([ran.code, ran.said]).toEqual([1, expect.stringContaining("1 runs refused")])
          expect(ran.result.runs[0].fault).toMatch(why)
          expect(ran.markdown).toMatch(/^- S2, Centrifugo, round 1: .*No figure of this run is in the tables\.$/m)
          expect(ran.markdown).toMatch(/^\| Centrifugo \| none \|/m)
          expect(bars(ran.svg)).toBe(0)
        }),
      LIMIT
    )
  }

  live(
    "says what it does not know, and measures nothing",
    () =>
      Effect.gen(function* () {
        for (const [args, why] of [
          [["--peers", "fanfare,nobody"], '--peers: no "nobody"; there are fanfare, '],
          [["--scenarios", "S99"], '--scenarios: no "S99"; there are S1, '],
          [["--rounds", "0"], "--rounds: expected a number above 0"],
          [["--seconds", "soon"], "--seconds: expected a number above 0"]
        ] as const) {
          const ran = yield* bench(args)
          expect([ran.code, ran.result]).toEqual([2, null])
          expect(ran.said).toContain(`bench: ${why}`)
        }
      }),
    LIMIT
  )
})

// ── The account of what came ───────────────────────────────────────────────

/** What a client gets in place of a message: `index` is the client's, `nth` the message's, from 1. */
type Deliver = (text: string, index: number, nth: number, socket: WebSocket) => ReadonlyArray<string>

/** A server of rooms in this process; what a client of the room gets is for `deliver` to say. */
const rooms = (deliver: Deliver) =>
  Effect.gen(function* () {
    const members: Array<{ readonly socket: WebSocket; readonly room: string; heard: number }> = []
    const server = yield* Effect.acquireRelease(
      Effect.async<WebSocketServer>((resume) => {
        const one: WebSocketServer = new WebSocketServer({ host: "127.0.0.1", port: 0 })
        one.once("listening", () => resume(Effect.succeed(one)))
      }),
      (one) =>
        Effect.async<void>((resume) => {
          for (const client of one.clients) client.terminate()
          one.close(() => resume(Effect.void))
        })
    )
    server.on("connection", (socket) => {
      socket.on("message", (bytes) => {
        const { data, room, type } = JSON.parse(String(bytes))
        if (type === "join") {
          members.push({ socket, room, heard: 0 })
          socket.send(JSON.stringify({ type: "joined", room }))
          return
        }
        for (const [index, member] of members.entries()) {
          if (member.room !== room) continue
          const text = JSON.stringify({ type: "message", room, data })
          for (const one of deliver(text, index, ++member.heard, member.socket)) member.socket.send(one)
        }
      })
    })
    return {
      port: (server.address() as AddressInfo).port,
      /** Sends to all clients. */
      tell: (text: string) => {
        for (const { socket } of members) socket.send(text)
      }
    }
  })

/** The load on such a server, all of its clients connected. */
const loadOn = (deliver: Deliver, options: object) =>
  Effect.gen(function* () {
    const { port, tell } = yield* rooms(deliver)
    const load = yield* Effect.acquireRelease(
      Effect.sync(() => new Load(jsonRooms, options)),
      (one) => Effect.sync(() => one.close())
    )
    yield* Effect.promise(() => load.open([{ port }]))
    return {
      load,
      tell,
      publish: (times: number) =>
        Effect.repeatN(
          Effect.promise(() => load.once()),
          times - 1
        )
    }
  })

const ROOM = { connections: 4, publishers: 2 }

const asIs: Deliver = (text) => [text]

/** What goes wrong for the client 1, with its third message: the second one of its first publisher. */
const third =
  (instead: (text: string, socket: WebSocket) => ReadonlyArray<string>): Deliver =>
  (text, index, nth, socket) =>
    index === 1 && nth === 3 ? instead(text, socket) : [text]

/** The message that the same publisher sends next. */
const later = (text: string): string =>
  text.replace(/:(\d{8}):/, (_, n) => `:${String(Number(n) + 1).padStart(8, "0")}:`)

describe("Load, the account of a run", () => {
  live("has no fault where every message came to everybody of its room, once and in order", () =>
    Effect.gen(function* () {
      for (const options of [ROOM, { connections: 12, rooms: 3, publishers: 6 }, { ...ROOM, size: 1000 }]) {
        const { load, publish } = yield* loadOn(asIs, options)
        yield* publish(5)
        const each = load.connections / ("rooms" in options ? options.rooms : 1)
        expect([load.published, load.received, load.fault]).toEqual([
          5 * options.publishers,
          5 * options.publishers * each,
          undefined
        ])
      }
    })
  )

  live("counts each message of a frame that holds several", () =>
    Effect.gen(function* () {
      const held = new Map<number, string>()
      const { load, publish } = yield* loadOn((text, index) => {
        const before = held.get(index)
        if (before === undefined) {
          held.set(index, text)
          return []
        }
        held.delete(index)
        return [`${before}\n${text}`]
      }, ROOM)
      yield* publish(5)
      expect([load.received, load.fault]).toEqual([40, undefined])
    })
  )

  live("keeps the latencies from when it is told to, one for each delivery", () =>
    Effect.gen(function* () {
      const { load, publish } = yield* loadOn(asIs, ROOM)
      yield* publish(2)
      const latencies = load.keepLatencies()
      yield* publish(3)
      expect(latencies.length).toBe(24)
      expect(latencies.every((latency: number) => latency >= 0 && latency < 10e6)).toBe(true)
    })
  )

  const STALE = "1 deliveries twice, out of order or in the wrong room"

  const cases: ReadonlyArray<
    readonly [name: string, deliver: Deliver, times: number, why: string, options?: typeof ROOM & { rooms: number }]
  > = [
    ["a message is lost", third(() => []), 2, "1 of 16 deliveries lost"],
    ["a message comes twice", third((text) => [text, text]), 3, STALE],
    ["one is lost, and another comes twice", third((text) => [later(text), later(text)]), 3, "1 of 24 deliveries lost"],
    ["one comes before its time", third((text) => [text, later(later(text))]), 3, STALE],
    [
      "one comes that is of another room",
      third((text) => [text, later(text).replace("@@00001:", "@@00000:")]),
      3,
      STALE,
      { connections: 4, rooms: 2, publishers: 2 }
    ],
    [
      "a client is closed",
      third((_, socket) => {
        socket.close(1011)
        return []
      }),
      3,
      "a connection ended: closed with 1011"
    ],
    [
      "a client is cut off",
      third((_, socket) => {
        socket.terminate()
        return []
      }),
      3,
      "a connection ended: "
    ]
  ]

  for (const [name, deliver, times, why, options = ROOM] of cases) {
    live(`has a fault where ${name}`, () =>
      Effect.gen(function* () {
        const { load, publish } = yield* loadOn(deliver, options)
        yield* publish(times)
        expect(load.fault).toContain(why)
      })
    )
  }

  live("has a fault where two of one publisher are out of order", () =>
    Effect.gen(function* () {
      const held: Array<string> = []
      const deliver: Deliver = (text, index, nth) => {
        if (index !== 1 || nth < 3 || nth > 4) return [text]
        held.push(text)
        return nth === 3 ? [] : held.toReversed()
      }
      const { load } = yield* loadOn(deliver, { connections: 4, publishers: 1 })
      yield* Effect.promise(() => load.saturate(0.05, 8))
      expect(load.published).toBeGreaterThanOrEqual(8)
      // What came too late is not made up for.
      expect([load.stale, load.fault]).toEqual([1, `1 of ${load.expected} deliveries lost`])
    })
  )
})

// ── What is made of it ─────────────────────────────────────────────────────

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
