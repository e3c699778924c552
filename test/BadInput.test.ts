import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { connect as connectTcp } from "node:net"
import { live } from "./support/it.ts"
import * as Program from "./support/program.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"
import { Watched } from "./support/wait.ts"

/** Runs `misbehave` beside a client that must notice nothing of it. */
const unnoticed = (
  misbehave: (server: Server.Running) => Effect.Effect<void, unknown, Scope.Scope>,
  config: Record<string, unknown> = {}
) =>
  Effect.gen(function* () {
    const server = yield* Server.start({ config })
    const other = yield* Socket.open(`${server.ws}/channels/public:lobby`)
    yield* misbehave(server)
    other.send("still here")
    yield* other.count(1)
    expect(other.received).toEqual(["still here"])
    expect(other.isClosed()).toBe(false)
  })

const plain = (server: Server.Running, options: Socket.Options = {}) =>
  Socket.open(`${server.ws}/channels/public:lobby`, options)

const protocol = (server: Server.Running) => Socket.open(`${server.ws}/connection/websocket`)

describe("bad input costs its sender the connection, and nobody else anything", () => {
  live("an oversize frame: 1009; on a plain socket one of exactly 64 KiB passes", () =>
    Effect.gen(function* () {
      const server = yield* Server.start()
      const other = yield* plain(server)
      const big = yield* plain(server)
      big.send("x".repeat(64 * 1024))
      yield* other.count(1)
      expect(other.received[0]?.length).toBe(64 * 1024)
      big.send("x".repeat(64 * 1024 + 1))
      expect((yield* big.closed).code).toBe(1009)
      const client = yield* protocol(server)
      client.send(`{"id":1,"connect":{"data":"${"x".repeat(256 * 1024)}"}}`)
      expect((yield* client.closed).code).toBe(1009)
      expect(other.received.length).toBe(1)
      expect(other.isClosed()).toBe(false)
    })
  )

  live("invalid UTF-8: 1007", () =>
    unnoticed((server) =>
      Effect.gen(function* () {
        const client = yield* plain(server)
        client.ws.send(Uint8Array.of(0xc3, 0x28), { binary: false })
        expect((yield* client.closed).code).toBe(1007)
      })
    )
  )

  live("a binary frame on the plain socket: 1003", () =>
    unnoticed((server) =>
      Effect.gen(function* () {
        const client = yield* plain(server)
        client.send(Uint8Array.of(1, 2, 3))
        expect((yield* client.closed).code).toBe(1003)
      })
    )
  )

  for (const [name, frame] of [
    ["malformed JSON", "{"],
    ["JSON that is no command", "[1]"],
    ["a command without an id", '{"subscribe":{"channel":"a"}}'],
    ["a command with a wrong type", '{"id":1,"connect":{"token":7}}'],
    ["a command before connect", '{"id":1,"subscribe":{"channel":"public:a"}}'],
    ["connect twice", '{"id":1,"connect":{}}\n{"id":2,"connect":{}}'],
    ["data nested too deep", `{"id":1,"connect":{"data":${"[".repeat(30_000)}${"]".repeat(30_000)}}}`]
  ] as const) {
    live(`${name}: 3501`, () =>
      unnoticed((server) =>
        Effect.gen(function* () {
          const client = yield* protocol(server)
          client.send(frame)
          expect(yield* client.closed).toEqual({ code: 3501, reason: "bad request" })
        })
      )
    )
  }

  live("an unknown namespace: error 102; on the plain socket 404, and the log says which are known", () =>
    unnoticed((server) =>
      Effect.gen(function* () {
        const client = yield* protocol(server)
        client.send('{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"foo:x"}}')
        yield* client.gets('{"id":2,"error":{"code":102,"message":"unknown channel"}}')
        const refused = yield* Socket.refusal(`${server.ws}/channels/foo:x`)
        expect(refused.status).toBe(404)
        expect(server.logs).toContainEqual(expect.stringContaining('no namespace "foo"; known: public'))
      })
    )
  )

  for (const [path, status] of [
    ["/channels/", 400],
    ["/channels/%ff", 400],
    ["/channels/a/b", 400],
    ["/channels/a%0Ab", 400],
    [`/channels/${"x".repeat(256)}`, 400],
    ["/channels/public:lobby?echo=no", 400],
    ["/channels/public:lobby?history=", 400],
    ["/channels/public:lobby?history=ten", 400],
    ["/channels/public:lobby?history=-1", 400],
    ["/channels/public:lobby?history=1.5", 400],
    ["/channels/public:lobby?history=301", 400],
    ["/channels/foo:lobby?history=10", 404],
    ["/elsewhere", 404]
  ] as const) {
    live(`an upgrade of ${path.slice(0, 40)}: ${status} before the handshake`, () =>
      unnoticed((server) =>
        Effect.gen(function* () {
          expect((yield* Socket.refusal(server.ws + path)).status).toBe(status)
        })
      )
    )
  }

  live("an upgrade that asks for history where there is none: 400; where it may not be read: 403", () =>
    Effect.gen(function* () {
      const open = { allow_subscribe_for_client: true, allow_subscribe_for_anonymous: true }
      const namespaces = [
        { name: "fast", ...open, allow_history_for_client: true, allow_history_for_anonymous: true },
        { name: "secret", ...open, history_size: 10, history_ttl: "60s" }
      ]
      const server = yield* Server.start({ config: { channel: { namespaces } } })
      for (const [channel, status, why] of [
        ["fast:x", 400, "the channel has none"],
        ["secret:x", 403, "allow_history_for_client and allow_history_for_anonymous"]
      ] as const) {
        for (const last of [0, 10]) {
          const refused = yield* Socket.refusal(`${server.ws}/channels/${channel}?history=${last}`)
          expect([channel, refused.status]).toEqual([channel, status])
        }
        expect(server.logs).toContainEqual(expect.stringContaining(why))
        yield* Socket.open(`${server.ws}/channels/${channel}`)
      }
      expect(server.metrics.subscriptions.value).toBe(2)
    })
  )

  live("a wrong Origin: 403 before the upgrade, and the log says what would permit it", () =>
    unnoticed((server) =>
      Effect.gen(function* () {
        const evil = { headers: { Origin: "https://evil.example" } }
        for (const path of ["/channels/public:lobby", "/connection/websocket"]) {
          expect((yield* Socket.refusal(server.ws + path, evil)).status).toBe(403)
        }
        expect(server.logs).toContainEqual(
          expect.stringContaining('client.allowed_origins with "https://evil.example" would permit it')
        )
        const rebound = { headers: { Host: "evil.example" } }
        expect((yield* Socket.refusal(`${server.ws}/channels/public:lobby`, rebound)).status).toBe(403)
        yield* plain(server, { headers: { Origin: "http://localhost:3000" } })
      })
    )
  )

  live("an allowed origin passes, others do not", () =>
    unnoticed(
      (server) =>
        Effect.gen(function* () {
          yield* plain(server, { headers: { Origin: "https://app.example.com" } })
          const refused = yield* Socket.refusal(`${server.ws}/channels/public:lobby`, {
            headers: { Origin: "https://example.com" }
          })
          expect(refused.status).toBe(403)
        }),
      { client: { allowed_origins: ["https://*.example.com"] } }
    )
  )

  live("a client that offers the Protobuf encoding: 400, and the log says why", () =>
    Effect.gen(function* () {
      const server = yield* Server.start()
      const { body, status } = yield* Socket.refusal(`${server.ws}/connection/websocket`, {
        headers: { "Sec-WebSocket-Protocol": "centrifuge-protobuf" }
      })
      expect([status, body.trim()]).toEqual([400, "centrifuge-protobuf is not spoken: use the JSON protocol"])
      expect(server.logs.some((line) => line.includes("centrifuge-protobuf is not spoken"))).toBe(true)
    })
  )

  live("more connections than client.connection_limit: 503 before the upgrade, with Retry-After", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: { client: { connection_limit: 2 } } })
      yield* plain(server)
      const second = yield* plain(server)
      const refused = yield* Socket.refusal(`${server.ws}/channels/public:lobby`)
      expect([refused.status, refused.headers["retry-after"]]).toEqual([503, "1"])
      second.ws.close()
      yield* second.closed
      yield* plain(server)
    })
  )

  live("bytes that are no WebSocket handshake: an answer and the end of the socket", () =>
    unnoticed((server) =>
      Effect.gen(function* () {
        const watched = new Watched()
        let answer = ""
        let closed = false
        yield* Effect.acquireRelease(
          Effect.sync(() => {
            const socket = connectTcp(server.port, "127.0.0.1")
            socket.setEncoding("utf8")
            socket.on("data", (text: string) => {
              answer += text
            })
            socket.on("close", () => {
              closed = true
              watched.changed()
            })
            socket.write(
              "GET /channels/public:lobby HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            return socket
          }),
          (socket) => Effect.sync(() => socket.destroy())
        )
        yield* watched.until(() => closed, "the socket is closed")
        expect(answer).toMatch(/^HTTP\/1\.1 400 /)
        expect(server.metrics.subscriptions.value).toBe(1)
      })
    )
  )

  for (const [name, env, line] of [
    [
      "a wrong type",
      { FANFARE_CLIENT_QUEUE_MAX_FRAMES: "many" },
      'FANFARE_CLIENT_QUEUE_MAX_FRAMES: "many" is not valid: expected a whole number'
    ],
    ["a malformed REDIS_URL", { REDIS_URL: "http://localhost" }, "REDIS_URL: "],
    [
      "a contradiction",
      { FANFARE_CHANNEL_NAMESPACES: '[{"name":"aa","history_size":5}]' },
      "FANFARE_CHANNEL_NAMESPACES: channel.namespaces[0].history_size: 5 is not valid: expected history_ttl beside it"
    ]
  ] as const) {
    live(`configuration with ${name}: the start ends with code 1 and one line that names it`, () =>
      Effect.gen(function* () {
        const program = yield* Program.spawnProgram({ env: { PORT: "0", ...env } })
        expect(yield* program.exit).toEqual({ code: 1, signal: null })
        expect(program.output().trim().split("\n")).toHaveLength(1)
        expect(program.output()).toContain(`fanfare: ${line}`)
      })
    )
  }

  live("an unknown configuration key in the file: the start ends with code 1 and one line that names it", () =>
    Effect.gen(function* () {
      const file = yield* Program.temporaryFile("fanfare.json", '{"client":{"quee_max_size":1}}')
      const program = yield* Program.spawnProgram({ env: { PORT: "0" }, args: ["--config", file] })
      expect(yield* program.exit).toEqual({ code: 1, signal: null })
      expect(program.output().trim().split("\n")).toHaveLength(1)
      expect(program.output()).toContain("fanfare: client.quee_max_size: unknown key (value 1)")
    })
  )

  live("a configuration file that is not JSON: the line tells the place, and quotes nothing", () =>
    Effect.gen(function* () {
      const file = yield* Program.temporaryFile("fanfare.json", '{"http_api":\n  {"key": hunter2}}')
      const program = yield* Program.spawnProgram({ env: { PORT: "0" }, args: ["--config", file] })
      expect(yield* program.exit).toEqual({ code: 1, signal: null })
      expect(program.output()).not.toContain("hunter")
      expect(program.output().trim().split("\n")).toHaveLength(1)
      expect(program.output()).toContain("fanfare.json: is not JSON")
    })
  )

  live("a port that is taken: the start ends with code 1 and one line", () =>
    Effect.gen(function* () {
      const server = yield* Server.start()
      const program = yield* Program.spawnProgram({ env: { PORT: String(server.port) } })
      expect(yield* program.exit).toEqual({ code: 1, signal: null })
      expect(program.output()).toContain(`fanfare: cannot listen on 127.0.0.1:${server.port}: `)
      expect(program.output().trim().split("\n")).toHaveLength(1)
    })
  )
})

describe("a client that is gone before its answer", () => {
  live("costs nobody anything: upgrades of an unknown path that are reset at once", () =>
    Effect.gen(function* () {
      const program = yield* Program.start()
      const reset = Effect.async<void>((resume) => {
        const socket = connectTcp(program.port, "127.0.0.1", () =>
          socket.write(
            "GET /nope HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            () => socket.resetAndDestroy()
          )
        )
        socket.on("error", () => undefined)
        socket.on("close", () => resume(Effect.void))
      })
      yield* Effect.forEach(Array.from({ length: 1000 }), () => reset, { concurrency: 20, discard: true })
      const client = yield* Socket.open(`${program.ws}/channels/public:lobby`)
      client.send("alive")
      yield* client.gets("alive")
    })
  )
})

describe("text of a client in the log", () => {
  live("stays in its entry: no line feed passes", () =>
    Effect.gen(function* () {
      const program = yield* Program.start()
      const client = yield* Socket.open(`${program.ws}/connection/websocket`)
      client.send('{"id":1,"connect":{}}\n{"id":2,"rpc":{"method":"x\\n2026-01-01T00:00:00.000Z INFO  forged"}}')
      yield* client.gets('{"id":2,"error"')
      yield* program.says("forged")
      expect(
        program
          .output()
          .split("\n")
          .filter((line) => line.startsWith("2026-01-01"))
      ).toEqual([])
    })
  )
})
