import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { version } from "../src/version.ts"
import * as Api from "./support/api.ts"
import { OPEN } from "./support/history.ts"
import { live } from "./support/it.ts"
import * as People from "./support/people.ts"
import * as Socket from "./support/socket.ts"
import type { Json } from "./support/json.ts"

/** JSON that comes out as it went in only where nobody parses it. */
const RAW = '{"n":12345678901234567890,"b":1e400,"a":"\\u0061"}'

for (const [name, start] of People.pairs) {
  describe(`server API over ${name}: publications`, () => {
    live(
      "what is published by one instance is delivered by both, and in the history of both, until it is removed",
      () =>
        Effect.gen(function* () {
          const [a, b] = yield* start()
          const one = yield* Api.make(a.http)
          const other = yield* Api.make(b.http)
          const sockets = [
            yield* Socket.open(`${a.ws}/channels/room:a`),
            yield* Socket.open(`${b.ws}/channels/room:a`),
            yield* Socket.open(`${b.ws}/channels/bare:a`)
          ]
          const body = `{"channel":"room:a","data":${RAW},"tags":{"lang":"en"},"skip_history":null,"idempotency_key":"k"}`
          const first = yield* one.result("publish", body)
          expect(first).toEqual({ epoch: expect.any(String), offset: 1 })
          expect(yield* other.result("publish", body)).toEqual(first)
          expect(yield* other.result("publish", { channel: "bare:a", data: null })).toEqual({})
          const responses = [{ result: { ...first, offset: 2 } }, { result: {} }]
          expect(yield* other.result("broadcast", { channels: ["room:a", "bare:a"], data: "all" })).toEqual({
            responses
          })
          const [here, there, bare] = sockets
          yield* Effect.forEach(sockets, (socket) => socket.count(2))
          for (const socket of [here, there]) expect(socket?.received).toEqual([RAW, '"all"'])
          expect(bare?.received).toEqual(["null", '"all"'])

          const read = { channel: "room:a", limit: -1, since: null, reverse: true }
          const page = yield* other.call("history", read)
          expect(page.body.result).toMatchObject({ ...first, offset: 2 })
          expect(page.text).toContain(`[{"data":"all","offset":2},{"data":${RAW},"offset":1,"tags":{"lang":"en"}}]`)
          const since = { epoch: first.epoch, offset: 1 }
          expect((yield* one.result("history", { channel: "room:a", limit: 10, since })).publications).toEqual([
            { data: "all", offset: 2 }
          ])
          expect(yield* one.result("history_remove", { channel: "room:a" })).toEqual({})
          expect(yield* other.result("history", read)).toEqual({ ...first, offset: 2, publications: [] })
        })
    )
  })

  describe(`server API over ${name}: who is where`, () => {
    live("presence: those on all instances, with what is known of them as it was written", () =>
      Effect.gen(function* () {
        const [a, b] = yield* start()
        const api = yield* Api.make(a.http)
        expect(yield* api.result("presence", { channel: "room:a" })).toEqual({ presence: {} })
        const ada = yield* People.connect(a, { user: "ada", info: RAW })
        const bob = yield* People.connect(b, { user: "bob" })
        const nobody = yield* People.connect(b)
        for (const client of [ada, bob, nobody]) yield* client.ask("subscribe", { channel: "room:a" })
        const { body, text } = yield* api.call("presence", { channel: "room:a" })
        expect(body.result.presence).toEqual({
          [ada.id]: { user: "ada", client: ada.id, conn_info: JSON.parse(RAW) },
          [bob.id]: { user: "bob", client: bob.id },
          [nobody.id]: { user: "", client: nobody.id }
        })
        expect(text).toContain(`"conn_info":${RAW}`)
      })
    )

    live("presence_stats: how many connections, of how many users", () =>
      Effect.gen(function* () {
        const [a, b] = yield* start()
        const api = yield* Api.make(b.http)
        expect(yield* api.result("presence_stats", { channel: "room:a" })).toEqual({ num_clients: 0, num_users: 0 })
        const people = [{ user: "ada" }, { user: "ada" }, { user: "bob" }, { user: "" }, { user: "" }]
        for (const [index, person] of people.entries()) {
          const client = yield* People.connect(index % 2 === 0 ? a : b, person)
          yield* client.ask("subscribe", { channel: "room:a" })
        }
        expect(yield* api.result("presence_stats", { channel: "room:a" })).toEqual({ num_clients: 5, num_users: 3 })
      })
    )

    live("channels: the subscribers on all instances, by name, also a name such as __proto__", () =>
      Effect.gen(function* () {
        const [a, b] = yield* start({ channel: { ...People.channel, without_namespace: OPEN } })
        const api = yield* Api.make(a.http)
        expect(yield* api.result("channels", {})).toEqual({ channels: {} })
        const one = yield* People.connect(a)
        const two = yield* People.connect(b)
        for (const channel of ["__proto__", "constructor", 'bare:"\\', "room:é"]) {
          yield* one.ask("subscribe", { channel })
        }
        yield* two.ask("subscribe", { channel: "__proto__" })
        yield* two.ask("subscribe", { channel: "bare:b" })
        const counts = (answer: { readonly text: string }) => {
          // As text: the parsed one has no such member.
          const [, members = ""] = /^\{"result":\{"channels":\{(.*)\}\}\}$/.exec(answer.text) ?? []
          return members.split(/(?<=\}),/).toSorted()
        }
        expect(counts(yield* api.call("channels", {}))).toEqual(
          [
            '"__proto__":{"num_clients":2}',
            '"constructor":{"num_clients":1}',
            '"bare:\\"\\\\":{"num_clients":1}',
            '"room:é":{"num_clients":1}',
            '"bare:b":{"num_clients":1}'
          ].toSorted()
        )
        const names = (pattern: string | null) =>
          Effect.map(api.result("channels", { pattern }), ({ channels }) => Object.keys(channels).toSorted())
        expect(yield* names("bare:?")).toEqual(["bare:b"])
        expect(yield* names("*é")).toEqual(["room:é"])
        expect(yield* names("nowhere*")).toEqual([])
        for (const all of [null, "", "*"]) expect((yield* names(all)).length).toBe(5)
      })
    )

    live("info: every instance once, with its figures", () =>
      Effect.gen(function* () {
        const [a, b] = yield* start({ name: "one of them" })
        const api = yield* Api.make(b.http)
        const one = yield* People.connect(a, { user: "ada" })
        const two = yield* People.connect(b, { user: "ada" })
        const three = yield* People.connect(b, { user: "bob" })
        for (const client of [one, two, three]) yield* client.ask("subscribe", { channel: "room:a" })
        yield* three.ask("subscribe", { channel: "room:b" })
        const { nodes, partial } = yield* api.result("info", {})
        const figures = (num_clients: number, num_users: number, num_subs: number, num_channels: number) => ({
          uid: expect.stringMatching(/^[0-9a-f-]{36}$/),
          name: "one of them",
          version,
          uptime: expect.any(Number),
          num_clients,
          num_users,
          num_subs,
          num_channels
        })
        expect(partial).toBe(undefined)
        expect(nodes.toSorted((x: Json, y: Json) => x.num_clients - y.num_clients)).toEqual(
          a === b ? [figures(3, 2, 4, 2)] : [figures(1, 1, 1, 1), figures(2, 2, 3, 2)]
        )
        expect(new Set(nodes.map(({ uid }: { readonly uid: string }) => uid)).size).toBe(nodes.length)
        // Nothing has to be said to ask for it.
        expect((yield* api.call("info", "", { malformed: true })).status).toBe(200)
      })
    )
  })
}

describe("server API: who is where, refused", () => {
  live("no presence 108, unknown namespace 102, no channel name 107, a field of another type 400", () =>
    Effect.gen(function* () {
      const api = yield* Api.make((yield* People.start()).http)
      for (const method of ["presence", "presence_stats"]) {
        expect(yield* api.refusal(method, { channel: "bare:a" })).toEqual([200, 108])
        expect(yield* api.refusal(method, { channel: "nowhere:a" })).toEqual([200, 102])
        for (const body of ["{}", "null", '{"channel":null}', '{"channel":""}']) {
          expect(yield* api.refusal(method, body, { malformed: true })).toEqual([200, 107])
        }
        for (const body of ['{"channel":1}', '{"channel":["a"]}', "[]"]) {
          expect(yield* api.refusal(method, body, { malformed: true })).toEqual([400, 107])
        }
      }
      for (const body of ['{"pattern":1}', JSON.stringify({ pattern: "*".repeat(1025) }), '"*"']) {
        expect(yield* api.refusal("channels", body, { malformed: true })).toEqual([400, 107])
      }
      for (const body of ["[]", "1"]) {
        expect(yield* api.refusal("info", body, { malformed: true })).toEqual([400, 107])
      }
    })
  )

  live("presence above client.reply_max_size 106; channels as many as there is room for, partial", () =>
    Effect.gen(function* () {
      const server = yield* People.start({ client: { reply_max_size: 64 * 1024, channel_limit: 1000 } })
      const api = yield* Api.make(server.http)
      const info = JSON.stringify("x".repeat(40 * 1024))
      const one = yield* People.connect(server, { user: "ada", info })
      const two = yield* People.connect(server, { user: "bob", info })
      yield* one.ask("subscribe", { channel: "room:a" })
      expect(Object.keys((yield* api.result("presence", { channel: "room:a" })).presence)).toEqual([one.id])
      yield* two.ask("subscribe", { channel: "room:a" })
      expect(yield* api.refusal("presence", { channel: "room:a" })).toEqual([200, 106])
      expect(yield* api.result("presence_stats", { channel: "room:a" })).toEqual({ num_clients: 2, num_users: 2 })

      for (let index = 0; index < 320; index++) {
        const { error } = yield* two.ask("subscribe", { channel: `bare:${String(index).padStart(250, "0")}` })
        expect(error).toBe(undefined)
      }
      const all = yield* api.call("channels", {})
      expect(all.body.result.partial).toBe(true)
      expect(Object.keys(all.body.result.channels).length).toBeGreaterThan(200)
      expect(all.text.length).toBeLessThan(72 * 1024)
      const some = yield* api.result("channels", { pattern: "bare:*10?" })
      expect([some.partial, Object.keys(some.channels).length]).toEqual([undefined, 10])
    })
  )
})

describe("server API: broadcast", () => {
  live("to more than 10,000 channels is refused, and published to none; long refusals are cut", () =>
    Effect.gen(function* () {
      const names = Array.from({ length: 100 }, (_, index) => ({ name: `namespace-${index}`, ...OPEN }))
      const server = yield* People.start({ channel: { namespaces: [...People.channel.namespaces, ...names] } })
      const api = yield* Api.make(server.http)
      const channels = Array.from({ length: 10_001 }, () => "room:a")
      expect(yield* api.refusal("broadcast", { channels, data: 1 }, { malformed: true })).toEqual([200, 106])
      expect((yield* api.result("history", { channel: "room:a" })).offset).toBe(0)
      const { responses } = yield* api.result("broadcast", { channels: ["nowhere:a"], data: 1 })
      expect(responses[0].error.message).toMatch(/^no namespace "nowhere"; known: room, bare, /)
      expect(responses[0].error.message.length).toBe(500)
    })
  )
})

describe("server API: rpc", () => {
  live("answers with what the hook answers, raw in both directions; its refusals are errors", () =>
    Effect.gen(function* () {
      const server = yield* People.start()
      const api = yield* Api.make(server.http)
      const echoed = yield* api.call("rpc", `{"method":"echo","data":{"data": ${RAW}}}`)
      expect(echoed.text).toBe(`{"result":{"data":{"data": ${RAW}}}}`)
      expect((yield* api.call("rpc", '{"method":"echo","data":null}')).text).toBe('{"result":{"data":null}}')
      expect(yield* api.result("rpc", { method: "echo" })).toEqual({ data: "nothing" })
      expect(yield* api.result("rpc", { method: "who" })).toEqual({ data: "the server API" })
      for (const method of ["nothing", "disconnecting"]) {
        const { body, status } = yield* api.call("rpc", { method })
        expect([status, body]).toEqual([200, { error: { code: 444, message: "no such procedure" } }])
      }
      // The name that the reference server has for it.
      expect(yield* api.result("rpc", { method: "echo", params: [1] })).toEqual({ data: [1] })
      expect(yield* api.result("rpc", { method: "echo", params: [1], data: [2] })).toEqual({ data: [2] })
      for (const body of ["{}", '{"data":1}', '{"method":null}', '{"method":""}']) {
        expect(yield* api.refusal("rpc", body, { malformed: true })).toEqual([200, 107])
      }
      expect(yield* api.refusal("rpc", '{"method":1}', { malformed: true })).toEqual([400, 107])
    })
  )

  live("a hook that answers with no JSON, or dies, is error 100, logged, and the server goes on", () =>
    Effect.gen(function* () {
      const server = yield* People.start()
      const api = yield* Api.make(server.http)
      expect(yield* api.refusal("rpc", { method: "broken" })).toEqual([200, 100])
      expect(yield* api.refusal("rpc", { method: "dead" })).toEqual([200, 100])
      expect(server.logs.filter((line) => line.startsWith("ERROR")).length).toBe(2)
      expect(yield* api.result("rpc", { method: "who" })).toEqual({ data: "the server API" })
    })
  )
})
