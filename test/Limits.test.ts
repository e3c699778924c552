import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Hooks from "../src/Hooks.ts"
import { OPEN, raw } from "./support/history.ts"
import { live } from "./support/it.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"
import { KEY, token } from "./support/tokens.ts"
import { eventually } from "./support/wait.ts"
import type { Json } from "./support/json.ts"

const channel = { namespaces: [{ name: "bare", ...OPEN }] }

const start = (client: object, more: object = {}) =>
  Server.start({ config: { channel: { ...channel, ...more }, client } })

const code = (reply: Record<string, Json>): number | undefined => reply["error"]?.code

describe("limits, at the bound and one past it", () => {
  live("client.channel_limit: error 106 to subscribe, 3505 to server-side subscriptions", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({
        config: { channel, client: { channel_limit: 3, token: { hmac_secret_key: KEY } } }
      })
      const channels = ["bare:1", "bare:2", "bare:3"]
      const { ask } = yield* raw(server, { token: token({ sub: "ada", channels: channels.slice(1) }) })
      expect(code(yield* ask("subscribe", { channel: "bare:1" }))).toBe(undefined)
      expect(code(yield* ask("subscribe", { channel: "bare:4" }))).toBe(106)
      yield* ask("unsubscribe", { channel: "bare:2" })
      expect(code(yield* ask("subscribe", { channel: "bare:4" }))).toBe(undefined)

      expect((yield* raw(server, { token: token({ sub: "ada", channels }) })).connected["subs"]).toEqual({
        "bare:1": {},
        "bare:2": {},
        "bare:3": {}
      })
      const socket = yield* Socket.open(`${server.ws}/connection/websocket`)
      const tooMany = token({ sub: "ada", channels: [...channels, "bare:4"] })
      socket.send(JSON.stringify({ id: 1, connect: { token: tooMany } }))
      expect((yield* socket.closed).code).toBe(3505)
    })
  )

  live("channel.max_length: a bad request", () =>
    Effect.gen(function* () {
      const server = yield* start({}, { max_length: 10 })
      const { ask } = yield* raw(server)
      for (const method of ["sub_refresh", "subscribe", "publish", "history", "presence", "presence_stats"]) {
        expect(code(yield* ask(method, { channel: `bare:${"x".repeat(6)}`, data: 1 })), `${method}`).toBe(107)
        expect(code(yield* ask(method, { channel: `bare:${"x".repeat(5)}`, data: 1 })), `${method}`).not.toBe(107)
      }
      expect((yield* Socket.refusal(`${server.ws}/channels/bare:${"x".repeat(6)}`)).status).toBe(400)
      yield* Socket.open(`${server.ws}/channels/bare:${"x".repeat(5)}`)
    })
  )

  live("client.connection_limit: 503 before the upgrade", () =>
    Effect.gen(function* () {
      const server = yield* start({ connection_limit: 2 })
      yield* raw(server)
      const last = yield* Socket.open(`${server.ws}/channels/bare:a`)
      const { headers, status } = yield* Socket.refusal(`${server.ws}/connection/websocket`)
      expect([status, headers["retry-after"]]).toEqual([503, "1"])
      last.ws.close()
      yield* last.closed
      yield* eventually(Effect.either(raw(server)), Either.isRight, "there is room again")
    })
  )

  live("client.user_connection_limit: 3504, for each user, the anonymous ones not counted", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({
        config: {
          channel,
          client: {
            user_connection_limit: 2,
            allow_anonymous_connect_without_token: true,
            token: { hmac_secret_key: KEY }
          }
        }
      })
      const ada = { token: token({ sub: "ada" }) }
      const first = yield* raw(server, ada)
      yield* Socket.open(`${server.ws}/channels/bare:a`, { headers: { Authorization: `Bearer ${ada.token}` } })
      const third = yield* Socket.open(`${server.ws}/connection/websocket`)
      third.send(JSON.stringify({ id: 1, connect: ada }))
      expect((yield* third.closed).code).toBe(3504)
      const plain = yield* Socket.open(`${server.ws}/channels/bare:a`, {
        headers: { Authorization: `Bearer ${ada.token}` }
      })
      expect((yield* plain.closed).code).toBe(3504)
      yield* raw(server, { token: token({ sub: "eve" }) })
      for (let index = 0; index < 4; index++) yield* raw(server)
      // One that has left makes room, also one that was refused.
      first.socket.ws.close()
      yield* first.socket.closed
      yield* raw(server, ada)
    })
  )

  live("client.command_rate: 111 at first, 3013 to one that goes on", () =>
    Effect.gen(function* () {
      const server = yield* start({ command_rate: 20 })
      const { socket } = yield* raw(server)
      // `connect` was the first command.
      const send = (from: number, count: number): void =>
        socket.send(
          Array.from({ length: count }, (_, index) => JSON.stringify({ id: from + index, rpc: { method: "x" } })).join(
            "\n"
          )
        )
      send(100, 19)
      yield* socket.gets('{"id":118,')
      expect(socket.received.some((frame) => frame.includes('"code":111'))).toBe(false)
      send(200, 3)
      yield* socket.gets('{"id":202,"error":{"code":111,"message":"too many requests","temporary":true}}')
      expect(socket.isClosed()).toBe(false)
      send(300, 60)
      expect((yield* socket.closed).code).toBe(3013)
    })
  )

  live("client.command_rate: what has no answer is not dropped silently, on either socket", () =>
    Effect.gen(function* () {
      const heard: Array<string> = []
      const server = yield* Server.start({
        config: { channel, client: { command_rate: 5 } },
        hooks: { onMessage: ({ data }) => Effect.sync(() => void heard.push(data)) }
      })
      const { socket } = yield* raw(server)
      socket.send(Array.from({ length: 5 }, (_, index) => JSON.stringify({ send: { data: index } })).join("\n"))
      expect((yield* socket.closed).code).toBe(3013)
      expect(heard).toEqual(["0", "1", "2", "3"])
      const reader = yield* Socket.open(`${server.ws}/channels/bare:a`)
      const plain = yield* Socket.open(`${server.ws}/channels/bare:a`)
      for (let index = 0; index < 6; index++) plain.send(String(index))
      expect((yield* plain.closed).code).toBe(3013)
      // What came before the one too many was carried out.
      yield* reader.count(5)
      yield* server.publisher.publish("bare:a", "end")
      yield* reader.gets("end")
      expect(reader.received).toEqual(["0", "1", "2", "3", "4", '"end"'])
    })
  )

  live("client.error_limit: 3509; what may succeed later does not count", () =>
    Effect.gen(function* () {
      const later = new Hooks.Rejected({ code: 400, message: "later", temporary: true })
      const server = yield* Server.start({
        config: { channel, client: { error_limit: 3 } },
        hooks: { onRpc: () => Effect.fail(later) }
      })
      const { ask, socket } = yield* raw(server)
      const refused = ask("publish", { channel: "none:a", data: 1 })
      for (let index = 0; index < 3; index++) expect(code(yield* refused)).toBe(102)
      for (let index = 0; index < 9; index++) expect(code(yield* ask("rpc", { method: "x" }))).toBe(400)
      expect(code(yield* ask("subscribe", { channel: "bare:a" }))).toBe(undefined)
      // The answer to the one too many comes as well.
      expect(code(yield* refused)).toBe(102)
      expect((yield* socket.closed).code).toBe(3509)
    })
  )

  live("client.reply_max_size: a presence that is longer is refused with 106, stats are not", () =>
    Effect.gen(function* () {
      const namespaces = [
        { name: "room", ...OPEN, presence: true, allow_presence_for_client: true, allow_presence_for_anonymous: true }
      ]
      const info = JSON.stringify("x".repeat(30_000))
      const server = yield* Server.start({
        config: { channel: { namespaces }, client: { reply_max_size: 64 * 1024 } },
        hooks: { onConnect: ({ client }) => Effect.succeed({ user: client, info }) }
      })
      const clients = [yield* raw(server), yield* raw(server), yield* raw(server)] as const
      yield* clients[0].ask("subscribe", { channel: "room:a" })
      yield* clients[1].ask("subscribe", { channel: "room:a" })
      expect(Object.keys((yield* clients[0].ask("presence", { channel: "room:a" }))["presence"].presence).length).toBe(
        2
      )
      yield* clients[2].ask("subscribe", { channel: "room:a" })
      expect(code(yield* clients[0].ask("presence", { channel: "room:a" }))).toBe(106)
      expect((yield* clients[0].ask("presence_stats", { channel: "room:a" }))["presence_stats"]).toEqual({
        num_clients: 3,
        num_users: 3
      })
    })
  )
})
