/** A real Redis of a test's own, on a private port. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { Redis as Client } from "ioredis"
import { type ChildProcess, spawn } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { signal } from "./child.ts"

export interface Redis {
  readonly port: number
  readonly url: string
  /** SIGKILL; returns when the process is gone. */
  readonly kill: Effect.Effect<void>
  /** SIGSTOP: it neither answers nor closes. */
  readonly freeze: Effect.Effect<void>
  /** SIGCONT after `freeze`. */
  readonly thaw: Effect.Effect<void>
  /** Starts it again on the same port, empty; returns when it answers. */
  readonly start: Effect.Effect<void>
  /** Runs commands through a client of the test's own. */
  readonly use: <A>(run: (client: Client) => Promise<A>) => Effect.Effect<A>
}

/** A client of the test's own that stays open; it is closed with the scope. */
export const client = (redis: Pick<Redis, "port">): Effect.Effect<Client, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => new Client(redis.port, "127.0.0.1", { retryStrategy: () => null })),
    (one) => Effect.promise(() => one.quit())
  )

/** A TCP port that is free now. */
export const freePort: Effect.Effect<number> = Effect.async((resume) => {
  const server = createServer()
  server.listen(0, "127.0.0.1", () => {
    const address = server.address()
    const port = typeof address === "object" && address !== null ? address.port : 0
    server.close(() => resume(Effect.succeed(port)))
  })
})

/** It keeps nothing on disk, and a replica gets the data at once. */
const QUIET = "--bind 127.0.0.1 --appendonly no --repl-diskless-sync-delay 0 --save".split(" ").concat("")

const gone = (child: ChildProcess): Effect.Effect<void> =>
  Effect.async((resume) => {
    if (child.exitCode !== null || child.signalCode !== null) resume(Effect.void)
    else child.once("exit", () => resume(Effect.void))
  })

/** Starts a Redis, or with `--sentinel` a Sentinel; it is killed when the scope closes. */
export const start = (extra: ReadonlyArray<string> = []): Effect.Effect<Redis, never, Scope.Scope> =>
  Effect.gen(function* () {
    const port = yield* freePort
    const folder = mkdtempSync(join(tmpdir(), "fanfare-redis-"))
    // A Sentinel writes into its configuration.
    const file = extra.includes("--sentinel") ? [join(folder, "sentinel.conf")] : []
    for (const name of file) writeFileSync(name, "")
    let child: ChildProcess | undefined

    const kill = Effect.suspend(() => {
      const current = child
      if (current === undefined) return Effect.void
      child = undefined
      signal(current, "SIGKILL")
      return gone(current)
    })

    const launch = Effect.async<void>((resume) => {
      const started = spawn(
        process.env["REDIS_SERVER_BIN"] ?? "redis-server",
        [...file, "--port", String(port), ...QUIET, "--dir", folder, ...extra],
        { stdio: ["ignore", "pipe", "inherit"] }
      )
      child = started
      started.stdout.setEncoding("utf8").on("data", (text: string) => {
        if (/Ready to accept connections|Sentinel ID is/.test(text)) resume(Effect.void)
      })
      started.once("exit", (code) => resume(Effect.dieMessage(`redis-server ended with ${code}`)))
    })

    yield* Effect.acquireRelease(launch, () =>
      Effect.zipRight(
        kill,
        Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
      )
    )

    return {
      port,
      url: `redis://127.0.0.1:${port}`,
      kill,
      freeze: Effect.sync(() => child && signal(child, "SIGSTOP")),
      thaw: Effect.sync(() => child && signal(child, "SIGCONT")),
      start: launch,
      use: (run) =>
        Effect.acquireUseRelease(
          Effect.sync(() => new Client(port, "127.0.0.1", { retryStrategy: () => null })),
          (client) => Effect.promise(() => run(client)),
          (client) => Effect.promise(() => client.quit())
        )
    }
  })
