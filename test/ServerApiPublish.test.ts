import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Api from "./support/api.ts"
import { live } from "./support/it.ts"
import { call, fill, namespaces, post } from "./support/methods.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"

describe("server API", () => {
  live("publish: reaches the channel, data as it came, whatever stands around it", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: Api.keyed })
      const socket = yield* Socket.open(`${server.ws}/channels/public:lobby`)
      const answer = yield* call(
        server,
        "publish",
        '{"x":[{"data":0}], "data" : {"n": 1e400}, "channel": "public:lobby"}'
      )
      expect(answer).toEqual({ result: { epoch: expect.stringMatching(/./), offset: 1 } })
      yield* socket.count(1)
      expect(socket.received).toEqual(['{"n": 1e400}'])
    })
  )

  live("publish: answers with the position in a channel with history, and with nothing in one without", () =>
    Effect.gen(function* () {
      const server = yield* Server.start(namespaces)
      const epoch = yield* fill(server, "kept:a", 2)
      expect(yield* call(server, "publish", { channel: "kept:a", data: 1 })).toEqual({ result: { epoch, offset: 3 } })
      const answer = yield* post(server, "publish", '{"channel":"fast:a","data":1}')
      expect([answer.status, answer.body]).toEqual([200, '{"result":{}}'])
    })
  )

  live("publish: tags stand beside data, in pushes and in the history; those above 4 KiB are refused", () =>
    Effect.gen(function* () {
      const server = yield* Server.start(namespaces)
      const client = yield* Socket.open(`${server.ws}/connection/websocket`)
      client.send('{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"kept:a"}}')
      yield* client.gets('"id":2,"subscribe":{')
      const tags = { lang: "en", ü: '"' }
      yield* call(server, "publish", { channel: "kept:a", data: 1, tags })
      yield* client.gets('"pub":')
      expect(JSON.parse(client.received.at(-1) ?? "")).toEqual({
        push: { channel: "kept:a", pub: { data: 1, offset: 1, tags } }
      })
      const { result } = yield* call(server, "history", { channel: "kept:a", limit: -1 })
      expect(result.publications).toEqual([{ data: 1, offset: 1, tags }])
      const large = { t: "x".repeat(4096) }
      expect(yield* call(server, "publish", { channel: "kept:a", data: 2, tags: large })).toMatchObject({
        error: { code: 107 }
      })
      expect((yield* post(server, "publish", '{"channel":"kept:a","data":1,"tags":{"n":1}}')).status).toBe(400)
      expect((yield* call(server, "history", { channel: "kept:a" })).result.offset).toBe(1)
    })
  )

  live("publish: skip_history delivers without an offset, and keeps nothing", () =>
    Effect.gen(function* () {
      const server = yield* Server.start(namespaces)
      const epoch = yield* fill(server, "kept:a", 1)
      const client = yield* Socket.open(`${server.ws}/connection/websocket`)
      client.send('{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"kept:a"}}')
      yield* client.gets('"id":2,"subscribe":{')
      const skipped = { channel: "kept:a", data: "passing", skip_history: true }
      expect(yield* call(server, "publish", skipped)).toEqual({ result: {} })
      yield* client.gets('{"push":{"channel":"kept:a","pub":{"data":"passing"}}}')
      expect(yield* call(server, "history", { channel: "kept:a", limit: -1 })).toEqual({
        result: { epoch, offset: 1, publications: [{ data: 1, offset: 1 }] }
      })
      const kept = { channel: "kept:a", data: "kept", skip_history: false }
      expect(yield* call(server, "publish", kept)).toEqual({ result: { epoch, offset: 2 } })
    })
  )

  live("publish: the same idempotency_key again has the first position, and nothing is delivered", () =>
    Effect.gen(function* () {
      const server = yield* Server.start(namespaces)
      const kept = yield* Socket.open(`${server.ws}/channels/kept:a`)
      const fast = yield* Socket.open(`${server.ws}/channels/fast:a`)
      const other = yield* Socket.open(`${server.ws}/channels/kept:b`)
      const publish = (channel: string, data: string, idempotency_key: string) =>
        call(server, "publish", { channel, data, idempotency_key })
      const first = yield* publish("kept:a", "first", "k")
      expect(first).toEqual({ result: { epoch: expect.stringMatching(/./), offset: 1 } })
      const second = yield* publish("kept:a", "second", "another")
      expect(second).toEqual({ result: { epoch: first.result.epoch, offset: 2 } })
      expect(yield* publish("kept:a", "again", "k")).toEqual(first)
      // A key belongs to its channel.
      expect((yield* publish("kept:b", "elsewhere", "k")).result.offset).toBe(1)
      expect(yield* publish("fast:a", "first", "k")).toEqual({ result: {} })
      expect(yield* publish("fast:a", "again", "k")).toEqual({ result: {} })
      yield* publish("kept:a", "end", "k3")
      yield* publish("fast:a", "end", "k3")
      yield* Effect.all([kept.gets('"end"'), fast.gets('"end"'), other.count(1)])
      expect(kept.received).toEqual(['"first"', '"second"', '"end"'])
      expect(fast.received).toEqual(['"first"', '"end"'])
      expect(other.received).toEqual(['"elsewhere"'])
      expect((yield* call(server, "history", { channel: "kept:a" })).result.offset).toBe(3)
    })
  )

  live("publish: an idempotency_key above 255 characters is refused, and nothing published; an empty one is none", () =>
    Effect.gen(function* () {
      const server = yield* Server.start(namespaces)
      const socket = yield* Socket.open(`${server.ws}/channels/kept:a`)
      const publish = (idempotency_key: unknown) =>
        post(server, "publish", JSON.stringify({ channel: "kept:a", data: 1, idempotency_key }))
      const answer = yield* publish("k".repeat(256))
      expect([answer.status, JSON.parse(answer.body)]).toEqual([
        200,
        { error: { code: 107, message: "an idempotency key has from 1 to 255 characters, this one 256" } }
      ])
      expect((yield* publish(1)).status).toBe(400)
      const longest = yield* publish("k".repeat(255))
      expect(JSON.parse(longest.body)).toMatchObject({ result: { offset: 1 } })
      for (const none of ["", null, undefined, ""]) {
        expect(JSON.parse((yield* publish(none)).body).result.epoch).toMatch(/./)
      }
      yield* socket.count(5)
      expect(socket.received).toEqual(["1", "1", "1", "1", "1"])
    })
  )

  live("broadcast: reaches every channel, and answers for each", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: Api.keyed })
      const one = yield* Socket.open(`${server.ws}/channels/public:one`)
      const two = yield* Socket.open(`${server.ws}/channels/two`)
      const answer = yield* call(server, "broadcast", '{"channels":["public:one","nowhere:x","two"],"data":"hi"}')
      const first = { result: { epoch: expect.stringMatching(/./), offset: 1 } }
      expect(answer).toEqual({
        result: {
          responses: [first, { error: { code: 102, message: 'no namespace "nowhere"; known: public' } }, first]
        }
      })
      yield* one.count(1)
      yield* two.count(1)
      expect([one.received, two.received]).toEqual([['"hi"'], ['"hi"']])
    })
  )

  live("broadcast: tags, skip_history and idempotency_key hold for every channel", () =>
    Effect.gen(function* () {
      const server = yield* Server.start(namespaces)
      const channels = ["kept:a", "kept:b", "fast:c"]
      const sockets = yield* Effect.forEach(channels, (channel) => Socket.open(`${server.ws}/channels/${channel}`))
      const broadcast = (data: string, options: object) =>
        Effect.map(call(server, "broadcast", { channels, data, ...options }), ({ result }) => result.responses)
      const first = yield* broadcast("first", { idempotency_key: "k", tags: { t: "v" } })
      expect(first).toEqual([
        { result: { epoch: expect.any(String), offset: 1 } },
        { result: { epoch: expect.any(String), offset: 1 } },
        { result: {} }
      ])
      expect(yield* broadcast("again", { idempotency_key: "k" })).toEqual(first)
      expect(yield* broadcast("end", { skip_history: true })).toEqual([{ result: {} }, { result: {} }, { result: {} }])
      for (const socket of sockets) {
        yield* socket.gets('"end"')
        expect(socket.received).toEqual(['"first"', '"end"'])
      }
      for (const channel of ["kept:a", "kept:b"]) {
        const { result } = yield* call(server, "history", { channel, limit: -1 })
        expect(result.publications).toEqual([{ data: "first", offset: 1, tags: { t: "v" } }])
      }
    })
  )
})
