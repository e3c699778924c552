/** Fields that are left out, `null` or empty are one thing; options that are not there are refused by name. */
import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Hooks from "../src/Hooks.ts"
import * as Api from "./support/api.ts"
import { OPEN, raw, READABLE } from "./support/history.ts"
import * as Http from "./support/http.ts"
import { live } from "./support/it.ts"
import type { Json } from "./support/json.ts"
import * as People from "./support/people.ts"
import type * as Server from "./support/server.ts"

/** Every method with a body that it takes, and for each of its fields what is the same as leaving it out. */
const FIELDS: ReadonlyArray<
  readonly [method: string, body: object, fields: Readonly<Record<string, ReadonlyArray<unknown>>>]
> = [
  [
    "publish",
    { channel: "room:a", data: 1 },
    {
      channel: [""],
      data: [],
      skip_history: [false],
      tags: [{}],
      idempotency_key: [""],
      version: [0],
      version_epoch: [""],
      type: [0],
      b64data: [""]
    }
  ],
  [
    "broadcast",
    { channels: ["room:a", "bare:a"], data: 1 },
    { channels: [[]], data: [], skip_history: [false], tags: [{}], idempotency_key: [""], version: [0], b64data: [""] }
  ],
  [
    "subscribe",
    { user: "ada", channel: "room:a" },
    {
      user: [""],
      client: [""],
      channel: [""],
      info: [],
      data: [],
      expire_at: [0],
      session: [""],
      override: [{}, { presence: null }],
      recover_since: [{}],
      label_filter: [{}],
      all_users: [false],
      b64info: [""]
    }
  ],
  ["unsubscribe", { user: "ada", channel: "room:a" }, { user: [""], client: [""], channel: [""], session: [""] }],
  [
    "disconnect",
    { user: "bob" },
    {
      user: [""],
      client: [""],
      whitelist: [[], [null], [""]],
      disconnect: [{}, { code: null, reason: null }, { code: 0, reason: "" }],
      session: [""]
    }
  ],
  ["refresh", { user: "ada" }, { user: [""], client: [""], expired: [false], expire_at: [0], info: [], session: [""] }],
  ["presence", { channel: "room:a" }, { channel: [""] }],
  ["presence_stats", { channel: "room:a" }, { channel: [""] }],
  ["history", { channel: "room:b" }, { channel: [""], limit: [0], since: [], reverse: [false] }],
  [
    "history",
    { channel: "room:b", limit: 10, since: { offset: 0, epoch: "" } },
    { since: [{}, { offset: null, epoch: null }] }
  ],
  ["history_remove", { channel: "room:c" }, { channel: [""] }],
  ["channels", { pattern: "*" }, { pattern: [""] }],
  ["info", {}, {}],
  ["rpc", { method: "echo", data: 1 }, { method: [""] }]
]

const send = (server: Server.Running, method: string, body: unknown, headers: Record<string, string> = {}) =>
  Http.send(`${server.http}/api/${method}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-API-Key": Api.KEY, ...headers },
    body: JSON.stringify(body)
  })

/** The status, and what of an answer does not change from call to call. */
const said = ({ body, status }: Http.Response): Json => {
  const answer = JSON.parse(body, (key, value) => (["offset", "epoch", "uptime"].includes(key) ? undefined : value))
  return [status, answer.error === undefined ? answer : answer.error.code]
}

describe("server API, fields that say nothing", () => {
  live("are the same left out, null and empty, in every method, by itself and in a batch", () =>
    Effect.gen(function* () {
      const server = yield* People.start()
      yield* People.connect(server, { user: "ada" })
      yield* server.publisher.publish("room:b", 1)
      let compared = 0
      for (const [method, body, fields] of FIELDS) {
        for (const [field, same] of Object.entries(fields)) {
          const without = Object.fromEntries(Object.entries(body).filter(([name]) => name !== field))
          const isData = field === "data" && method !== "subscribe"
          // A publication whose data is null is one.
          const bodies = [...(isData ? [] : [null]), ...same].map((value) => ({ ...without, [field]: value }))
          const expected = said(yield* send(server, method, without))
          expect(expected[0], `${method} without ${field}`).toBe(200)
          for (const one of bodies) {
            expect(said(yield* send(server, method, one)), `${method} ${JSON.stringify(one)}`).toEqual(expected)
            compared++
          }
          const { body: text } = yield* send(server, "batch", {
            commands: [without, ...bodies].map((one) => ({ [method]: one }))
          })
          const [first, ...others] = JSON.parse(text, (key, value) =>
            ["offset", "epoch", "uptime", "message"].includes(key) ? undefined : value
          ).replies
          for (const other of others) expect(other, `batch of ${method} without ${field}`).toEqual(first)
        }
      }
      expect(compared).toBeGreaterThan(80)
    })
  )

  live("a member of a command that is null is absent; so are commands, and a whole body", () =>
    Effect.gen(function* () {
      const server = yield* People.start()
      const publish = { channel: "room:a", data: 1 }
      const batch = (commands: unknown) =>
        Effect.map(send(server, "batch", { commands }), ({ body }) => JSON.parse(body))
      const { replies } = yield* batch([
        { broadcast: null, publish },
        { publish, info: null, rpc: null },
        { publish: null },
        null,
        {}
      ])
      expect(replies.map((one: Json) => Object.keys(one)[0])).toEqual(["publish", "publish", "error", "error", "error"])
      for (const none of [[], null, undefined]) expect(yield* batch(none)).toEqual({ replies: [] })
      for (const method of ["info", "channels"]) {
        expect(said(yield* send(server, method, null))).toEqual(said(yield* send(server, method, {})))
      }
    })
  )

  live("a tag that is null is an empty one, and a channel of a broadcast an empty one, refused in its place", () =>
    Effect.gen(function* () {
      const server = yield* People.start()
      yield* send(server, "publish", { channel: "room:a", data: 1, tags: { a: null, b: "c" } })
      const { result } = JSON.parse((yield* send(server, "history", { channel: "room:a", limit: 1 })).body)
      expect(result.publications).toEqual([{ data: 1, offset: 1, tags: { a: "", b: "c" } }])
      const sent = JSON.parse((yield* send(server, "broadcast", { channels: [null, "room:a"], data: 1 })).body)
      expect(sent.result.responses).toEqual([
        { error: { code: 107, message: expect.any(String) } },
        { result: { epoch: result.epoch, offset: 2 } }
      ])
    })
  )

  live("a disconnect without a code is 3503, with the reason that it has", () =>
    Effect.gen(function* () {
      const server = yield* People.start()
      const cases: ReadonlyArray<readonly [unknown, object]> = [
        [undefined, { code: 3503, reason: "force disconnect" }],
        [null, { code: 3503, reason: "force disconnect" }],
        [
          { code: 0, reason: "bye" },
          { code: 3503, reason: "bye" }
        ],
        [{ reason: "bye" }, { code: 3503, reason: "bye" }],
        [
          { code: 4000, reason: null },
          { code: 4000, reason: "" }
        ]
      ]
      for (const [disconnect, closed] of cases) {
        const { id, socket } = yield* People.connect(server)
        // Of an anonymous client, who has no user.
        expect((yield* send(server, "disconnect", { client: id, disconnect })).body).toBe('{"result":{}}')
        expect(yield* socket.closed).toEqual(closed)
      }
    })
  )
})

describe("server API, options that are not there", () => {
  const CONNECTIONS = { session: "s", label_filter: { key: "a" }, all_users: true }
  const PUBLISHING = { b64data: "e30=", version: 5, version_epoch: "e", type: 1, key: "k", removed: true }
  const REFUSED: ReadonlyArray<readonly [method: string, body: object, options: object]> = [
    ["publish", { channel: "room:a", data: 1 }, PUBLISHING],
    ["broadcast", { channels: ["room:a"], data: 1 }, PUBLISHING],
    [
      "subscribe",
      { user: "ada", channel: "room:a" },
      {
        ...CONNECTIONS,
        b64info: "e30=",
        b64data: "e30=",
        recover_since: { offset: 0, epoch: "" },
        override: { presence: { value: false } }
      }
    ],
    ["unsubscribe", { user: "ada", channel: "room:a" }, CONNECTIONS],
    ["disconnect", { user: "ada" }, CONNECTIONS],
    ["refresh", { user: "ada" }, CONNECTIONS]
  ]

  live("are refused by name, by themselves and in a batch, and nothing is done", () =>
    Effect.gen(function* () {
      const server = yield* People.start()
      const { socket } = yield* People.connect(server, { user: "ada" })
      for (const [method, body, options] of REFUSED) {
        for (const [option, value] of Object.entries(options)) {
          const one = { ...body, [option]: value }
          const error = { code: 108, message: `${option}: is not available` }
          const answer = yield* send(server, method, one)
          expect([answer.status, JSON.parse(answer.body)], `${method} with ${option}`).toEqual([200, { error }])
          const batch = yield* send(server, "batch", { commands: [{ [method]: one }] })
          expect(JSON.parse(batch.body)).toEqual({ replies: [{ error }] })
        }
      }
      expect(JSON.parse((yield* send(server, "history", { channel: "room:a" })).body).result.offset).toBe(0)
      expect([socket.isClosed(), server.metrics.subscriptions.value]).toEqual([false, 0])
    })
  )

  live("delta is no such option: what is published is the same with it", () =>
    Effect.gen(function* () {
      const server = yield* People.start()
      const answer = yield* send(server, "publish", { channel: "room:a", data: 1, delta: true })
      expect(JSON.parse(answer.body)).toMatchObject({ result: { offset: 1 } })
    })
  )

  live("errors as statuses, which a header asks for, are refused with 400, so that none is taken for a success", () =>
    Effect.gen(function* () {
      const server = yield* People.start()
      const mode = { "X-Centrifugo-Error-Mode": "transport" }
      for (const method of ["publish", "batch", "info"]) {
        const { body, status } = yield* send(server, method, { channel: "room:a", data: 1 }, mode)
        expect([status, JSON.parse(body).error.code, body]).toEqual([400, 107, expect.stringContaining("error-mode")])
      }
      expect((yield* send(server, "info", {}, { "X-Centrifugo-Error-Mode": "" })).status).toBe(200)
    })
  )
})

describe("numbers", () => {
  live("offsets above what JavaScript counts with, up to 64 bits, are after any stream, also over Redis", () =>
    Effect.gen(function* () {
      const room = { name: "room", ...OPEN, ...READABLE, history_size: 10, history_ttl: "60s" }
      const [server] = yield* People.overRedis({ channel: { namespaces: [room] } })
      yield* server.publisher.publish("room:a", 1)
      const client = yield* People.connect(server, { user: "ada" })
      yield* client.ask("subscribe", { channel: "room:a" })
      for (const offset of [2 ** 53, 2 ** 63, 2 ** 64]) {
        const params = { channel: "room:a", limit: 5, since: { offset } }
        const { history } = yield* client.ask("history", params)
        expect(history).toEqual({ publications: [], epoch: expect.any(String), offset: 1 })
        const before = yield* client.ask("history", { ...params, reverse: true })
        expect(before["history"].publications).toEqual([{ data: 1, offset: 1 }])
        // The server API says what it does not take.
        const { body, status } = yield* send(server, "history", params)
        expect([status, body]).toEqual([400, expect.stringContaining("since.offset")])
      }
    })
  )

  live("a code that a hook gives and that has no 32 bits is 100, for clients and in the server API", () =>
    Effect.gen(function* () {
      const codes = [Number.NaN, 0, -1, 1.5, 2 ** 32, Number.POSITIVE_INFINITY]
      const server = yield* People.startWith({
        onRpc: ({ method }) => Effect.fail(new Hooks.Rejected({ code: codes[Number(method)] ?? 444, message: "no" }))
      })
      const client = yield* People.connect(server)
      const answers = (method: string) =>
        Effect.gen(function* () {
          const answer = JSON.parse((yield* send(server, "rpc", { method })).body)
          return [answer.error.code, (yield* client.ask("rpc", { method }))["error"].code]
        })
      for (const index of codes.keys()) expect(yield* answers(String(index)), `${codes[index]}`).toEqual([100, 100])
      expect(yield* answers("else")).toEqual([444, 444])
    })
  )

  live("an end that a hook gives and that is no time, is over; a far one is told as a year", () =>
    Effect.gen(function* () {
      const ends: Readonly<Record<string, number>> = { nan: Number.NaN, never: Number.POSITIVE_INFINITY }
      const server = yield* People.startWith(
        { onConnect: ({ data = "" }) => Effect.succeed({ user: "", expiresAt: ends[JSON.parse(data)] as number }) },
        { client: { expired_close_delay: "100ms" } }
      )
      const far = yield* raw(server, { data: "never" })
      expect(far.connected).toMatchObject({ expires: true, ttl: 365 * 24 * 3600 })
      const none = yield* raw(server, { data: "nan" })
      expect(none.connected).toMatchObject({ expires: true, ttl: 1 })
      expect((yield* none.socket.closed).code).toBe(3005)
      expect(far.socket.isClosed()).toBe(false)
    })
  )
})
