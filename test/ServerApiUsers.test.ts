import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Api from "./support/api.ts"
import { live } from "./support/it.ts"
import * as People from "./support/people.ts"
import { inSeconds } from "./support/tokens.ts"
import { eventually } from "./support/wait.ts"

/** JSON that comes out as it went in only where nobody parses it. */
const RAW = '{"n":12345678901234567890,"b":1e400,"a":"\\u0061"}'

/** So many seconds, on a machine that may be busy. */
const isAbout = (ttl: number, seconds: number): boolean => ttl <= seconds && ttl > seconds - 60

/** Ada on both instances, Bob on the second, nobody in particular on the first. */
const setting = (start: (typeof People.pairs)[number][1]) =>
  Effect.gen(function* () {
    const [a, b] = yield* start()
    const api = yield* Api.make(a.http)
    return {
      a,
      b,
      api,
      // Asked on the instance that has only one of her.
      other: yield* Api.make(b.http),
      one: yield* People.connect(a, { user: "ada" }),
      two: yield* People.connect(b, { user: "ada" }),
      bob: yield* People.connect(b, { user: "bob" }),
      nobody: yield* People.connect(a)
    }
  })

for (const [name, start] of People.pairs) {
  describe(`server API over ${name}: the connections of a user on every instance`, () => {
    live("subscribe: they are in, with info and data as they were written, until it expires", () =>
      Effect.gen(function* () {
        const { api, bob, nobody, one, other, two } = yield* setting(start)
        const body = `{"user":"ada","channel":"room:a","info":${RAW},"data":{"data":${RAW}},"expire_at":${inSeconds(1000)}}`
        expect(yield* other.result("subscribe", body)).toEqual({})
        for (const client of [one, two]) {
          yield* client.socket.gets('"subscribe":{')
          expect(client.pushes()[0]).toContain(`"data":{"data":${RAW}}`)
          const { subscribe } = JSON.parse(client.pushes()[0] ?? "").push
          expect(subscribe).toMatchObject({ expires: true })
          expect(isAbout(subscribe.ttl, 1000)).toBe(true)
        }
        expect(yield* api.result("publish", { channel: "room:a", data: "hello" })).toMatchObject({ offset: 1 })
        for (const client of [one, two]) yield* client.socket.gets('"pub":{"data":"hello"')

        const shown = yield* api.call("presence", { channel: "room:a" })
        expect(Object.keys(shown.body.result.presence).toSorted()).toEqual([one.id, two.id].toSorted())
        expect(shown.text.split(`"chan_info":${RAW}`).length).toBe(3)
        // The others have not even been told.
        for (const client of [bob, nobody]) {
          yield* client.ask("ping", {})
          expect(client.pushes()).toEqual([])
        }
      })
    )

    live("subscribe: only the connection that is named, which may be anonymous", () =>
      Effect.gen(function* () {
        const { api, nobody, one, two } = yield* setting(start)
        expect(yield* api.result("subscribe", { user: "ada", client: two.id, channel: "bare:a" })).toEqual({})
        expect(yield* api.result("subscribe", { user: "", client: nobody.id, channel: "bare:a" })).toEqual({})
        yield* Effect.all([two.socket.gets('"subscribe":{'), nobody.socket.gets('"subscribe":{')])
        yield* one.ask("ping", {})
        expect(one.pushes()).toEqual([])
        // A user who has no such connection, and one who has none at all: there is nothing to do.
        expect(yield* api.result("subscribe", { user: "bob", client: two.id, channel: "bare:b" })).toEqual({})
        expect(yield* api.result("subscribe", { user: "eve", channel: "bare:b" })).toEqual({})
        yield* two.ask("ping", {})
        expect(two.pushes().length).toBe(1)
        expect(yield* api.result("channels", {})).toEqual({ channels: { "bare:a": { num_clients: 2 } } })
      })
    )

    live("unsubscribe: they are out, and told with 2000", () =>
      Effect.gen(function* () {
        const { api, bob, one, other, two } = yield* setting(start)
        for (const client of [one, two, bob]) yield* client.ask("subscribe", { channel: "room:a" })
        yield* one.ask("subscribe", { channel: "room:b" })
        expect(yield* other.result("unsubscribe", { user: "ada", channel: "room:a" })).toEqual({})
        const told = '{"push":{"channel":"room:a","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}'
        for (const client of [one, two]) {
          yield* client.socket.gets(told)
          expect(client.pushes()).toEqual([told])
        }
        expect(yield* api.result("presence_stats", { channel: "room:a" })).toEqual({ num_clients: 1, num_users: 1 })
        expect(yield* api.result("channels", {})).toEqual({
          channels: { "room:a": { num_clients: 1 }, "room:b": { num_clients: 1 } }
        })
        // Out of what it is not in, it is out already.
        expect(yield* api.result("unsubscribe", { user: "ada", channel: "room:a" })).toEqual({})
      })
    )

    live("disconnect: with 3503, or with what is asked for; not those on the whitelist", () =>
      Effect.gen(function* () {
        const { a, api, b, bob, nobody, one, two } = yield* setting(start)
        const stays = yield* People.connect(b, { user: "ada" })
        expect(yield* api.result("disconnect", { user: "ada", client: two.id })).toEqual({})
        expect(yield* two.socket.closed).toEqual({ code: 3503, reason: "force disconnect" })
        const why = { code: 4321, reason: `${"ü".repeat(70)}` }
        const body = { user: "ada", whitelist: [stays.id], disconnect: why }
        expect(yield* api.result("disconnect", body)).toEqual({})
        expect(yield* one.socket.closed).toEqual({ code: 4321, reason: "ü".repeat(61) })
        expect(yield* api.result("disconnect", { user: "bob", disconnect: { code: 3000 } })).toEqual({})
        expect(yield* bob.socket.closed).toEqual({ code: 3000, reason: "" })
        for (const client of [stays, nobody]) {
          yield* client.ask("ping", {})
          expect(client.socket.isClosed()).toBe(false)
        }
        expect(a.connections.count() + (a === b ? 0 : b.connections.count())).toBe(2)
      })
    )

    live("refresh: how long they hold, what is shown of them, or 3005", () =>
      Effect.gen(function* () {
        const { api, one, other, two } = yield* setting(start)
        for (const client of [one, two]) yield* client.ask("subscribe", { channel: "room:a" })
        const body = `{"user":"ada","expire_at":${inSeconds(500)},"info":${RAW}}`
        expect(yield* other.result("refresh", body)).toEqual({})
        for (const client of [one, two]) {
          yield* client.socket.gets('"refresh":{')
          const { refresh } = JSON.parse(client.pushes()[0] ?? "").push
          expect([refresh.expires, isAbout(refresh.ttl, 500)]).toEqual([true, true])
        }
        yield* eventually(
          api.call("presence", { channel: "room:a" }),
          ({ text }) => text.split(`"conn_info":${RAW}`).length === 3,
          "both are shown with it"
        )
        // Without a time they do not expire any more.
        expect(yield* api.result("refresh", { user: "ada", client: one.id })).toEqual({})
        yield* one.socket.gets('{"push":{"refresh":{}}}')
        expect(yield* api.result("refresh", { user: "ada", expired: true })).toEqual({})
        for (const client of [one, two]) expect((yield* client.socket.closed).code).toBe(3005)
      })
    )
  })
}

describe("server API: what it refuses of users", () => {
  live("an empty user without a client 107, no channel name 107, unknown namespace 102", () =>
    Effect.gen(function* () {
      const api = yield* Api.make((yield* People.start()).http)
      const cases: ReadonlyArray<readonly [string, object, number]> = [
        ["subscribe", { user: "", channel: "room:a" }, 107],
        ["unsubscribe", { user: "", channel: "room:a" }, 107],
        ["unsubscribe", { user: "", channel: "room:a", client: "" }, 107],
        ["disconnect", { user: "" }, 107],
        ["refresh", { user: "", client: null }, 107],
        ["subscribe", { user: "ada", channel: "" }, 107],
        ["subscribe", { user: "ada", channel: "room:a\n" }, 107],
        ["subscribe", { user: "ada", channel: "x".repeat(256) }, 107],
        ["unsubscribe", { user: "ada", channel: "" }, 107],
        ["subscribe", { user: "ada", channel: "nowhere:a" }, 102]
      ]
      for (const [method, body, code] of cases) {
        expect([method, body, yield* api.refusal(method, body)]).toEqual([method, body, [200, code]])
      }
      expect(yield* api.result("unsubscribe", { user: "ada", channel: "nowhere:a" })).toEqual({})
    })
  )

  live("what is none of their bodies: 400, with what is wrong with it", () =>
    Effect.gen(function* () {
      const api = yield* Api.make((yield* People.start()).http)
      const deep = `${"[".repeat(257)}${"]".repeat(257)}`
      const cases: ReadonlyArray<readonly [string, string, RegExp]> = [
        ["subscribe", "{", /JSON/],
        ["subscribe", "[]", /./],
        ["subscribe", '{"user":1,"channel":"room:a"}', /^user: /],
        ["subscribe", '{"user":"ada","channel":"room:a","expire_at":-1}', /^expire_at: /],
        ["subscribe", '{"user":"ada","channel":"room:a","expire_at":1e400}', /^expire_at: /],
        ["subscribe", '{"user":"ada","channel":"room:a","expire_at":"soon"}', /^expire_at: /],
        ["subscribe", '{"user":"ada","channel":"room:a","client":7}', /^client: /],
        ["unsubscribe", '{"user":"ada","channel":[]}', /^channel: /],
        ["disconnect", '{"user":"ada","disconnect":{"code":2999}}', /^disconnect\.code: /],
        ["disconnect", '{"user":"ada","disconnect":{"code":5000}}', /^disconnect\.code: /],
        ["disconnect", '{"user":"ada","disconnect":{"code":3000.5}}', /^disconnect\.code: /],
        ["disconnect", '{"user":"ada","disconnect":{"code":"3000"}}', /^disconnect\.code: /],
        ["disconnect", '{"user":"ada","disconnect":3000}', /^disconnect: /],
        ["disconnect", '{"user":"ada","whitelist":"x"}', /^whitelist: /],
        ["disconnect", '{"user":"ada","whitelist":[1]}', /^whitelist\.0: /],
        ["refresh", '{"user":"ada","expired":1}', /^expired: /]
      ]
      for (const [method, body, message] of cases) {
        const answer = yield* api.call(method, body, { malformed: true })
        expect([body, answer.status, answer.body.error.code]).toEqual([body, 400, 107])
        expect([body, answer.body.error.message]).toEqual([body, expect.stringMatching(message)])
        expect(answer.body.error.message.length).toBeLessThanOrEqual(500)
      }
      for (const field of ["info", "data"]) {
        const nested = `{"user":"ada","channel":"room:a","${field}":${deep}}`
        expect(yield* api.refusal("subscribe", nested)).toEqual([400, 107])
        const large = JSON.stringify({ user: "ada", channel: "room:a", [field]: "x".repeat(64 * 1024) })
        expect(yield* api.refusal("subscribe", large)).toEqual([413, 106])
      }
    })
  )
})
