import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Api from "./support/api.ts"
import * as Http from "./support/http.ts"
import { live } from "./support/it.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"
import type { Json } from "./support/json.ts"

const { KEY } = Api

const keyed = { config: Api.keyed }

const OPEN = {
  allow_subscribe_for_client: true,
  allow_subscribe_for_anonymous: true,
  allow_publish_for_client: true,
  allow_publish_for_anonymous: true
}

/** `kept:…` has history, `fast:…` has none. */
const namespaces = {
  config: {
    ...keyed.config,
    channel: {
      namespaces: [
        { name: "kept", ...OPEN, history_size: 2000, history_ttl: "60s" },
        { name: "fast", ...OPEN }
      ]
    }
  }
}

const documents = new WeakMap<Server.Running, Api.Api>()

/** What a server says of its API. */
const documentOf = (server: Server.Running) =>
  Effect.gen(function* () {
    const document = documents.get(server) ?? (yield* Api.make(server.http))
    documents.set(server, document)
    return document
  })

/** Sends a body, whatever it is; the answer is held against what the server says of its API, where it has one. */
const post = (
  server: Server.Running,
  method: string,
  body: string,
  headers: Record<string, string> = { "X-API-Key": KEY }
) =>
  Http.send(`${server.http}/api/${method}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", ...headers },
    body
  }).pipe(
    Effect.tap((answer) =>
      answer.status === 404
        ? Effect.void
        : Effect.map(documentOf(server), ({ check }) => check("post", `/api/${method}`, answer))
    )
  )

/** Calls a method; the answer has status 200. */
const call = (server: Server.Running, method: string, body: object | string) =>
  Effect.map(post(server, method, typeof body === "string" ? body : JSON.stringify(body)), (answer): Json => {
    expect([answer.status, answer.headers["content-type"]]).toEqual([200, "application/json"])
    return JSON.parse(answer.body)
  })

/** Publishes numbers from 1 to `count`; returns the epoch of the stream. */
const fill = (server: Server.Running, channel: string, count: number) =>
  Effect.gen(function* () {
    for (let data = 1; data <= count; data++) yield* server.publisher.publish(channel, data)
    const { result } = yield* call(server, "history", { channel })
    expect(result.offset).toBe(count)
    return result.epoch as string
  })

const offsets = (answer: { readonly result: { readonly publications?: ReadonlyArray<{ readonly offset: number }> } }) =>
  (answer.result.publications ?? []).map(({ offset }) => offset)

describe("server API", () => {
  live("publish: reaches the channel, data as it came, whatever stands around it", () =>
    Effect.gen(function* () {
      const server = yield* Server.start(keyed)
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

  live("publish: an idempotency_key that is empty or above 255 characters is refused, and nothing published", () =>
    Effect.gen(function* () {
      const server = yield* Server.start(namespaces)
      const socket = yield* Socket.open(`${server.ws}/channels/kept:a`)
      const publish = (idempotency_key: unknown) =>
        post(server, "publish", JSON.stringify({ channel: "kept:a", data: 1, idempotency_key }))
      for (const key of ["", "k".repeat(256)]) {
        const answer = yield* publish(key)
        expect([answer.status, JSON.parse(answer.body)]).toEqual([
          200,
          {
            error: {
              code: 107,
              message: `an idempotency key has from 1 to 255 characters, this one ${key.length}`
            }
          }
        ])
      }
      expect((yield* publish(1)).status).toBe(400)
      const longest = yield* publish("k".repeat(255))
      expect(JSON.parse(longest.body)).toMatchObject({ result: { offset: 1 } })
      yield* socket.count(1)
      expect(socket.received).toEqual(["1"])
    })
  )

  live("history: the position alone, all of it, what comes after a position, or before it from the newest", () =>
    Effect.gen(function* () {
      const server = yield* Server.start(namespaces)
      const channel = "kept:a"
      const empty = yield* call(server, "history", { channel, limit: -1 })
      expect(empty).toEqual({ result: { epoch: expect.stringMatching(/./) } })
      const epoch = yield* fill(server, channel, 5)
      expect(epoch).toBe(empty.result.epoch)
      const ask = (range: object) => call(server, "history", { channel, ...range })

      for (const range of [{}, { limit: 0 }, { limit: null, since: null, reverse: null }]) {
        expect(yield* ask(range)).toEqual({ result: { epoch, offset: 5 } })
      }
      expect(yield* ask({ limit: 2 })).toEqual({
        result: {
          publications: [
            { data: 1, offset: 1 },
            { data: 2, offset: 2 }
          ],
          epoch,
          offset: 5
        }
      })
      const cases: ReadonlyArray<readonly [object, ReadonlyArray<number>]> = [
        [{ limit: -1 }, [1, 2, 3, 4, 5]],
        [{ limit: -1, reverse: true }, [5, 4, 3, 2, 1]],
        [{ limit: 2, reverse: true }, [5, 4]],
        [{ limit: -1, since: { offset: 3, epoch } }, [4, 5]],
        [{ limit: 1, since: { offset: 3, epoch } }, [4]],
        [{ limit: -1, since: { offset: 3 } }, [4, 5]],
        [{ limit: -1, since: {} }, [1, 2, 3, 4, 5]],
        [{ limit: -1, since: { offset: 5, epoch } }, []],
        [{ limit: -1, since: { offset: 9, epoch } }, []],
        [{ limit: -1, since: { offset: 3, epoch }, reverse: true }, [2, 1]],
        [{ limit: 1, since: { offset: 3, epoch }, reverse: true }, [2]],
        [{ limit: -1, since: { offset: 1, epoch }, reverse: true }, []]
      ]
      for (const [range, expected] of cases) {
        const answer = yield* ask(range)
        expect([range, offsets(answer)]).toEqual([range, expected])
        expect(answer.result).toMatchObject({ epoch, offset: 5 })
      }
    })
  )

  live("history: a page has at most 1,000 publications, and at most client.reply_max_size bytes", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: { ...namespaces.config, client: { reply_max_size: 64 * 1024 } } })
      const epoch = yield* fill(server, "kept:many", 1001)
      const page = yield* call(server, "history", { channel: "kept:many", limit: -1 })
      expect(offsets(page)).toEqual(Array.from({ length: 1000 }, (_, index) => index + 1))
      expect(page.result).toMatchObject({ epoch, offset: 1001 })
      expect(offsets(yield* call(server, "history", { channel: "kept:many", limit: 1001 }))).toHaveLength(1000)

      for (let index = 0; index < 3; index++) {
        yield* server.publisher.publish("kept:large", "x".repeat(30 * 1024))
      }
      const large = yield* call(server, "history", { channel: "kept:large", limit: -1 })
      expect([offsets(large), large.result.offset]).toEqual([[1, 2], 3])
    })
  )

  live("history: data comes back as it went in", () =>
    Effect.gen(function* () {
      const server = yield* Server.start(namespaces)
      const data = ['{"n": 1e400,"n":12345678901234567890}', '"\\u0061"', "-0", "[ ]", "null"]
      for (const text of data) yield* call(server, "publish", `{"channel":"kept:a","data":${text}}`)
      const { body } = yield* post(server, "history", '{"channel":"kept:a","limit":-1}')
      const publications = data.map((text, index) => `{"data":${text},"offset":${index + 1}}`)
      expect(body.slice(0, body.indexOf(',"epoch":'))).toBe(`{"result":{"publications":[${publications.join(",")}]`)

      const plain = yield* Socket.open(`${server.ws}/channels/kept:b`)
      plain.send("just text")
      yield* plain.count(1)
      const told = yield* call(server, "history", { channel: "kept:b", limit: -1 })
      expect(told.result.publications).toEqual([
        { data: "just text", offset: 1, info: { client: expect.stringMatching(/^[0-9a-f-]{36}$/) } }
      ])
    })
  )

  live("history: another epoch 112, no history 108, unknown namespace 102, no channel name 107", () =>
    Effect.gen(function* () {
      const server = yield* Server.start(namespaces)
      yield* fill(server, "kept:a", 3)
      const known = 'no namespace "nowhere"; known: kept, fast'
      const since = { offset: 1, epoch: "another" }
      for (const [body, error] of [
        [
          { channel: "kept:a", limit: -1, since },
          { code: 112, message: "unrecoverable position" }
        ],
        [
          { channel: "kept:a", limit: -1, since, reverse: true },
          { code: 112, message: "unrecoverable position" }
        ],
        [
          { channel: "kept:a", since },
          { code: 112, message: "unrecoverable position" }
        ],
        [
          { channel: "fast:a", limit: -1 },
          { code: 108, message: "the channel has no history" }
        ],
        [
          { channel: "lobby", limit: -1 },
          { code: 108, message: "the channel has no history" }
        ],
        [
          { channel: "nowhere:a", limit: -1 },
          { code: 102, message: known }
        ],
        [{ channel: "" }, { code: 107, message: expect.any(String) }],
        [{ channel: "kept:a\n" }, { code: 107, message: expect.any(String) }]
      ] as const) {
        expect([body, yield* call(server, "history", body)]).toEqual([body, { error }])
      }
      for (const body of [
        "{",
        "{}",
        '{"channel":1}',
        '{"channel":"kept:a","limit":"1"}',
        '{"channel":"kept:a","limit":1.5}',
        '{"channel":"kept:a","since":{"offset":-1}}',
        '{"channel":"kept:a","since":5}',
        '{"channel":"kept:a","reverse":1}'
      ]) {
        expect([body, (yield* post(server, "history", body)).status]).toEqual([body, 400])
      }
    })
  )

  live("history_remove: the publications are gone, epoch and offset go on", () =>
    Effect.gen(function* () {
      const server = yield* Server.start(namespaces)
      const epoch = yield* fill(server, "kept:a", 3)
      yield* fill(server, "kept:b", 1)
      const removed = yield* post(server, "history_remove", '{"channel":"kept:a"}')
      expect([removed.status, removed.body]).toEqual([200, '{"result":{}}'])
      const ask = (channel: string) => call(server, "history", { channel, limit: -1 })
      expect(yield* ask("kept:a")).toEqual({ result: { epoch, offset: 3 } })
      expect(offsets(yield* ask("kept:b"))).toEqual([1])
      expect(yield* call(server, "publish", { channel: "kept:a", data: 4 })).toEqual({ result: { epoch, offset: 4 } })
      expect(yield* ask("kept:a")).toEqual({ result: { epoch, offset: 4, publications: [{ data: 4, offset: 4 }] } })
      // One that was never there has nothing to remove.
      expect(yield* call(server, "history_remove", { channel: "kept:new" })).toEqual({ result: {} })
    })
  )

  live("history_remove: no history 108, unknown namespace 102, no channel name 107", () =>
    Effect.gen(function* () {
      const server = yield* Server.start(namespaces)
      for (const [channel, code] of [
        ["fast:a", 108],
        ["nowhere:a", 102],
        ["", 107]
      ] as const) {
        expect([channel, yield* call(server, "history_remove", { channel })]).toMatchObject([
          channel,
          { error: { code } }
        ])
      }
      for (const body of ["{", "{}", '{"channel":null}']) {
        expect([body, (yield* post(server, "history_remove", body)).status]).toEqual([body, 400])
      }
    })
  )

  live("broadcast: reaches every channel, and answers for each", () =>
    Effect.gen(function* () {
      const server = yield* Server.start(keyed)
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

  live("key: missing or wrong 401, in either header; none configured 404", () =>
    Effect.gen(function* () {
      const server = yield* Server.start(keyed)
      const body = '{"channel":"public:lobby","data":1}'
      expect((yield* post(server, "publish", body, {})).status).toBe(401)
      expect((yield* post(server, "publish", body, { "X-API-Key": "wrong" })).status).toBe(401)
      expect((yield* post(server, "publish", body, { "X-API-Key": `${KEY}x` })).status).toBe(401)
      expect((yield* post(server, "publish", body, { Authorization: "apikey wrong" })).status).toBe(401)
      expect((yield* post(server, "publish", body, { Authorization: `apikey ${KEY}` })).status).toBe(200)
      const off = yield* Server.start()
      expect((yield* post(off, "publish", body)).status).toBe(404)
      const channel = '{"channel":"public:lobby"}'
      for (const method of ["history", "history_remove"]) {
        expect((yield* post(server, method, channel, {})).status).toBe(401)
        expect((yield* post(server, method, channel, { "X-API-Key": "wrong" })).status).toBe(401)
        expect((yield* post(server, method, channel)).status).toBe(200)
        expect((yield* post(off, method, channel)).status).toBe(404)
      }
    })
  )

  live("body: not JSON or not the method's 400, too large 413 unread, a publication above 64 KiB 413", () =>
    Effect.gen(function* () {
      const server = yield* Server.start(keyed)
      for (const body of ["{", "[]", '{"channel":1,"data":1}', '{"channel":"public:a"}', '{"channels":"a","data":1}']) {
        expect([body, (yield* post(server, body.includes("channels") ? "broadcast" : "publish", body)).status]).toEqual(
          [body, 400]
        )
      }
      const large = JSON.stringify({ channel: "public:a", data: "x".repeat(64 * 1024) })
      expect((yield* post(server, "publish", large)).status).toBe(413)
      const fits = JSON.stringify({ channel: "public:a", data: "x".repeat(64 * 1024 - 2) })
      expect((yield* post(server, "publish", fits)).status).toBe(200)
      expect((yield* post(server, "publish", "x".repeat(2 * 1024 * 1024))).status).toBe(413)
      expect((yield* post(server, "publish", '{"channel":"public:a","data":1}')).status).toBe(200)
    })
  )
})

describe("health, metrics and page", () => {
  live("a live server: live and ready 200 with the broker in the body; metrics count what happened", () =>
    Effect.gen(function* () {
      const server = yield* Server.start()
      for (const path of ["/health/live", "/health/ready"]) {
        const answer = yield* Http.send(server.http + path)
        expect([answer.status, JSON.parse(answer.body)]).toEqual([
          200,
          { status: "ok", broker: { name: "memory", state: "Live" } }
        ])
      }
      const socket = yield* Socket.open(`${server.ws}/channels/public:lobby`)
      socket.send("one")
      yield* socket.count(1)
      const metrics = yield* Http.metrics(server.http)
      expect(metrics).toMatchObject({
        'fanfare_connections{kind="plain"}': 1,
        'fanfare_connections{kind="protocol"}': 0,
        fanfare_subscriptions: 1,
        fanfare_channels: 1,
        fanfare_frames_received_total: 1,
        fanfare_published_total: 1,
        fanfare_deliveries_total: 1,
        'fanfare_dropped_total{reason="mailbox_full"}': 0,
        'fanfare_dropped_total{reason="gap"}': 0,
        fanfare_holes_total: 0,
        fanfare_healed_total: 0,
        fanfare_gaps_total: 0,
        'fanfare_recoveries_total{result="recovered"}': 0,
        'fanfare_insufficient_total{reason="overflow"}': 0,
        'fanfare_broker_state{state="live"}': 1
      })
    })
  )

  live("the page is served at /, and nothing else answers anything but 404", () =>
    Effect.gen(function* () {
      const server = yield* Server.start()
      const page = yield* Http.send(`${server.http}/`)
      expect([page.status, page.headers["content-type"]]).toEqual([200, "text/html; charset=utf-8"])
      expect(page.body).toContain("public:lobby")
      expect((yield* Http.send(`${server.http}/nothing`)).status).toBe(404)
      expect((yield* Http.send(`${server.http}/connection/websocket`)).status).toBe(404)
    })
  )
})
