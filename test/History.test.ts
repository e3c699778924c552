import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { channel, OPEN, publishAll, raw, READABLE } from "./support/history.ts"
import { live } from "./support/it.ts"
import * as Redis from "./support/redis.ts"
import * as Sdk from "./support/sdk.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"

describe("the command history", () => {
  live("limit, since and reverse; the position alone; every byte of data as it was", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: { channel } })
      const { ask, socket } = yield* raw(server)
      yield* ask("subscribe", { channel: "kept:x" })
      yield* publishAll(server, "kept:x", 4)
      yield* server.publisher.publishRaw("kept:x", { data: '{"n": 1e400}', json: true }, { tags: { kind: "raw" } })
      const read = (params: object) => Effect.map(ask("history", { channel: "kept:x", ...params }), (r) => r["history"])
      const position = yield* read({})
      expect(position).toEqual({ publications: [], epoch: expect.any(String) as string, offset: 5 })
      expect((yield* ask("history", { channel: "kept:new" }))["error"].code).toBe(103)
      yield* ask("subscribe", { channel: "kept:new" })
      expect((yield* ask("history", { channel: "kept:new" }))["history"]).toEqual({
        publications: [],
        epoch: expect.any(String) as string,
        offset: 0
      })
      const offsets = (params: object) =>
        Effect.map(read(params), (page) => page.publications.map(({ offset }: { offset: number }) => offset))
      const { epoch } = position
      expect(yield* offsets({ limit: -1 })).toEqual([1, 2, 3, 4, 5])
      expect(yield* offsets({ limit: 2 })).toEqual([1, 2])
      expect(yield* offsets({ limit: 2, reverse: true })).toEqual([5, 4])
      expect(yield* offsets({ limit: 2, since: { epoch, offset: 2 } })).toEqual([3, 4])
      expect(yield* offsets({ limit: 9, since: { offset: 3 } })).toEqual([4, 5])
      expect(yield* offsets({ limit: 9, since: { offset: 0, epoch: null } })).toEqual([1, 2, 3, 4, 5])
      expect(yield* offsets({ limit: 9, since: { offset: 2 ** 63 } })).toEqual([])
      expect(yield* offsets({ limit: 2, reverse: true, since: { epoch, offset: 3 } })).toEqual([2, 1])
      expect(yield* offsets({ limit: 9, since: { epoch, offset: 5 } })).toEqual([])
      expect(
        yield* ask("history", { channel: "kept:x", limit: 1, since: { epoch: "another", offset: 1 } })
      ).toMatchObject({
        error: { code: 112 }
      })
      yield* ask("history", { channel: "kept:x", limit: 1, reverse: true })
      expect(socket.received.at(-1)).toContain('{"data":{"n": 1e400},"offset":5,"tags":{"kind":"raw"}}')
    })
  )

  live("a page has at most client.history_max_publication_limit publications and client.reply_max_size bytes", () =>
    Effect.gen(function* () {
      const config = { channel, client: { history_max_publication_limit: 3, reply_max_size: 64 * 1024 } }
      const server = yield* Server.start({ config })
      const { ask } = yield* raw(server)
      yield* ask("subscribe", { channel: "kept:x" })
      yield* publishAll(server, "kept:x", 5)
      const count = (limit: number) =>
        Effect.map(ask("history", { channel: "kept:x", limit }), (reply) => reply["history"].publications.length)
      expect([yield* count(3), yield* count(4), yield* count(-1)]).toEqual([3, 3, 3])
      yield* Effect.forEach([1, 2, 3], () => server.publisher.publish("kept:big", "x".repeat(30_000)))
      yield* ask("subscribe", { channel: "kept:big" })
      expect((yield* ask("history", { channel: "kept:big", limit: 3 }))["history"].publications.length).toBe(2)
    })
  )

  live("is refused without permission, in a channel without history, and in an unknown namespace", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({
        config: { channel: { namespaces: [...channel.namespaces, { name: "plain", ...OPEN, ...READABLE }] } }
      })
      const { ask } = yield* raw(server)
      const code = (name: string) => Effect.map(ask("history", { channel: name }), (reply) => reply["error"]?.code)
      expect(yield* code("hidden:x")).toBe(103)
      expect(yield* code("kept:x")).toBe(103)
      yield* ask("subscribe", { channel: "kept:x" })
      expect(yield* code("kept:x")).toBe(undefined)
      yield* ask("subscribe", { channel: "plain:x" })
      expect(yield* code("plain:x")).toBe(108)
      expect(yield* code("nowhere:x")).toBe(102)
    })
  )

  live("the stock client pages through a stream from its beginning", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: { channel } })
      const client = yield* Sdk.connect(server.ws)
      yield* publishAll(server, "kept:x", 7)
      const subscription = yield* Sdk.subscribe(client, "kept:x")
      const pages: Array<ReadonlyArray<unknown>> = []
      let since = { offset: 0, epoch: "" }
      for (;;) {
        const page = yield* Effect.promise(() => subscription.history({ limit: 3, since }))
        if (page.publications.length === 0) break
        pages.push(page.publications.map(({ data }) => data))
        since = { epoch: page.epoch, offset: page.publications.at(-1)?.offset ?? 0 }
      }
      expect(pages).toEqual([[1, 2, 3], [4, 5, 6], [7]])
    })
  )
})

describe("the plain socket", () => {
  live("?history=N: first the last N publications, then what comes", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: { channel } })
      yield* publishAll(server, "kept:x", 5)
      const open = (query: string) => Socket.open(`${server.ws}/channels/kept:x${query}`)
      const three = yield* open("?history=3")
      const many = yield* open("?history=300")
      const none = yield* open("?history=0")
      yield* server.publisher.publish("kept:x", 6)
      yield* three.count(4)
      yield* many.count(6)
      yield* none.count(1)
      expect(three.received).toEqual(["3", "4", "5", "6"])
      expect(many.received).toEqual(["1", "2", "3", "4", "5", "6"])
      expect(none.received).toEqual(["6"])
    })
  )

  live("?history=N while publications keep coming: no hole, no duplicate", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: { redis_url: (yield* Redis.start()).url, channel } })
      yield* publishAll(server, "kept:x", 50)
      const [sockets] = yield* Effect.all(
        [
          Effect.forEach(Array.from({ length: 20 }), () => Socket.open(`${server.ws}/channels/kept:x?history=10`), {
            concurrency: 4
          }),
          publishAll(server, "kept:x", 300)
        ],
        { concurrency: "unbounded" }
      )
      yield* server.publisher.publish("kept:x", "end")
      for (const socket of sockets) {
        yield* socket.gets("end")
        const numbers = socket.received.slice(0, -1).map(Number)
        const all = [...Array.from({ length: 50 }, (_, i) => i + 1), ...Array.from({ length: 300 }, (_, i) => i + 1)]
        expect(numbers.length).toBeGreaterThanOrEqual(10)
        expect(numbers).toEqual(all.slice(-numbers.length))
      }
    })
  )

  live("?history is refused where it is not a number, too large, not permitted, or there is none", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: { channel } })
      const status = (path: string) =>
        Effect.map(Socket.refusal(`${server.ws}/channels/${path}`), ({ status, body }) => [status, body.trim()])
      expect(yield* status("kept:x?history=many")).toEqual([400, "?history: expected a number from 0 to 300"])
      expect(yield* status("kept:x?history=-1")).toEqual([400, "?history: expected a number from 0 to 300"])
      expect(yield* status("kept:x?history=301")).toEqual([400, "?history: expected a number from 0 to 300"])
      expect(yield* status("bare:x?history=1")).toEqual([400, "?history: the channel has none"])
      expect((yield* status("hidden:x?history=1"))[0]).toBe(403)
    })
  )
})

describe("Publisher", () => {
  live("skipHistory: heard, without an offset, and in no history; nobody takes it for a hole", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: { channel } })
      const { socket, ask } = yield* raw(server)
      yield* ask("subscribe", { channel: "kept:x" })
      yield* server.publisher.publish("kept:x", 1)
      expect(yield* server.publisher.publish("kept:x", "now", { skipHistory: true })).toBe(undefined)
      expect((yield* server.publisher.publish("kept:x", 2))?.offset).toBe(2)
      yield* socket.gets('"data":2')
      expect(socket.received.slice(-3)).toEqual(
        ['"data":1,"offset":1', '"data":"now"', '"data":2,"offset":2'].map(
          (pub) => `{"push":{"channel":"kept:x","pub":{${pub}}}}`
        )
      )
      const { publications } = (yield* ask("history", { channel: "kept:x", limit: -1 }))["history"]
      expect(publications).toEqual([
        { data: 1, offset: 1 },
        { data: 2, offset: 2 }
      ])
      expect(server.metrics.holes.value).toBe(0)
    })
  )

  for (const name of ["memory", "redis"] as const) {
    live(`a publication that is passed on gets a position of its own, over ${name}`, () =>
      Effect.gen(function* () {
        const redis = name === "redis" ? { redis_url: (yield* Redis.start()).url } : {}
        const server = yield* Server.start({ config: { ...redis, channel } })
        const { ask, socket } = yield* raw(server)
        yield* ask("subscribe", { channel: "kept:y" })
        yield* server.publisher.publish("kept:y", "first")
        yield* server.publisher.publish("kept:y", "second")
        const foreign = { data: '"passed on"', json: true, epoch: "elsewhere", offset: 1 }
        expect((yield* server.publisher.publishRaw("kept:y", foreign))?.offset).toBe(3)
        yield* socket.gets('"data":"passed on","offset":3')
        expect(server.metrics.holes.value).toBe(0)
      })
    )

    live(
      `idempotencyKey, over ${name}: the same key in the same channel publishes once, with and without history`,
      () =>
        Effect.gen(function* () {
          const redis = name === "redis" ? { redis_url: (yield* Redis.start()).url } : {}
          const server = yield* Server.start({ config: { ...redis, channel } })
          const kept = yield* Socket.open(`${server.ws}/channels/kept:x`)
          const bare = yield* Socket.open(`${server.ws}/channels/bare:x`)
          const publish = (name: string, data: string, idempotencyKey: string) =>
            server.publisher.publish(name, data, { idempotencyKey })
          const first = yield* publish("kept:x", "one", "a")
          expect(first?.offset).toBe(1)
          expect(yield* publish("kept:x", "again", "a")).toEqual(first)
          expect((yield* publish("kept:x", "two", "b"))?.offset).toBe(2)
          expect((yield* publish("kept:y", "elsewhere", "a"))?.offset).toBe(1)
          expect(yield* publish("bare:x", "one", "a")).toBe(undefined)
          expect(yield* publish("bare:x", "again", "a")).toBe(undefined)
          yield* publish("bare:x", "two", "b")
          yield* kept.count(2)
          yield* bare.count(2)
          expect([kept.received, bare.received]).toEqual([
            ['"one"', '"two"'],
            ['"one"', '"two"']
          ])
          expect(yield* Effect.flip(publish("kept:x", "x", ""))).toMatchObject({ reason: "IdempotencyKey" })
          expect(yield* Effect.flip(publish("kept:x", "x", "k".repeat(256)))).toMatchObject({
            reason: "IdempotencyKey"
          })
          const tags = { t: "x".repeat(4096) }
          expect(yield* Effect.flip(server.publisher.publish("kept:x", "x", { tags }))).toMatchObject({
            reason: "Tags"
          })
        })
    )
  }
})
