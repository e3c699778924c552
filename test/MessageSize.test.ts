import { Centrifuge, type Subscription } from "centrifuge"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { WebSocket } from "ws"
import * as ServerConfig from "../src/ServerConfig.ts"
import * as Api from "./support/api.ts"
import { OPEN } from "./support/history.ts"
import * as Http from "./support/http.ts"
import { live } from "./support/it.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"
import { inSeconds, KEY, token } from "./support/tokens.ts"
import { eventually } from "./support/wait.ts"

const KIB = 1024

const CHANNELS = 128

/** As long as a name may be, and none of them ASCII. */
const nameOf = (index: number): string => `room:${index}:`.padEnd(255, "я")

/** Of 450 bytes and some more. */
const tokenFor = (channel: string): string =>
  token({ sub: "ada", channel, exp: inSeconds(3600), info: { name: "Ada Lovelace", roles: ["x".repeat(60)] } })

/** What a client sends when it comes back, and how its sockets end. */
class Watching {
  readonly sizes: Array<number> = []
  readonly codes: Array<number> = []
  readonly socket: typeof WebSocket

  constructor() {
    const { codes, sizes } = this
    this.socket = class extends WebSocket {
      constructor(url: string) {
        super(url)
        this.on("close", (code) => codes.push(code))
      }

      override send(data: string): void {
        sizes.push(Buffer.byteLength(data))
        super.send(data)
      }
    } as typeof WebSocket
  }
}

/** Waits until all of the subscriptions have been subscribed so many times. */
const subscribed = (times: ReadonlyMap<string, number>, count: number) =>
  eventually(
    Effect.sync(() => Array.from(times.values()).filter((each) => each === count).length),
    (done) => done === CHANNELS,
    `all are subscribed, time ${count}`
  )

describe("a client with as many channels as it may have, and a token for each", () => {
  live("comes back with all of them when the server ends its connection with 3001", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({
        config: {
          ...Api.keyed,
          client: { token: { hmac_secret_key: KEY } },
          channel: { namespaces: [{ name: "room" }] }
        }
      })
      const watching = new Watching()
      const client = yield* Effect.acquireRelease(
        Effect.sync(
          () =>
            new Centrifuge(`${server.ws}/connection/websocket`, {
              websocket: watching.socket,
              token: token({ sub: "ada" }),
              minReconnectDelay: 10
            })
        ),
        (one) => Effect.sync(() => one.disconnect())
      )
      const times = new Map<string, number>()
      for (let index = 0; index < CHANNELS; index++) {
        const channel = nameOf(index)
        times.set(channel, 0)
        const subscription: Subscription = client.newSubscription(channel, { token: tokenFor(channel) })
        subscription.on("subscribed", () => times.set(channel, (times.get(channel) ?? 0) + 1))
        subscription.subscribe()
      }
      client.connect()
      yield* subscribed(times, 1)
      const api = yield* Api.make(server.http)
      yield* api.result("disconnect", { user: "ada", disconnect: { code: 3001, reason: "shutdown" } })
      yield* subscribed(times, 2)
      expect(watching.codes).toEqual([3001])
      // More than a message could have before.
      expect(Math.max(...watching.sizes)).toBeGreaterThan(64 * KIB)
      expect(client.state).toBe("connected")
    })
  )
})

const CONNECT = '{"id":1,"connect":{}}'

/** A frame with a publish, of so many bytes. */
const publishOf = (id: number, bytes: number): string => {
  const around = `{"id":${id},"rpc":{"data":""}}`
  return around.replace('""', `"${"x".repeat(bytes - around.length)}"`)
}

describe("websocket.message_size_limit", () => {
  for (const [limit, given] of [
    [256 * KIB, {}],
    [KIB, { message_size_limit: KIB }],
    [1024 * KIB, { message_size_limit: 1024 * KIB }]
  ] as const) {
    live(
      `of ${limit / KIB} KiB is the largest message that a client may send, in fragments too; one byte more is 1009`,
      () =>
        Effect.gen(function* () {
          const server = yield* Server.start({
            config: { websocket: given, channel: { namespaces: [{ name: "room", ...OPEN }] } },
            hooks: { onRpc: ({ data }) => Effect.succeed(String(data?.length)) }
          })
          const client = yield* Socket.open(`${server.ws}/connection/websocket`)
          client.send(CONNECT)
          client.send(publishOf(2, limit))
          yield* client.gets('"id":2,"rpc"')
          // As clients write that have a buffer of 4 KiB.
          const message = Buffer.from(publishOf(3, limit))
          for (let from = 0; from < limit; from += 4 * KIB) {
            client.ws.send(message.subarray(from, from + 4 * KIB), { binary: false, fin: from + 4 * KIB >= limit })
          }
          yield* client.gets('"id":3,"rpc"')
          client.send(publishOf(4, limit + 1))
          expect((yield* client.closed).code).toBe(1009)

          const plain = yield* Socket.open(`${server.ws}/channels/room:a`)
          const publication = Math.min(limit, 64 * KIB)
          plain.send("x".repeat(publication))
          yield* plain.count(1)
          plain.send("x".repeat(publication + 1))
          expect((yield* plain.closed).code).toBe(1009)
        })
    )
  }

  live("does not make publications larger: above 64 KiB is error 106, counted, and the client stays", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: { channel: { namespaces: [{ name: "room", ...OPEN }] } } })
      const client = yield* Socket.open(`${server.ws}/connection/websocket`)
      const publish = (id: number, bytes: number): string =>
        JSON.stringify({ id, publish: { channel: "room:a", data: "x".repeat(bytes - 2) } })
      client.send(`${CONNECT}\n{"id":2,"subscribe":{"channel":"room:a"}}`)
      client.send(publish(3, 64 * KIB))
      client.send(publish(4, 64 * KIB + 1))
      yield* client.gets('"id":3,"publish"')
      yield* client.gets('"id":4,"error":{"code":106,"message":"limit exceeded"}')
      client.send('{"id":5,"ping":{}}')
      yield* client.gets('"id":5,"ping"')
      expect((yield* Http.metrics(server.http))['fanfare_limits_total{limit="publication_size"}']).toBe(1)
    })
  )

  live(
    "bounds what a client has asked for and is not done yet: the rest of a message is decoded once there is room",
    () =>
      Effect.gen(function* () {
        const gate = yield* Effect.makeLatch(false)
        const server = yield* Server.start({
          hooks: { onRpc: ({ data }) => Effect.as(gate.await, data ?? "null") },
          config: { client: { ping_interval: "1h" } }
        })
        const calls = (): number => server.metrics.commands("rpc").value
        const client = yield* Socket.open(`${server.ws}/connection/websocket`)
        client.send(CONNECT)
        const total = 2000
        const frame = Array.from({ length: total }, (_, index) => `{"id":${index + 2},"rpc":{"data":${index}}}`).join(
          "\n"
        )
        client.send(`${frame}\n`)
        client.send(`{"id":${total + 2},"rpc":{"data":"behind it"}}`)
        yield* eventually(Effect.sync(calls), (count) => count >= 64, "the inbox is full")
        yield* Http.send(`${server.http}/health/live`)
        expect(calls()).toBeLessThan(128)
        yield* gate.open
        yield* client.gets(`"id":${total + 2},`)
        const answered = client.received.flatMap((text) =>
          Array.from(text.matchAll(/"id":(\d+),"rpc":\{"data":(\d+)/g), ([, id, data]) => [Number(id), Number(data)])
        )
        expect(answered).toEqual(Array.from({ length: total }, (_, index) => [index + 2, index]))
      })
  )

  live("bounds what one message has of a turn of the event loop, also where nothing of it has to wait", () =>
    Effect.gen(function* () {
      const server = yield* Server.start()
      const client = yield* Socket.open(`${server.ws}/connection/websocket`)
      client.send(CONNECT)
      yield* client.gets('"connect"')
      const pings = (): number => server.metrics.commands("ping").value
      const total = 2000
      let most = 0
      let before = 0
      let watch: NodeJS.Immediate
      const look = (): void => {
        most = Math.max(most, pings() - before)
        before = pings()
        watch = setImmediate(look)
      }
      yield* Effect.acquireRelease(Effect.sync(look), () => Effect.sync(() => clearImmediate(watch)))
      const ids = Array.from({ length: total }, (_, index) => index + 2)
      client.send(ids.map((id) => `{"id":${id},"ping":{}}`).join("\n"))
      client.send(`{"id":${total + 2},"ping":{}}`)
      yield* eventually(Effect.sync(pings), (count) => count === total + 1, "all are decoded")
      yield* client.gets(`"id":${total + 2},`)
      expect(most).toBeLessThanOrEqual(128)
      const answered = client.received.flatMap((text) =>
        Array.from(text.matchAll(/"id":(\d+)/g), ([, id]) => Number(id))
      )
      expect(answered).toEqual([1, ...ids, total + 2])
    })
  )

  live("bounds the names of methods that there are not, which wait as commands do, and what the log says of them", () =>
    Effect.gen(function* () {
      const gate = yield* Effect.makeLatch(false)
      const server = yield* Server.start({ hooks: { onConnect: () => Effect.as(gate.await, { user: "ada" }) } })
      const client = yield* Socket.open(`${server.ws}/connection/websocket`)
      client.send(CONNECT)
      const total = 12
      for (let id = 2; id < total; id++) client.send(JSON.stringify({ id, [String(id).padEnd(200 * KIB, "x")]: {} }))
      const unknown = (): number => server.metrics.commands("unknown").value
      yield* eventually(Effect.sync(unknown), (count) => count >= 2, "the inbox is full")
      yield* Http.send(`${server.http}/health/live`)
      expect(unknown()).toBeLessThan(4)
      yield* gate.open
      yield* client.gets(`"id":${total - 1},"error":{"code":104`)
      const said = server.logs.filter((line) => line.includes("no such method"))
      expect(said.length).toBe(total - 2)
      for (const line of said) expect(line.length).toBeLessThan(KIB)
    })
  )

  live("bounds the text of large commands that wait, and a client that leaves has all of them carried out", () =>
    Effect.gen(function* () {
      const gate = yield* Effect.makeLatch(false)
      const done: Array<string> = []
      const server = yield* Server.start({
        hooks: {
          onMessage: ({ data }) =>
            Effect.zipRight(
              gate.await,
              Effect.sync(() => void done.push(data.slice(1, 6)))
            )
        },
        config: { client: { ping_interval: "1h" } }
      })
      const client = yield* Socket.open(`${server.ws}/connection/websocket`)
      client.send(CONNECT)
      const data = (index: number): string => String(index).padStart(5, "0")
      const large = 20
      for (let index = 0; index < large; index++) {
        client.send(JSON.stringify({ send: { data: data(index).padEnd(60 * KIB, "x") } }))
      }
      const sends = (): number => server.metrics.commands("send").value
      yield* eventually(Effect.sync(sends), (count) => count >= 5, "the inbox is full")
      yield* Http.send(`${server.http}/health/live`)
      // 256 KiB, and what one read held beside it.
      expect(sends()).toBeLessThan(8)
      yield* gate.open
      yield* eventually(
        Effect.sync(() => done.length),
        (count) => count === large,
        "all are carried out"
      )

      yield* gate.close
      const small = 1000
      const frame = Array.from({ length: small }, (_, index) => `{"send":{"data":"${data(large + index)}"}}`).join("\n")
      client.send(frame)
      yield* eventually(Effect.sync(sends), (count) => count >= large + 32, "some are decoded")
      client.ws.close()
      yield* gate.open
      yield* eventually(
        Effect.sync(() => done.length),
        (count) => count === large + small,
        "all are carried out"
      )
      expect(done).toEqual(Array.from({ length: large + small }, (_, index) => data(index)))
    })
  )
})

describe("ServerConfig, websocket.message_size_limit", () => {
  const warnings = (file: ServerConfig.Input): ReadonlyArray<string> =>
    Either.getOrThrowWith(ServerConfig.load(file), (error) => error).warnings
  const problem = (limit: number): string =>
    Either.match(ServerConfig.load({ websocket: { message_size_limit: limit } }), {
      onLeft: ({ message }) => message,
      onRight: () => "it was taken"
    })

  it("is 256 KiB, which the default of client.channel_limit fits in, and at most 1 MiB", () => {
    const { config } = Either.getOrThrowWith(ServerConfig.load({}), (error) => error)
    expect([config.websocket.message_size_limit, config.client.channel_limit]).toEqual([256 * KIB, CHANNELS])
    for (const limit of [1024 * KIB + 1, KIB - 1, 0]) {
      expect(problem(limit)).toBe(
        `websocket.message_size_limit: ${limit} is not valid: expected a whole number from 1024 to 1048576`
      )
    }
  })

  it("warns where a client with client.channel_limit subscriptions cannot come back, and says what would do", () => {
    expect(warnings({ client: { channel_limit: 256 } })).toEqual([])
    expect(warnings({ client: { channel_limit: 257 } })).toEqual([
      "client.channel_limit: a client with 257 subscriptions, 1 KiB for each with its token, cannot come back: its message is larger than websocket.message_size_limit (262144), which is closed with 1009; websocket.message_size_limit of 263168 is enough"
    ])
    expect(warnings({ client: { channel_limit: 1024 }, websocket: { message_size_limit: 1024 * KIB } })).toEqual([])
    expect(warnings({ client: { channel_limit: 2000 } })[0]).toContain(
      "; client.channel_limit of 1024 with a websocket.message_size_limit of 1048576 is the most that is sure to fit"
    )
    expect(warnings({ websocket: { message_size_limit: 64 * KIB } })[0]).toContain(
      "websocket.message_size_limit of 131072 is enough"
    )
  })
})
