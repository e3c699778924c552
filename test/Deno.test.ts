import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { fileURLToPath } from "node:url"
import * as Http from "./support/http.ts"
import { live } from "./support/it.ts"
import * as Program from "./support/program.ts"
import * as Redis from "./support/redis.ts"
import * as Sdk from "./support/sdk.ts"
import * as Socket from "./support/socket.ts"
import { eventually } from "./support/wait.ts"

const ROOT = fileURLToPath(new URL("..", import.meta.url))

const DENO = process.env["DENO_BIN"] ?? "deno"

const NODE = process.env["NODE_BIN"] ?? process.execPath

/** Messages, and how many of them are on their way at a time. */
const EACH_WAY = 10_000
const PORTION = 100

const start = (env: Readonly<Record<string, string>> = {}) => Program.start({ run: Program.underDeno(DENO), env })

describe("deno task start", () => {
  live("with the permission for its own port alone, serves; it does not warm up", () =>
    Effect.gen(function* () {
      const port = yield* Redis.freePort
      const { args, command } = Program.underDeno(DENO)
      const own = args.map((arg) => (arg === "--allow-net" ? `--allow-net=127.0.0.1:${port}` : arg))
      expect(own).not.toEqual(args)
      const env = { PORT: String(port), FANFARE_LOG_LEVEL: "debug" }
      const server = yield* Program.start({ run: { command, args: own }, env })
      yield* server.says("DEBUG not warmed up")
      expect(server.output()).toContain("no permission for the network at 127.0.0.1")
      const ready = yield* Http.send(`${server.http}/health/ready`)
      expect(ready.status).toBe(200)
      server.signal("SIGTERM")
      expect(yield* server.exit).toEqual({ code: 0, signal: null })
    })
  )

  live("serves plain sockets and the stock SDK, refuses what is too large, and drains on SIGTERM", () =>
    Effect.gen(function* () {
      const server = yield* start()
      const ready = yield* Http.send(`${server.http}/health/ready`)
      expect([ready.status, ready.body]).toEqual([200, '{"status":"ok","broker":{"name":"memory","state":"Live"}}'])
      const page = yield* Http.send(`${server.http}/`)
      expect(page.body).toContain("<title>Fanfare</title>")

      const one = yield* Socket.open(`${server.ws}/channels/public:lobby`)
      const other = yield* Socket.open(`${server.ws}/channels/public:lobby`)
      const client = yield* Sdk.connect(server.ws)
      const subscription = yield* Sdk.subscribe(client, "public:lobby")
      const published: Array<unknown> = []
      subscription.on("publication", ({ data }) => published.push(data))

      yield* Effect.promise(() => subscription.publish({ from: "the SDK" }))
      yield* one.gets('{"from":"the SDK"}')
      const burst = Array.from({ length: 200 }, (_, index) => `{"n":${index},"pad":"${"x".repeat(100)}"}`)
      for (const text of burst) one.send(text)
      const sent = ['{"from":"the SDK"}', ...burst]
      yield* one.count(sent.length)
      yield* other.count(sent.length)
      expect(one.received).toEqual(sent)
      expect(other.received).toEqual(sent)
      yield* eventually(
        Effect.sync(() => published.length),
        (count) => count >= sent.length,
        "the SDK has everything"
      )
      expect(published).toEqual(sent.map((text): unknown => JSON.parse(text)))

      one.send("x".repeat(64 * 1024 + 1))
      expect((yield* one.closed).code).toBe(1009)

      const disconnected = Effect.async<number>((resume) => {
        client.once("connecting", ({ code }) => resume(Effect.succeed(code)))
      })
      const [plainEnd, sdkEnd] = yield* Effect.all(
        [other.closed, disconnected, Effect.sync(() => server.signal("SIGTERM"))],
        { concurrency: "unbounded" }
      )
      expect(plainEnd).toEqual({ code: 3001, reason: "shutdown" })
      expect(sdkEnd).toBe(3001)
      // It would come back to nobody, again and again.
      client.disconnect()
      expect(yield* server.exit).toEqual({ code: 0, signal: null })
      expect(server.output()).toContain("draining")
    })
  )

  live("drains on Ctrl-C, which reaches it twice: from the terminal and from the task runner", () =>
    Effect.gen(function* () {
      const runner = yield* Program.start({ run: { command: "setsid", args: [DENO, "task", "start"] }, cwd: ROOT })
      const signalGroup = (name: NodeJS.Signals) => Effect.ignore(Effect.try(() => process.kill(-runner.pid, name)))
      yield* Effect.addFinalizer(() => signalGroup("SIGKILL"))
      const socket = yield* Socket.open(`${runner.ws}/channels/public:lobby`)
      yield* signalGroup("SIGINT")
      expect(yield* socket.closed).toEqual({ code: 3001, reason: "shutdown" })
      expect(yield* runner.exit).toEqual({ code: 0, signal: null })
    })
  )

  live("ends with code 1 and one line on stderr where the configuration is wrong", () =>
    Effect.gen(function* () {
      const program = yield* Program.spawnProgram({
        run: Program.underDeno(DENO),
        env: { PORT: "many" }
      })
      expect(yield* program.exit).toEqual({ code: 1, signal: null })
      expect(program.output()).toMatch(/^fanfare: .*many.*\n$/)
    })
  )

  live(
    "and an instance on Node, over Redis: 10,000 messages each way, exactly once and in one order",
    () =>
      Effect.gen(function* () {
        const redis = yield* Redis.start()
        const deno = yield* start({ REDIS_URL: redis.url })
        const node = yield* Program.start({ run: Program.underNode(NODE), env: { REDIS_URL: redis.url } })
        const here = yield* Socket.open(`${deno.ws}/channels/public:lobby`)
        const there = yield* Socket.open(`${node.ws}/channels/public:lobby`)
        const numbered = (from: string) => Array.from({ length: EACH_WAY }, (_, index) => `${from} ${index}`)
        const ways = [
          [here, numbered("Deno")],
          [there, numbered("Node")]
        ] as const
        // In portions, so that no mailbox overflows: what is asked here is order and completeness.
        for (let sent = 0; sent < EACH_WAY; sent += PORTION) {
          for (const [socket, texts] of ways) {
            for (const text of texts.slice(sent, sent + PORTION)) socket.send(text)
          }
          yield* here.count(2 * (sent + PORTION))
          yield* there.count(2 * (sent + PORTION))
        }
        expect(here.received.filter((text) => text.startsWith("Deno"))).toEqual(ways[0][1])
        expect(here.received.filter((text) => text.startsWith("Node"))).toEqual(ways[1][1])
        expect(here.received.length).toBe(2 * EACH_WAY)
        expect(there.received).toEqual(here.received)
        for (const instance of [deno, node]) {
          instance.signal("SIGTERM")
          expect(yield* instance.exit).toEqual({ code: 0, signal: null })
        }
        // The one that asks is all that is left.
        expect(yield* redis.use((client) => client.client("LIST"))).toMatch(/^id=[^\n]*\n$/)
      }),
    120_000
  )
})
