/** A Redis that does no work for a time, at the wrong moment, or for too long. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { createServer, type AddressInfo, type Socket } from "node:net"
import * as InFlight from "../src/Broker/InFlight.ts"
import type * as Streams from "../src/Broker/RedisStreams.ts"
import { replyError } from "../src/internal/redisReply.ts"
import { live } from "./support/it.ts"
import * as Redis from "./support/redis.ts"
import * as Link from "./support/redisLink.ts"
import { eventually } from "./support/wait.ts"

/** Holds Redis up until it is killed, 20 s at most. */
const SPIN = `
local function now() return tonumber(redis.call("TIME")[1]) end
local ends = now() + 20
while now() < ends do end`

/** A Redis that a script holds up from `spin` to `kill`. */
const busied = Effect.gen(function* () {
  const redis = yield* Redis.start(["--lua-time-limit", "50"])
  const hands = yield* Redis.client(redis)
  const killer = yield* Redis.client(redis)
  yield* Effect.promise(() => Promise.all([hands.ping(), killer.ping()]))
  return {
    redis,
    spin: Effect.fork(Effect.exit(Effect.tryPromise(() => hands.eval(SPIN, 0)))),
    kill: Effect.promise(() => killer.call("SCRIPT", "KILL"))
  }
})

const bulk = (text: string): string => `$${text.length}\r\n${text}\r\n`

/** Answers each command as it is told, and counts connections. */
const scripted = (
  answers: Readonly<Record<string, string>>
): Effect.Effect<{ readonly url: string; readonly connections: () => number }, never, Scope.Scope> =>
  Effect.gen(function* () {
    const sockets = new Set<Socket>()
    let connections = 0
    const server = createServer((socket) => {
      connections++
      sockets.add(socket)
      socket.on("error", () => undefined)
      socket.setEncoding("latin1").on("data", (text: string) => {
        for (const [, name = ""] of text.matchAll(/\*\d+\r\n\$\d+\r\n(\w+)\r\n/g)) {
          socket.write(answers[name.toUpperCase()] ?? "+OK\r\n")
        }
      })
    })
    yield* Effect.acquireRelease(
      Effect.async<void>((resume) => {
        server.listen(0, "127.0.0.1", () => resume(Effect.void))
      }),
      () =>
        Effect.async<void>((resume) => {
          for (const socket of sockets) socket.destroy()
          server.close(() => resume(Effect.void))
        })
    )
    const { port } = server.address() as AddressInfo
    return { url: `redis://127.0.0.1:${port}`, connections: () => connections }
  })

const HELLO = "%1\r\n+proto\r\n:3\r\n"
const LOADING = "-LOADING Redis is loading the dataset in memory\r\n"

describe("a stall", () => {
  live("does not end the link where the last subscriber of a channel leaves meanwhile", () =>
    Effect.gen(function* () {
      const { kill, redis, spin } = yield* busied
      const one = yield* Link.start(redis.url)
      yield* one.becomes("Live")
      for (const channel of ["left", "kept"]) yield* one.broker.subscribe(channel)
      const before = yield* Link.connections(redis)
      const busy = yield* spin
      yield* one.fails(/^BUSY /)
      one.broker.unsubscribe("left")
      // The next heartbeat comes behind what it sends.
      const lines = one.lines("DEBUG").length
      yield* eventually(
        Effect.sync(() => one.lines("DEBUG").length),
        (count) => count > lines + 1,
        "further heartbeats"
      )
      yield* kill
      yield* one.becomes("Live")
      yield* busy.await
      expect(one.metrics.brokerLinkLosses.value).toBe(0)
      expect(yield* Link.connections(redis)).toEqual(before)
      yield* eventually(
        redis.use((client) => client.pubsub("CHANNELS", "fanfare:pub:*")),
        (channels) => JSON.stringify(channels) === '["fanfare:pub:kept"]',
        "it is left once Redis works"
      )
    })
  )

  live("in the midst of a resync is Degraded, and ends it; then it begins anew", () =>
    Effect.gen(function* () {
      const { kill, redis, spin } = yield* busied
      const one = yield* Link.start(redis.url)
      yield* one.becomes("Live")
      yield* one.broker.subscribe("bare")
      let begun = 0
      let ended = 0
      yield* one.broker.attach({
        offer: () => undefined,
        isFull: () => false,
        writable: Effect.void,
        undecodable: () => undefined,
        resync: Effect.suspend(() => (++begun === 1 ? Effect.never : Effect.void)).pipe(
          Effect.onInterrupt(() => Effect.sync(() => ended++))
        )
      })
      yield* redis.use((client) => client.call("CLIENT", "KILL", "TYPE", "pubsub"))
      yield* eventually(
        Effect.sync(() => begun),
        (count) => count === 1,
        "a resync"
      )
      const busy = yield* spin
      yield* one.fails(/^BUSY /)
      expect(ended).toBe(1)
      yield* kill
      yield* one.becomes("Live")
      yield* busy.await
      expect(begun).toBe(2)
    })
  )

  live("of a replica that loads what its master has sent ends the link: it is a replica first", () =>
    Effect.gen(function* () {
      const { url } = yield* scripted({
        HELLO,
        // As where the user may not call it: only the write tells.
        INFO: "-NOPERM no INFO\r\n",
        PING: LOADING,
        UNLINK: "-READONLY You can't write against a read only replica.\r\n"
      })
      const one = yield* Link.start(url)
      yield* one.fails(/^READONLY /)
      expect(one.lines("WARN").join()).not.toContain("LOADING")
    })
  )

  live("that goes on ends the link after 15 heartbeats: the address may lead elsewhere by then", () =>
    Effect.gen(function* () {
      const { connections, url } = yield* scripted({
        HELLO,
        INFO: bulk("run_id:one\r\nrole:master\r\n"),
        PING: LOADING,
        UNLINK: LOADING
      })
      const one = yield* Link.start(url)
      yield* one.fails(/^LOADING /)
      expect(connections()).toBe(2)
      yield* eventually(
        Effect.sync(() => connections()),
        (count) => count === 4,
        "another link",
        "40 seconds"
      )
      expect(one.lines("WARN").length).toBe(1)
    })
  )
})

describe("a query that Redis answers with an error", () => {
  it.scoped("of a lost link is `NotLive`, of a stall `Overloaded`: both are repeated; any other is `Failed`", () =>
    Effect.gen(function* () {
      const inFlight = yield* InFlight.make({ limits: {} } as never)
      const at = { client: { cork: () => undefined } } as unknown as Streams.Target
      const reason = (lost: "NotLive" | "Failed", words: string) =>
        inFlight
          .send(at, { kind: { what: "read", lost, read: String }, channel: "x", bytes: 0 }, () =>
            Promise.reject(replyError(words))
          )
          .pipe(
            Effect.flip,
            Effect.map((error) => error.reason)
          )
      expect(yield* reason("NotLive", "READONLY a")).toBe("NotLive")
      expect(yield* reason("NotLive", "BUSY a")).toBe("Overloaded")
      expect(yield* reason("NotLive", "OOM a")).toBe("Failed")
      expect(yield* reason("Failed", "READONLY a")).toBe("Failed")
    })
  )
})
