import { describe, expect, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/TestClock"
import * as Auth from "../src/Auth.ts"
import * as Raw from "../src/protocol/Raw.ts"
import { config, connection, EC, HMAC, make, outcome, RSA, subscription, UNSIGNED } from "./support/auth.ts"

const ada = { sub: "ada" }

describe("Auth, claims", () => {
  const FRACTION = "1.50"

  it.effect("without sub the client is anonymous", () =>
    Effect.gen(function* () {
      for (const one of [make({}), make({ sub: "" })]) expect((yield* connection(one)).user).toBe("")
      expect((yield* subscription(make({ channel: "a" }))).user).toBe("")
    })
  )

  it.effect("info is the text that stands in the token", () =>
    Effect.gen(function* () {
      const texts = ['{"b":1,"a":12345678901234567890, "1":"ä\\u00e4"}', FRACTION, "null", '"x"', "[ 1 ]", '{"info":2}']
      for (const info of texts) {
        const claims = `{"other":{"info":0}, "in\\u0066o" : ${info} ,"sub":"ada"}`
        expect((yield* connection(make(claims))).info).toBe(info)
        expect((yield* subscription(make(`${claims.slice(0, -1)},"channel":"a"}`))).info).toBe(info)
      }
      expect((yield* connection(make('{"info":1,"info":2}'))).info).toBe("2")
    })
  )

  it.effect("info may be nested as deep as data, and no deeper", () =>
    Effect.gen(function* () {
      const nested = (depth: number): string => `${"[".repeat(depth)}${"]".repeat(depth)}`
      const deepest = nested(Raw.MAX_DEPTH)
      expect((yield* connection(make(`{"info":${deepest}}`))).info).toBe(deepest)
      const problem = `Invalid: the claims of the token are nested deeper than ${Raw.MAX_DEPTH}`
      for (const depth of [Raw.MAX_DEPTH + 1, 100_000]) {
        for (const claims of [`{"info":${nested(depth)}}`, `{"info":1,"other":${nested(depth)}}`]) {
          expect(yield* outcome(connection(make(claims)))).toBe(problem)
          expect(yield* outcome(subscription(make(`${claims.slice(0, -1)},"channel":"a"}`)))).toBe(problem)
        }
        expect(yield* outcome(connection(make(`{"sub":${nested(depth)}}`)))).toContain('"sub"')
        expect(yield* outcome(connection(make(`{"subs":{"a":{"info":${nested(depth)}}}}`)))).toBe(problem)
      }
    })
  )

  it.effect("that are null are absent: no user, no end, no channels", () =>
    Effect.gen(function* () {
      const nulls = '"sub":null,"exp":null,"nbf":null,"iat":null,"channels":null,"subs":null,"aud":null,"iss":null'
      expect(yield* connection(make(`{${nulls},"channel":null}`))).toEqual({
        user: "",
        expiresAt: undefined,
        info: undefined,
        channels: []
      })
      expect(yield* subscription(make(`{${nulls},"channel":"a"}`))).toMatchObject({ user: "", expiresAt: undefined })
      expect(yield* outcome(subscription(make('{"channel":null}')))).toBe(
        'Invalid: the token has no claim "channel": it is not for a subscription'
      )
      // A channel without anything said of it.
      expect((yield* connection(make('{"subs":{"a":null,"b":{"info":1}}}'))).channels).toEqual([
        { channel: "a" },
        { channel: "b", info: "1" }
      ])
    })
  )

  it.effect("of a wrong type are refused by name", () =>
    Effect.gen(function* () {
      const cases: ReadonlyArray<readonly [string, string, ReadonlyArray<string>]> = [
        ["sub", "a text", ["1", "[]", "{}", "true"]],
        ["exp", "a finite number", ['"1"', "[1]", "{}", "1e400"]],
        ["nbf", "a finite number", ['"1"', "1e400"]],
        ["iat", "a finite number", ['"1"']],
        ["channels", "a list of texts", ['"a"', "{}", "[1]", '["a",null]', '[["a"]]']],
        ["subs", "an object of objects", ["[]", '"a"', '["a"]', '{"a":1}', '{"a":[]}', '{"__proto__":1}']]
      ]
      for (const [claim, expected, values] of cases) {
        for (const value of values) {
          const said = yield* outcome(connection(make(`{"${claim}":${value}}`)))
          expect(said).toBe(`Invalid: the claim "${claim}" of the token is not ${expected}`)
        }
      }
      for (const value of ["1", "[]", '["a"]']) {
        const said = yield* outcome(subscription(make(`{"channel":${value}}`)))
        expect(said).toBe('Invalid: the claim "channel" of the token is not a text')
      }
    })
  )

  it.effect(
    "channel makes it the token of a subscription, which is none of a connection, nor the other way round",
    () =>
      Effect.gen(function* () {
        for (const channel of ["a", "", 1]) {
          expect(yield* outcome(connection(make({ ...ada, channel })))).toBe(
            'Invalid: the token has the claim "channel": it is for a subscription, not for a connection'
          )
        }
        expect(yield* outcome(subscription(make(ada)))).toBe(
          'Invalid: the token has no claim "channel": it is not for a subscription'
        )
        expect((yield* subscription(make({ ...ada, channel: "__proto__", channels: 1 }))).channel).toBe("__proto__")
      })
  )
})

describe("Auth, server-side subscriptions", () => {
  const channels = (claims: object | string, client: object = {}) =>
    Effect.map(connection(make(claims), HMAC, client), (claims) => claims.channels)

  it.effect("are those of channels and subs, each once, and subs wins", () =>
    Effect.gen(function* () {
      expect(yield* channels({ channels: ["a", "b", "a"] })).toEqual([{ channel: "a" }, { channel: "b" }])
      const subs =
        '{"b":{"info":{"n":1.50},"data": [ 2 ]},"c":{},"d":{"data":null,"override":{"presence":true},"infos":1}}'
      expect(yield* channels(`{"channels":["a","b"],"subs":${subs}}`)).toEqual([
        { channel: "a" },
        { channel: "b", info: '{"n":1.50}', data: "[ 2 ]" },
        { channel: "c" },
        { channel: "d", data: "null" }
      ])
      expect(yield* channels({ channels: [], subs: {} })).toEqual([])
    })
  )

  it.effect("may be of channels called as what objects have", () =>
    Effect.gen(function* () {
      const names = ["__proto__", "constructor", "hasOwnProperty", "toString", "1", 'a"\\\n:ä']
      const inner = names.map((name) => `${JSON.stringify(name)}:{"info":${JSON.stringify(name)}}`).join()
      const merged = yield* channels(`{"channels":${JSON.stringify(names)},"subs":{${inner}}}`)
      expect(merged).toEqual(names.map((channel) => ({ channel, info: JSON.stringify(channel) })))
      expect(yield* channels({ channels: names })).toEqual(names.map((channel) => ({ channel })))
      // An entry's own `__proto__` gives it nothing.
      expect(yield* channels('{"subs":{"a":{"__proto__":{"info":1}}}}')).toEqual([{ channel: "a" }])
      expect(yield* channels('{"__proto__":{"channels":["a"],"sub":"eve"}}')).toEqual([])
    })
  )

  it.effect("of more channels than a client may have are all named, so that it is refused for them", () =>
    Effect.gen(function* () {
      const subs = Object.fromEntries(Array.from({ length: 3 }, (_, index) => [`c${index}`, { info: index }]))
      expect((yield* channels({ subs }, { channel_limit: 3 }))[2]).toEqual({ channel: "c2", info: "2" })
      expect(yield* channels({ subs }, { channel_limit: 2 })).toEqual(
        ["c0", "c1", "c2"].map((channel) => ({ channel }))
      )
    })
  )
})

describe("Auth.issue", () => {
  const issued = { user: "", ttl: undefined, channel: undefined, info: undefined }

  it.effect("makes what the same configuration verifies", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(1_500)
      const keys = { ...HMAC, audience: "us", issuer: "them" }
      const info = '{"name":"x","n":1.50}'
      const one = yield* Auth.issue(config(keys), { ...issued, user: "42", ttl: Duration.hours(1), info })
      expect(yield* connection(one, keys)).toEqual({ user: "42", expiresAt: 3602, info, channels: [] })
      expect(JSON.parse(Buffer.from(one.split(".")[1] ?? "", "base64url").toString())).toEqual({
        sub: "42",
        iat: 1,
        exp: 3602,
        aud: "us",
        iss: "them",
        info: { name: "x", n: 1.5 }
      })
      const other = yield* Auth.issue(config(keys), { ...issued, channel: 'a"\n' })
      expect(yield* subscription(other, keys)).toEqual({
        user: "",
        expiresAt: undefined,
        info: undefined,
        channel: 'a"\n'
      })
      expect(yield* outcome(connection(one, { ...keys, hmac_secret_key: "another" }))).toBe(UNSIGNED)
    })
  )

  it.effect("has no claims but iat where none are asked for", () =>
    Effect.gen(function* () {
      for (const ttl of [undefined, Duration.infinity]) {
        const one = yield* Auth.issue(config(HMAC), { ...issued, ttl })
        expect(Buffer.from(one.split(".")[1] ?? "", "base64url").toString()).toBe('{"iat":0}')
      }
    })
  )

  it.effect("fails without a secret, and with info that is no JSON or too deep", () =>
    Effect.gen(function* () {
      for (const keys of [{}, RSA, { ...EC("ES256"), audience: "us" }]) {
        const error = yield* Effect.flip(Auth.issue(config(keys), issued))
        expect(error.reason).toBe("NoKey")
        expect(error.message).toContain("only HMAC tokens can be issued")
        expect(error.message).toContain("client.token.hmac_secret_key")
      }
      for (const [info, message] of [
        ["{", "info is not JSON"],
        ["", "info is not JSON"],
        [`${"[".repeat(257)}${"]".repeat(257)}`, "info is nested deeper than 256"]
      ] as const) {
        const error = yield* Effect.flip(Auth.issue(config(HMAC), { ...issued, info }))
        expect([error.reason, error.message]).toEqual(["BadInfo", message])
      }
    })
  )
})
