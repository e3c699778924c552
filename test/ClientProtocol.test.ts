import { describe, expect } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Hooks from "../src/Hooks.ts"
import { live } from "./support/it.ts"
import * as Redis from "./support/redis.ts"
import * as Sdk from "./support/sdk.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"
import { eventually, Watched } from "./support/wait.ts"

const brokers: ReadonlyArray<
  readonly [string, (options?: Server.Options) => Effect.Effect<Server.Running, unknown, Scope.Scope>]
> = [
  ["memory", (options) => Server.start(options)],
  [
    "redis",
    (options) =>
      Effect.flatMap(Redis.start(), ({ url }) =>
        Server.start({ ...options, config: { redis_url: url, ...options?.config } })
      )
  ]
]

for (const [name, start] of brokers) {
  describe(`stock client over ${name}`, () => {
    live("connects, subscribes, publishes, receives, unsubscribes, disconnects", () =>
      Effect.gen(function* () {
        const server = yield* start()
        const alice = yield* Sdk.connect(server.ws)
        const bob = yield* Sdk.connect(server.ws)
        const watched = new Watched()
        const got: Array<unknown> = []
        const subscription = yield* Sdk.subscribe(bob, "public:lobby")
        subscription.on("publication", ({ data, info }) => {
          got.push([data, info?.client])
          watched.changed()
        })
        yield* Effect.promise(() => alice.publish("public:lobby", { n: 1 }))
        yield* Effect.promise(() => subscription.publish("two"))
        yield* watched.until(
          () => got.length === 2,
          () => JSON.stringify(got)
        )
        const { _client: id } = alice as unknown as { readonly _client: string }
        expect(got[0]).toEqual([{ n: 1 }, id])
        expect((got[1] as ReadonlyArray<unknown>)[0]).toBe("two")

        const left = new Promise((resolve) => subscription.once("unsubscribed", resolve))
        subscription.unsubscribe()
        yield* Effect.promise(() => left)
        // The server has handled the unsubscribe once it has answered what came after it.
        const rest = yield* Sdk.subscribe(bob, "public:rest")
        yield* Effect.promise(() => alice.publish("public:lobby", "unheard"))
        yield* Effect.promise(() => rest.publish("end"))
        expect(got.length).toBe(2)
        const gone = new Promise((resolve) => bob.once("disconnected", resolve))
        bob.disconnect()
        expect(yield* Effect.promise(() => gone)).toMatchObject({ code: 0 })
      })
    )

    live("tells protocol clients of plain sockets and the other way round", () =>
      Effect.gen(function* () {
        const server = yield* start()
        const client = yield* Sdk.connect(server.ws)
        const subscription = yield* Sdk.subscribe(client, "public:lobby")
        const got: Array<unknown> = []
        const watched = new Watched()
        subscription.on("publication", ({ data }) => {
          got.push(data)
          watched.changed()
        })
        const plain = yield* Socket.open(`${server.ws}/channels/public:lobby`)
        plain.send("just text")
        plain.send('{\r\n  "json": [1,\n2]\r\n}')
        yield* watched.until(
          () => got.length === 2,
          () => JSON.stringify(got)
        )
        expect(got).toEqual(["just text", { json: [1, 2] }])
        yield* Effect.promise(() => subscription.publish({ a: "b" }))
        yield* plain.count(3)
        expect(plain.received[2]).toBe('{"a":"b"}')
      })
    )
  })
}

/** Everything is permitted, nothing kept. */
const OPEN = {
  allow_subscribe_for_client: true,
  allow_subscribe_for_anonymous: true,
  allow_publish_for_client: true,
  allow_publish_for_anonymous: true,
  allow_history_for_client: true,
  allow_history_for_anonymous: true
}

/** A client that speaks the protocol by hand. */
const raw = (server: Server.Running) => Socket.open(`${server.ws}/connection/websocket`)

const command = (id: number, method: string, params: object): string => JSON.stringify({ id, [method]: params })

describe("client protocol", () => {
  live("connect: answers with what the client needs, and waits with what stands behind it in the frame", () =>
    Effect.gen(function* () {
      const server = yield* Server.start()
      const client = yield* raw(server)
      client.send([command(1, "connect", {}), command(2, "subscribe", { channel: "public:a", flag: 3 })].join("\n"))
      yield* client.count(2)
      const connected = JSON.parse(client.received[0] ?? "") as { readonly connect: Record<string, unknown> }
      expect(connected).toMatchObject({ id: 1, connect: { ping: 25, pong: true } })
      expect(connected.connect["client"]).toMatch(/^[0-9a-f-]{36}$/)
      // The channel has history, and is empty.
      expect(client.received[1]).toMatch(
        /^\{"id":2,"subscribe":\{"recoverable":true,"epoch":"[^"]+","positioned":true\}\}$/
      )
    })
  )

  live("subscribe: without history nobody is positioned or recovers, and pushes have no offset", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: { channel: { without_namespace: OPEN } } })
      const client = yield* raw(server)
      client.send(command(1, "connect", {}))
      const wanted = { recoverable: true, positioned: true }
      client.send(command(2, "subscribe", { channel: "a", ...wanted }))
      client.send(command(3, "subscribe", { channel: "b", ...wanted, recover: true, offset: 1, epoch: "e", flag: 1 }))
      client.send(command(4, "publish", { channel: "a", data: 1 }))
      yield* client.gets('"push"')
      expect(client.received).toContain('{"id":2,"subscribe":{}}')
      yield* client.gets('"id":3,"subscribe":{')
      const reply = client.received.find((frame) => frame.includes('"id":3')) ?? ""
      for (const key of ["recoverable", "positioned", "recovered", "epoch", "offset", "publications"]) {
        expect((JSON.parse(reply) as { subscribe: object }).subscribe).not.toHaveProperty(key)
      }
      const push = client.received.find((frame) => frame.includes('"push"')) ?? ""
      expect(Object.keys((JSON.parse(push) as { push: { pub: object } }).push.pub)).toEqual(["data", "info"])
    })
  )

  live("publish: replies come in the order of the commands on a channel, and data is relayed as it came", () =>
    Effect.gen(function* () {
      const server = yield* Server.start()
      const plain = yield* Socket.open(`${server.ws}/channels/public:a`)
      const client = yield* raw(server)
      client.send(command(1, "connect", {}))
      const commands = Array.from(
        { length: 100 },
        (_, index) => `{"id":${index + 2},"publish":{"data":{"n":1e400,"i":${index}},"channel":"public:a"}}`
      )
      client.send(commands.join("\n"))
      yield* client.count(101)
      yield* plain.count(100)
      expect(client.received.slice(1)).toEqual(commands.map((_, index) => `{"id":${index + 2},"publish":{}}`))
      expect(plain.received).toEqual(commands.map((_, index) => `{"n":1e400,"i":${index}}`))
    })
  )

  live("more commands in one go than a mailbox holds replies: all are answered, in order", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: { client: { queue_max_frames: 8 } } })
      const client = yield* raw(server)
      client.send(command(1, "connect", {}))
      const pings = Array.from({ length: 2000 }, (_, index) => `{"id":${index + 2},"ping":{}}`)
      client.send(pings.join("\n"))
      yield* client.count(2001)
      expect(client.received.slice(1)).toEqual(pings)
    })
  )

  live("errors: each command that cannot be carried out is answered with its code, and the connection goes on", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({
        config: {
          client: { channel_limit: 2 },
          channel: {
            without_namespace: { allow_subscribe_for_client: true, allow_subscribe_for_anonymous: true },
            namespaces: [
              { name: "closed" },
              { name: "fast", ...OPEN, allow_presence_for_client: true, allow_presence_for_anonymous: true }
            ]
          }
        }
      })
      const client = yield* raw(server)
      const cases: ReadonlyArray<readonly [string, object, number]> = [
        ["subscribe", { channel: "nowhere:x" }, 102],
        ["subscribe", { channel: "closed:x" }, 103],
        ["subscribe", { channel: "" }, 107],
        ["subscribe", { channel: "x".repeat(256) }, 107],
        ["publish", { channel: "room", data: 1 }, 103],
        ["publish", { channel: "nowhere:x", data: 1 }, 102],
        ["publish", { channel: "room" }, 107],
        ["nonsense", {}, 104],
        ["history", { channel: "room" }, 103],
        ["history", { channel: "nowhere:x" }, 102],
        ["history", { channel: "" }, 107],
        ["history", { channel: "fast:x" }, 108],
        ["presence", { channel: "room" }, 103],
        ["presence", { channel: "nowhere:x" }, 102],
        ["presence", { channel: "fast:x" }, 108],
        ["presence_stats", { channel: "room" }, 103],
        ["presence_stats", { channel: "fast:x" }, 108],
        ["sub_refresh", { channel: "room", token: "t" }, 103],
        ["subscribe", { channel: "room", token: "t" }, 103],
        ["subscribe", { channel: "room", type: 1 }, 108],
        ["subscribe", { channel: "room", tf: { op: "eq" } }, 108],
        ["rpc", { method: "m" }, 108]
      ]
      client.send(command(1, "connect", {}))
      for (const [index, [method, params]] of cases.entries()) client.send(command(index + 2, method, params))
      yield* client.count(cases.length + 1)
      const codes = new Map(
        client.received.slice(1).map((frame) => {
          const { id, error } = JSON.parse(frame) as { readonly id: number; readonly error: { readonly code: number } }
          return [id, error.code] as const
        })
      )
      expect(cases.map(([method, params], index) => [method, params, codes.get(index + 2)])).toEqual(cases)

      client.send(command(100, "subscribe", { channel: "one" }))
      client.send(command(101, "subscribe", { channel: "one" }))
      client.send(command(102, "subscribe", { channel: "two" }))
      client.send(command(103, "subscribe", { channel: "three" }))
      yield* client.count(cases.length + 5)
      const replies = client.received.slice(-4).map((frame) => JSON.parse(frame) as { readonly id: number })
      expect(replies.toSorted((a, b) => a.id - b.id)).toMatchObject([
        { id: 100, subscribe: {} },
        { id: 101, error: { code: 105 } },
        { id: 102, subscribe: {} },
        { id: 103, error: { code: 106 } }
      ])
      client.send(command(200, "ping", {}))
      yield* client.gets('{"id":200,"ping":{}}')
      expect(server.logs).toContainEqual(
        expect.stringContaining('refused subscribe "nowhere:x": no namespace "nowhere"; known: closed, fast')
      )
    })
  )

  live("token: refused with 3500 while none can be verified, also to refresh what does not expire", () =>
    Effect.gen(function* () {
      const open = yield* Server.start()
      const withToken = yield* raw(open)
      withToken.send(command(1, "connect", { token: "a.b.c" }))
      expect(yield* withToken.closed).toEqual({ code: 3500, reason: "invalid token" })
      const refreshing = yield* raw(open)
      refreshing.send(`${command(1, "connect", {})}\n${command(2, "refresh", { token: "a.b.c" })}`)
      expect(yield* refreshing.closed).toEqual({ code: 3500, reason: "invalid token" })
    })
  )

  live("stale: a client that does not connect is disconnected with 3502", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: { client: { stale_close_delay: "100ms" } } })
      const client = yield* raw(server)
      expect(yield* client.closed).toEqual({ code: 3502, reason: "stale" })
    })
  )

  live("a hook that does not decide in time costs the connection, and does not keep the client away", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({
        config: { client: { stale_close_delay: "100ms" } },
        hooks: { onConnect: () => Effect.never }
      })
      const client = yield* raw(server)
      client.send(command(1, "connect", {}))
      expect((yield* client.closed).code).toBe(3004)
    })
  )

  live("ping: a client that answers stays, one that does not is disconnected with 3012, on either socket", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: { client: { ping_interval: "100ms", pong_timeout: "200ms" } } })
      const answering = yield* raw(server)
      answering.ws.on("message", (data) => {
        if (String(data) === "{}") answering.send("{}")
      })
      const silent = yield* raw(server)
      answering.send(command(1, "connect", {}))
      silent.send(command(1, "connect", {}))
      const deaf = yield* Socket.open(`${server.ws}/channels/public:lobby`, { autoPong: false })
      const plain = yield* Socket.open(`${server.ws}/channels/public:lobby`)
      expect(yield* silent.closed).toEqual({ code: 3012, reason: "no pong" })
      expect(yield* deaf.closed).toEqual({ code: 3012, reason: "no pong" })
      yield* answering.count(8)
      expect(answering.isClosed()).toBe(false)
      expect(plain.isClosed()).toBe(false)
    })
  )

  for (const how of ["hooks", "decides"] as const) {
    live(`${how}: one that takes its time knows the address of a client that has gone meanwhile`, () =>
      Effect.gen(function* () {
        const asked = yield* Deferred.make<Hooks.ConnectRequest>()
        const onConnect = (request: Hooks.ConnectRequest) => Effect.as(Deferred.succeed(asked, request), { user: "" })
        const server = yield* Server.start({ [how]: { onConnect } })
        const client = yield* raw(server)
        client.send(command(1, "connect", {}))
        const request = yield* Deferred.await(asked)
        client.ws.terminate()
        yield* eventually(Effect.sync(server.connections.count), (count) => count === 0, "the client has gone")
        expect(request.address).toBe("127.0.0.1")
      })
    )
  }

  live("hooks: decide about connect, subscribe, publish and rpc, and hear of the end", () =>
    Effect.gen(function* () {
      const watched = new Watched()
      const left: Array<unknown> = []
      const server = yield* Server.start({
        hooks: {
          onConnect: ({ address, data }) =>
            data === '"let me in"' && address === "127.0.0.1"
              ? Effect.succeed({ user: "42", info: '{"name":"Ann"}', data: '{"hello":true}' })
              : Effect.fail(new Hooks.Rejected({ code: 4501, message: "go away", disconnect: true })),
          onSubscribe: ({ channel, client }) =>
            channel === "public:secret"
              ? Effect.fail(new Hooks.Rejected({ code: 403, message: `not you, ${client.user}` }))
              : Effect.void,
          onPublish: ({ data }) =>
            data.includes("spam")
              ? Effect.fail(new Hooks.Rejected({ code: 422, message: "spam", temporary: true }))
              : data.includes("defect")
                ? Effect.die(new Error("the database is on fire"))
                : Effect.void,
          onRpc: ({ method, data }) => Effect.succeed(`{"method":"${method}","data":${data}}`),
          onDisconnect: (client, disconnect) =>
            Effect.sync(() => {
              left.push([client.user, disconnect.code])
              watched.changed()
            })
        }
      })
      const refused = yield* raw(server)
      refused.send(command(1, "connect", { data: "please" }))
      expect(yield* refused.closed).toEqual({ code: 4501, reason: "go away" })
      expect(left).toEqual([])

      const client = yield* raw(server)
      client.send('{"id":1,"connect":{"data":"let me in"}}')
      yield* client.gets('"data":{"hello":true}')
      client.send(command(2, "subscribe", { channel: "public:secret" }))
      yield* client.gets('{"id":2,"error":{"code":403,"message":"not you, 42"}}')
      client.send(command(3, "subscribe", { channel: "public:a" }))
      client.send(command(4, "publish", { channel: "public:a", data: "spam" }))
      client.send(command(5, "publish", { channel: "public:a", data: "defect" }))
      client.send(command(6, "publish", { channel: "public:a", data: "fine" }))
      client.send('{"id":7,"rpc":{"method":"sum","data":[1e400]}}')
      yield* client.gets('{"id":4,"error":{"code":422,"message":"spam","temporary":true}}')
      yield* client.gets('{"id":5,"error":{"code":100')
      yield* client.gets('{"id":6,"publish":{}}')
      yield* client.gets('{"id":7,"rpc":{"data":{"method":"sum","data":[1e400]}}}')
      yield* client.gets('"pub":{"data":"fine","info":{"user":"42","client":')
      yield* client.gets('"conn_info":{"name":"Ann"}')
      expect(client.received.some((frame) => frame.includes('"pub":{"data":"spam"'))).toBe(false)
      client.ws.close()
      yield* watched.until(() => left.length === 1, "onDisconnect")
      expect(left).toEqual([["42", 1005]])
    })
  )

  live("connect refused by an error: the rest of the frame is ignored, and the socket closed after 1 s", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({
        hooks: { onConnect: () => Effect.fail(new Hooks.Rejected({ code: 109, message: "token expired" })) }
      })
      const client = yield* raw(server)
      client.send([command(1, "connect", {}), command(2, "subscribe", { channel: "public:a" })].join("\n"))
      yield* client.count(1)
      const before = Date.now()
      expect(JSON.parse(client.received[0] ?? "")).toEqual({ id: 1, error: { code: 109, message: "token expired" } })
      expect((yield* client.closed).code).toBe(3000)
      expect(Date.now() - before).toBeGreaterThan(800)
      expect(client.received.length).toBe(1)
    })
  )
})
