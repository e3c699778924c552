/** The benchmark measures others, too: what it says has to be true of runs that went well, and of no other. */
import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { spawn } from "node:child_process"
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync
} from "node:fs"
import { tmpdir } from "node:os"
import { delimiter, join } from "node:path"
import { fileURLToPath } from "node:url"
import { bars } from "./support/bench.ts"
import { live } from "./support/it.ts"
import type { Json } from "./support/json.ts"
import { eventually, Watched } from "./support/wait.ts"

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

/** What the kernel says of a process; nothing where it has ended. */
const statOf = (pid: string): string => {
  try {
    return readFileSync(`/proc/${pid}/stat`, "utf8")
  } catch {
    return ""
  }
}

/** The names of the programs of a process group that have not ended. */
const programsOf = (group: number): ReadonlyArray<string> =>
  readdirSync("/proc").flatMap((pid) => {
    const [, name = "", state, own] = /\((.*)\) (\S) \d+ (\d+) /.exec(statOf(pid)) ?? []
    return Number(own) === group && state !== "Z" ? [name] : []
  })

/**
 * Runs the benchmark to its end. Nothing can be installed by it, and `fault` is what stands for Centrifugo does wrong;
 * `meanwhile` is told its process group.
 */
const bench = (
  args: ReadonlyArray<string>,
  fault = "none",
  meanwhile: (group: number) => Effect.Effect<void, unknown> = () => Effect.void
): Effect.Effect<Bench, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const folder = yield* temporaryFolder
    const [programs, out] = [join(folder, "programs"), join(folder, "reports", "new")]
    mkdirSync(programs)
    script(join(programs, "npm"), "echo nothing may be installed >&2; exit 1")
    const centrifugo = script(join(programs, "centrifugo"), `exec "${process.execPath}" "${CENTRIFUGO}" ${fault} "$@"`)
    const watched = new Watched()
    let said = ""
    let code: number | null | undefined
    const { pid: group = 0 } = yield* Effect.acquireRelease(
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
    yield* meanwhile(group)
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
    "ends its servers where it is told to end",
    () =>
      Effect.gen(function* () {
        let group = 0
        const programs = Effect.sync(() => programsOf(group))
        const ran = yield* bench(OTHER, "none", (own) =>
          Effect.gen(function* () {
            group = own
            yield* eventually(programs, (names) => names.includes("redis-server"), "its Redis runs", "1 minute")
            process.kill(own, "SIGTERM")
          })
        )
        expect([ran.code, ran.result]).toEqual([143, null])
        yield* eventually(programs, (names) => names.length === 0, "nothing of it runs")
      }),
    LIMIT
  )

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
