/** The program as users run it, in a process of its own: `npm start` under Node, `deno task start` under Deno. */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type ChildProcess, spawn } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { signal } from "./child.ts"
import { type NeverHappened, Watched } from "./wait.ts"

const ROOT = fileURLToPath(new URL("../..", import.meta.url))

/** A script of this folder that is loaded into the program before it starts. */
export type Preload =
  | "memory-probe.cjs"
  | "census-probe.cjs"
  | "endless-close.cjs"
  | "clock-back.cjs"
  | "accept-fails.cjs"

const pathOf = (preload: Preload): string => fileURLToPath(new URL(preload, import.meta.url))

export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export interface Program {
  readonly pid: number
  readonly port: number
  readonly http: string
  readonly ws: string
  /** Everything printed so far. */
  readonly output: () => string
  readonly signal: (name: NodeJS.Signals) => void
  /** Waits for the process to end. */
  readonly exit: Effect.Effect<Exit, NeverHappened>
  /** Waits until the output contains a text. */
  readonly says: (text: string) => Effect.Effect<void, NeverHappened>
  /** Bytes of heap and external memory after a forced collection. */
  readonly memory: Effect.Effect<number, NeverHappened>
  /** How many root fibers and resources it has, by name. */
  readonly census: Effect.Effect<Readonly<Record<string, number>>, NeverHappened>
}

export interface Command {
  readonly command: string
  readonly args: ReadonlyArray<string>
}

export interface Options {
  readonly env?: Readonly<Record<string, string>>
  readonly args?: ReadonlyArray<string>
  readonly cwd?: string
  /** Whether it is waited for until its broker is live, where it has a Redis; it is. */
  readonly waitsForBroker?: boolean
  /** How long it may take until it listens; 20 s. */
  readonly startsWithin?: Duration.DurationInput
  /** Instead of the program under the runtime of the tests. */
  readonly run?: Command
  readonly preload?: Preload
  /** Where its stdout, and stderr, go instead of to `output`: descriptors. */
  readonly stdout?: number
  readonly stderr?: number
}

/** `node dist/main.js`, which is what `npm start` runs. */
export const underNode = (node: string, preload?: Preload): Command => ({
  command: node,
  args: [...(preload === undefined ? [] : ["--expose-gc", "--require", pathOf(preload)]), `${ROOT}dist/main.js`]
})

/**
 * What `deno task start` runs, with its permissions and no more, but for the
 * folder of temporary files; without the task runner in between, which would
 * leave the server behind when it is killed.
 */
export const underDeno = (deno: string, preload?: Preload): Command => {
  const { tasks } = JSON.parse(readFileSync(`${ROOT}deno.json`, "utf8")) as { tasks: { start: string } }
  const [, run = "", ...args] = tasks.start
    .replace("--allow-read=.", `--allow-read=${ROOT},${tmpdir()}`)
    .replace("src/main.ts", `${ROOT}src/main.ts`)
    .split(" ")
  const before = preload === undefined ? [] : ["--v8-flags=--expose-gc", "--preload", pathOf(preload)]
  return { command: deno, args: [run, ...before, ...args] }
}

/** Whether the tests themselves run under Deno. */
export const isDeno = "Deno" in globalThis

const program = (preload: Preload | undefined): Command => (isDeno ? underDeno : underNode)(process.execPath, preload)

/** Starts a process without waiting for it to listen; it is killed when the scope closes. */
export const spawnProgram = (options: Options = {}) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const run = options.run ?? program(options.preload)
      const child: ChildProcess = spawn(run.command, [...run.args, ...(options.args ?? [])], {
        cwd: options.cwd,
        env: { PATH: process.env["PATH"], HOME: process.env["HOME"], ...options.env },
        stdio: ["ignore", options.stdout ?? "pipe", options.stderr ?? "pipe"]
      })
      const watched = new Watched()
      let output = ""
      let ended: Exit | undefined
      for (const stream of [child.stdout, child.stderr]) {
        stream?.setEncoding("utf8").on("data", (text: string) => {
          output += text
          watched.changed()
        })
      }
      // A program that is not there: it never starts, and so never closes.
      child.once("error", (error) => {
        output += String(error)
        ended ??= { code: null, signal: null }
        watched.changed()
      })
      child.once("close", (code, signal) => {
        ended = { code, signal }
        watched.changed()
      })
      const seen = (): string => `output so far:\n${output}`
      return {
        child,
        watched,
        output: () => output,
        ended: () => ended,
        exit: Effect.map(
          watched.until(() => ended !== undefined, seen),
          () => ended as unknown as Exit
        ),
        says: (text: string, limit?: Duration.DurationInput) =>
          watched.until(
            () => output.includes(text),
            () => `"${text}" was not said; ${seen()}`,
            limit
          )
      }
    }),
    ({ child, ended, exit }) =>
      Effect.suspend(() => {
        if (ended() !== undefined) return Effect.void
        signal(child, "SIGKILL")
        return Effect.orDie(exit)
      })
  )

/** Starts the program on a free port and waits until it listens. */
export const start = (options: Options = {}): Effect.Effect<Program, NeverHappened, Scope.Scope> =>
  Effect.gen(function* () {
    const { child, output, exit, says, watched } = yield* spawnProgram({
      ...options,
      env: { PORT: "0", ...options.env }
    })
    yield* says("listening on", options.startsWithin)
    const hasRedis = options.env?.["REDIS_URL"] !== undefined
    if (hasRedis && options.waitsForBroker !== false) yield* says("broker live")
    /** Asks a script that was loaded into the program. */
    const probe = <A>(answer: RegExp, name: string, read: (text: string) => A): Effect.Effect<A, NeverHappened> =>
      Effect.suspend(() => {
        const answers = () => Array.from(output().matchAll(answer), ([, text = ""]) => text)
        const before = answers().length
        signal(child, "SIGUSR2")
        return Effect.map(
          watched.until(() => answers().length > before, `the ${name} probe answers`),
          () => read(answers().at(-1) ?? "")
        )
      })
    const port = Number(/listening on http:\/\/[^\s]+:(\d+)/.exec(output())?.[1])
    return {
      pid: child.pid ?? 0,
      port,
      http: `http://127.0.0.1:${port}`,
      ws: `ws://127.0.0.1:${port}`,
      output,
      signal: (name) => signal(child, name),
      exit,
      says,
      memory: probe(/^memory: (\d+)$/gm, "memory", Number),
      census: probe(/^census: (.*)$/gm, "census", (text) => JSON.parse(text) as Readonly<Record<string, number>>)
    }
  })

/** A file in a folder of its own, removed when the scope closes. */
export const temporaryFile = (name: string, content: string): Effect.Effect<string, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "fanfare-"))),
      (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
    ),
    (folder) => {
      const path = join(folder, name)
      writeFileSync(path, content)
      return path
    }
  )
