import { describe, expect } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { execFile } from "node:child_process"
import { lstatSync, mkdtempSync, readdirSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import * as Http from "./support/http.ts"
import { live } from "./support/it.ts"
import * as Program from "./support/program.ts"
import * as Sdk from "./support/sdk.ts"
import * as Socket from "./support/socket.ts"
import { eventually } from "./support/wait.ts"

const ROOT = fileURLToPath(new URL("..", import.meta.url))

/** What a hook of git has set would name this repository, not the clone. */
const environment = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("GIT_")))

/** Runs a command to its end; fails with what it printed. */
const run = (cwd: string, command: string, ...args: ReadonlyArray<string>): Effect.Effect<void, unknown> =>
  Effect.tryPromise({
    try: (signal) => promisify(execFile)(command, args, { cwd, signal, env: environment }),
    catch: (error) => error
  }).pipe(
    Effect.tapError((error) => Effect.logError(error)),
    Effect.asVoid
  )

const temporaryFolder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "fanfare-clone-"))),
  (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
)

/** The bytes of all files in a folder; a file of two names (esbuild links its program) counts once. */
const bytesIn = (folder: string): number => {
  const sizes = new Map<number, number>()
  for (const path of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
    const stat = lstatSync(join(folder, path))
    if (stat.isFile()) sizes.set(stat.ino, stat.size)
  }
  return Array.from(sizes.values()).reduce((sum, size) => sum + size, 0)
}

const seconds = (duration: Duration.Duration): string => `${Duration.toSeconds(duration).toFixed(1)} s`

describe("a fresh clone", () => {
  live(
    "is a running server after `npm ci && npm start`",
    () =>
      Effect.gen(function* () {
        const folder = yield* temporaryFolder
        yield* run(folder, "git", "clone", "--quiet", ROOT, "clone")
        const clone = join(folder, "clone")
        const [installed] = yield* Effect.timed(run(clone, "npm", "ci", "--no-audit", "--no-fund"))
        const megabytes = bytesIn(join(clone, "node_modules")) / 1e6

        // In a process group of its own, as in a terminal: Ctrl-C reaches all of npm, the shell and the server.
        const [listening, server] = yield* Effect.timed(
          Program.start({ run: { command: "setsid", args: ["npm", "start"] }, cwd: clone })
        )
        const signalGroup = (name: NodeJS.Signals) => Effect.ignore(Effect.try(() => process.kill(-server.pid, name)))
        yield* Effect.addFinalizer(() => signalGroup("SIGKILL"))
        process.stdout.write(
          `npm ci: ${seconds(installed)}, node_modules ${megabytes.toFixed(1)} MB; npm start listens after ${seconds(listening)}\n`
        )
        expect(megabytes).toBeLessThan(175)
        expect(Duration.toSeconds(listening)).toBeLessThan(3)

        const one = yield* Socket.open(`${server.ws}/channels/public:lobby`)
        const other = yield* Socket.open(`${server.ws}/channels/public:lobby`)
        const client = yield* Sdk.connect(server.ws)
        const subscription = yield* Sdk.subscribe(client, "public:lobby")
        const published: Array<unknown> = []
        subscription.on("publication", ({ data }) => published.push(data))
        one.send("hello")
        yield* other.count(1)
        other.send("hello back")
        yield* one.count(2)
        yield* other.count(2)
        expect(one.received).toEqual(["hello", "hello back"])
        expect(other.received).toEqual(one.received)
        yield* eventually(
          Effect.sync(() => published),
          ({ length }) => length === 2,
          "the protocol client has both"
        )
        expect(published).toEqual(one.received)

        const page = yield* Http.send(`${server.http}/`)
        expect(page.status).toBe(200)
        expect(page.headers["content-type"]).toMatch(/^text\/html/)
        expect(page.body).toContain("/connection/websocket")

        client.disconnect()
        yield* signalGroup("SIGINT")
        expect(yield* one.closed).toEqual({ code: 3001, reason: "shutdown" })
        yield* server.exit
      }),
    180_000
  )
})
