import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import { closeSync, mkdtempSync, openSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { SECRET } from "./support/auth.ts"
import { signal } from "./support/child.ts"
import * as Http from "./support/http.ts"
import { live } from "./support/it.ts"
import * as Program from "./support/program.ts"
import * as Socket from "./support/socket.ts"
import { eventually, Watched } from "./support/wait.ts"

const NOTICE = "fanfare: the log cannot be written to stdout: "

const GRACEFUL = { code: 0, signal: null }

/** The port that a server listens on, whatever becomes of its log. */
const FREE = { PORT: "0" }

/** Makes the server write a line to its log: it says that it refuses this. */
const logALine = (port: number, channel: string) => Socket.refusal(`ws://127.0.0.1:${port}/channels/${channel}:x`)

/** The server goes on, and ends as it should. */
const goesOn = (port: number, child: ChildProcess, exit: Effect.Effect<Program.Exit, unknown>) =>
  Effect.gen(function* () {
    const socket = yield* Socket.open(`ws://127.0.0.1:${port}/channels/public:a`)
    for (let count = 0; count < 5; count++) yield* logALine(port, "none")
    socket.send("still here")
    yield* socket.gets("still here")
    expect((yield* Http.send(`http://127.0.0.1:${port}/health/ready`)).status).toBe(200)
    signal(child, "SIGTERM")
    expect((yield* socket.closed).code).toBe(3001)
    expect(yield* exit).toEqual(GRACEFUL)
  })

const portOf = (output: string): number => Number(/localhost:(\d+)/.exec(output)?.[1])

/** A device on which nothing can be written. */
const full = Effect.acquireRelease(
  Effect.sync(() => openSync("/dev/full", "w")),
  (descriptor) => Effect.sync(() => closeSync(descriptor))
)

/** A process that writes what it reads from a file. */
const reader = (path: string) =>
  Effect.gen(function* () {
    const watched = new Watched()
    let output = ""
    let isClosed = false
    const child = spawn("cat", [path], { stdio: ["ignore", "pipe", "ignore"] })
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output += text
      watched.changed()
    })
    child.on("close", () => {
      isClosed = true
      watched.changed()
    })
    const end = Effect.zipRight(
      // It ends by itself as well, when the server does.
      Effect.ignore(Effect.try(() => child.kill("SIGKILL"))),
      Effect.orDie(watched.until(() => isClosed, "the reader ends"))
    )
    yield* Effect.addFinalizer(() => end)
    return { end, output: () => output, says: (text: string) => watched.until(() => output.includes(text), text) }
  })

describe("a server whose log cannot be written", () => {
  live("goes on when the reader of stdout goes away, and says so once on stderr", () =>
    Effect.gen(function* () {
      const { child, exit, output, says } = yield* Program.spawnProgram({ env: FREE })
      yield* says("listening on")
      const port = portOf(output())
      child.stdout?.destroy()
      yield* goesOn(port, child, exit)
      expect(output().split(NOTICE).length - 1).toBe(1)
      expect(output()).toMatch(/EPIPE[^\n]*; the server goes on without it\n/)
    })
  )

  live("goes on when stdout and stderr have no reader, with log.format json too", () =>
    Effect.gen(function* () {
      const { child, exit, output, says } = yield* Program.spawnProgram({
        env: { ...FREE, FANFARE_LOG_FORMAT: "json" }
      })
      yield* says("listening on")
      const port = portOf(output())
      child.stdout?.destroy()
      child.stderr?.destroy()
      yield* goesOn(port, child, exit)
    })
  )

  live("goes on when the disk is full that stdout goes to", () =>
    Effect.gen(function* () {
      const port = 20_000 + (process.pid % 10_000)
      const { child, exit, output, says } = yield* Program.spawnProgram({
        env: { PORT: String(port) },
        stdout: yield* full
      })
      yield* says(NOTICE)
      expect(output()).toMatch(/ENOSPC|No space left/)
      yield* eventually(
        Effect.either(Http.send(`http://127.0.0.1:${port}/health/live`)),
        ({ _tag }) => _tag === "Right",
        "it listens"
      )
      yield* goesOn(port, child, exit)
    })
  )

  live("writes again when a named pipe has another reader", () =>
    Effect.gen(function* () {
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "fanfare-"))),
        (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
      )
      const pipe = join(folder, "log")
      expect(spawnSync("mkfifo", [pipe]).status).toBe(0)
      const first = yield* reader(pipe)
      const stdout = openSync(pipe, "w")
      const { child, exit, says } = yield* Program.spawnProgram({ env: FREE, stdout })
      closeSync(stdout)
      yield* first.says("listening on")
      const port = portOf(first.output())
      yield* first.end
      yield* logALine(port, "lost")
      yield* says(NOTICE)
      const second = yield* reader(pipe)
      // Nobody tells when it has opened the pipe.
      yield* eventually(
        Effect.zipRight(
          Effect.scoped(logALine(port, "found")),
          Effect.sync(() => second.output())
        ),
        (output) => output.includes("/channels/found"),
        "the second reader gets a line"
      )
      expect(second.output()).not.toContain("/channels/lost")
      yield* goesOn(port, child, exit)
      yield* second.says("draining")
    })
  )
})

describe("a server that cannot accept a connection", () => {
  live("says so, and goes on", () =>
    Effect.gen(function* () {
      const program = yield* Program.start({ preload: "accept-fails.cjs" })
      program.signal("SIGUSR2")
      yield* program.says(`a connection to 127.0.0.1:0 was not accepted: accept ENOBUFS`)
      program.signal("SIGUSR2")
      const socket = yield* Socket.open(`${program.ws}/channels/public:a`)
      socket.send("still here")
      yield* socket.gets("still here")
      expect(program.output().split("not accepted").length - 1).toBe(1)
      program.signal("SIGTERM")
      expect(yield* program.exit).toEqual(GRACEFUL)
    })
  )
})

describe("a command of the command line whose output cannot be written", () => {
  const env = { FANFARE_CLIENT_TOKEN_HMAC_SECRET_KEY: SECRET }

  for (const args of [["token"], ["--help"]]) {
    live(`ends in silence, with code 0, where nobody reads it: fanfare ${args.join(" ")}`, () =>
      Effect.gen(function* () {
        const { child, exit, output } = yield* Program.spawnProgram({ args, env })
        child.stdout?.destroy()
        expect(yield* exit).toEqual(GRACEFUL)
        expect(output()).toBe("")
      })
    )
  }

  live("ends with code 1 and a line on stderr where it cannot be written for another reason", () =>
    Effect.gen(function* () {
      const { exit, output } = yield* Program.spawnProgram({ args: ["token"], env, stdout: yield* full })
      expect(yield* exit).toEqual({ code: 1, signal: null })
      expect(output()).toMatch(/^fanfare: stdout cannot be written: [^\n]*(ENOSPC|No space left)[^\n]*\n$/)
    })
  )

  live("prints its token where only stderr has no reader, and fails with code 1 as ever", () =>
    Effect.gen(function* () {
      const weak = yield* Program.spawnProgram({
        args: ["token"],
        env: { FANFARE_CLIENT_TOKEN_HMAC_SECRET_KEY: "short" }
      })
      weak.child.stderr?.destroy()
      expect(yield* weak.exit).toEqual(GRACEFUL)
      expect(weak.output()).toMatch(/^[\w-]+\.[\w-]+\.[\w-]+\n$/)
      const wrong = yield* Program.spawnProgram({ args: ["token", "--nope"], env })
      wrong.child.stderr?.destroy()
      expect(yield* wrong.exit).toEqual({ code: 1, signal: null })
    })
  )
})
