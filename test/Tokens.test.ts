import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { generateKeyPairSync } from "node:crypto"
import { raw } from "./support/history.ts"
import { live } from "./support/it.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"
import { inSeconds, KEY, rsaToken, tampered, token, unsigned } from "./support/tokens.ts"

const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 })
const publicKey = rsa.publicKey.export({ type: "spki", format: "pem" }).toString()

const channel = {
  namespaces: [
    { name: "open", allow_subscribe_for_client: true, allow_subscribe_for_anonymous: true, presence: true },
    { name: "closed", presence: true, allow_presence_for_subscriber: true }
  ]
}

const start = (client: object = {}, hooks: Server.Options["hooks"] = {}) =>
  Server.start({
    config: {
      client: {
        token: { hmac_secret_key: KEY, rsa_public_key: publicKey, audience: "us", leeway: "0s" },
        expired_close_delay: "200ms",
        ...client
      },
      channel
    },
    hooks
  })

const ada = { sub: "ada", aud: "us" }

/** What is wrong with a token, for any claims that would be right. */
const wrong = (claims: object): ReadonlyArray<readonly [string, string]> => [
  ["of another key", token(claims, "another secret of 32 bytes or so!")],
  ["without a signature", unsigned(claims)],
  ["whose signature is of the public key", token(claims, publicKey)],
  ["that says RS256 and is signed with the secret", token(claims, KEY, { alg: "RS256" })],
  ["that was tampered with", tampered(token({ ...claims, sub: "eve" }), claims)],
  ["for another audience", token({ ...claims, aud: "them" })],
  ["for no audience", token({ ...claims, aud: undefined })],
  ["that is none", "abc"]
]

/** The answer to a connect that is refused, and the close code. */
const refused = (server: Server.Running, params: object) =>
  Effect.gen(function* () {
    const socket = yield* Socket.open(`${server.ws}/connection/websocket`)
    socket.send(JSON.stringify({ id: 1, connect: params }))
    const { code } = yield* socket.closed
    return [socket.received.find((frame) => frame !== "{}"), code] as const
  })

describe("connection tokens", () => {
  live("name the user and what is shown of it; numbers and order of info survive", () =>
    Effect.gen(function* () {
      const server = yield* start()
      for (const one of [token({ ...ada, info: { n: 1.5 } }), rsaToken({ ...ada, info: { n: 1.5 } }, rsa.privateKey)]) {
        const { ask, connected } = yield* raw(server, { token: one })
        expect(connected["expires"]).toBe(undefined)
        yield* ask("subscribe", { channel: "closed:a", token: token({ ...ada, channel: "closed:a", info: [2] }) })
        const { presence } = (yield* ask("presence", { channel: "closed:a" }))["presence"]
        expect(presence[connected["client"]]).toEqual({
          user: "ada",
          client: connected["client"],
          conn_info: { n: 1.5 },
          chan_info: [2]
        })
      }
    })
  )

  live("that are wrong are refused with 3500, and none at all as well", () =>
    Effect.gen(function* () {
      const server = yield* start()
      const cases = [...wrong(ada), ["of a subscription", token({ ...ada, channel: "open:a" })], ["", ""]] as const
      for (const [what, one] of cases) {
        expect(yield* refused(server, { token: one }), `${what}`).toEqual([undefined, 3500])
        const plain = yield* Socket.refusal(`${server.ws}/channels/open:a`, {
          headers: one === "" ? {} : { Authorization: `Bearer ${one}` }
        })
        expect(plain.status, `${what}`).toBe(401)
      }
      // The log says why, and never the token.
      const said = server.logs.filter((line) => line.includes("3500"))
      expect(said.length).toBe(cases.length)
      for (const [, one] of cases) if (one !== "") expect(said.join("\n")).not.toContain(one)
    })
  )

  live("that have expired, or are not valid yet, are answered with 109, and the client may come back", () =>
    Effect.gen(function* () {
      const server = yield* start()
      for (const untimely of [token({ ...ada, exp: inSeconds(-1) }), token({ ...ada, nbf: inSeconds(60) })]) {
        const [answer, code] = yield* refused(server, { token: untimely })
        expect(JSON.parse(answer ?? "")).toEqual({ id: 1, error: { code: 109, message: "token expired" } })
        expect(code).toBe(3000)
        const plain = yield* Socket.refusal(`${server.ws}/channels/open:a`, {
          headers: { Authorization: `Bearer ${untimely}` }
        })
        expect(plain.status).toBe(401)
      }
    })
  )

  live("with a ttl of more than 32 bits are told a year, in every reply and push, and of null none", () =>
    Effect.gen(function* () {
      const server = yield* start()
      const YEAR = 365 * 24 * 3600
      for (const exp of [inSeconds(0) * 1000, 1e300, inSeconds(2 * YEAR)]) {
        const { ask, connected, socket } = yield* raw(server, { token: token({ ...ada, exp }) })
        expect(connected).toMatchObject({ expires: true, ttl: YEAR })
        const own = token({ ...ada, channel: "closed:a", exp })
        const lasting = { expires: true, ttl: YEAR }
        expect((yield* ask("subscribe", { channel: "closed:a", token: own }))["subscribe"]).toEqual(lasting)
        expect((yield* ask("sub_refresh", { channel: "closed:a", token: own }))["sub_refresh"]).toEqual(lasting)
        expect((yield* ask("refresh", { token: token({ ...ada, exp }) }))["refresh"]).toMatchObject(lasting)
        const about = { user: "ada", client: connected["client"] as string, expiresAt: exp }
        yield* server.cluster.perform({ type: "refresh", ...about, expired: false })
        yield* socket.gets(`{"push":{"refresh":{"expires":true,"ttl":${YEAR}}}}`)
        yield* server.cluster.perform({ type: "subscribe", ...about, channel: "open:a" })
        yield* socket.gets(`{"push":{"channel":"open:a","subscribe":{"expires":true,"ttl":${YEAR}}}}`)
      }
      const { ask, connected } = yield* raw(server, { token: token({ ...ada, exp: null, nbf: null, channels: null }) })
      expect([connected["expires"], connected["ttl"]]).toEqual([undefined, undefined])
      const lasting = token({ ...ada, channel: "closed:a", exp: null })
      expect((yield* ask("subscribe", { channel: "closed:a", token: lasting }))["subscribe"]).toEqual({})
    })
  )

  live("are not needed where anonymous clients may connect, but have to be right", () =>
    Effect.gen(function* () {
      const server = yield* start({ allow_anonymous_connect_without_token: true })
      const { ask } = yield* raw(server)
      expect((yield* ask("subscribe", { channel: "open:a" }))["subscribe"]).toBeDefined()
      expect((yield* refused(server, { token: "abc" }))[1]).toBe(3500)
    })
  )

  live("name channels that the server subscribes the client to, with what is shown there", () =>
    Effect.gen(function* () {
      const server = yield* start()
      const claims = {
        ...ada,
        channels: ["closed:a", "closed:b"],
        subs: { "closed:b": { info: { role: "x" }, data: 7 } }
      }
      const { ask, connected, socket } = yield* raw(server, { token: token(claims) })
      expect(connected["subs"]).toEqual({ "closed:a": {}, "closed:b": { data: 7 } })
      yield* server.publisher.publish("closed:b", "hello")
      yield* socket.gets('"hello"')
      const { presence } = (yield* ask("presence", { channel: "closed:b" }))["presence"]
      expect(Object.values(presence)).toMatchObject([{ user: "ada", chan_info: { role: "x" } }])
    })
  )
})

describe("channels in a connection token", () => {
  live("that there are not, or that are none, are errors of connect: 102, 107", () =>
    Effect.gen(function* () {
      const server = yield* start()
      for (const [channel, code] of [
        ["none:a", 102],
        ["", 107]
      ] as const) {
        const [answer, closed] = yield* refused(server, { token: token({ ...ada, channels: ["open:a", channel] }) })
        expect([JSON.parse(answer ?? "").error.code, closed]).toEqual([code, 3000])
      }
      expect(server.metrics.subscriptions.value).toBe(0)
    })
  )
})

describe("an expired connection", () => {
  live("is closed with 3005 unless it refreshes; one that does is not disturbed", () =>
    Effect.gen(function* () {
      const server = yield* start()
      const soon = token({ ...ada, exp: inSeconds(2) })
      const forgetful = yield* raw(server, { token: soon })
      const careful = yield* raw(server, { token: soon })
      const plain = yield* Socket.open(`${server.ws}/channels/open:a`, { headers: { Authorization: `Bearer ${soon}` } })
      expect(forgetful.connected).toMatchObject({ expires: true })
      expect([1, 2]).toContain(forgetful.connected["ttl"])
      yield* careful.ask("subscribe", { channel: "open:a" })
      const { refresh } = yield* careful.ask("refresh", { token: token({ ...ada, exp: inSeconds(600) }) })
      expect(refresh).toMatchObject({ client: careful.connected["client"], expires: true })
      expect([599, 600]).toContain(refresh.ttl)
      expect((yield* forgetful.socket.closed).code).toBe(3005)
      expect((yield* plain.closed).code).toBe(3005)
      // The sweep that ended the others has seen it, too.
      yield* server.publisher.publish("open:a", "still here")
      yield* careful.socket.gets("still here")
      expect(careful.socket.received.some((frame) => frame.includes("unsubscribe"))).toBe(false)
    })
  )

  live("cannot be refreshed with a token that has expired (3005), is wrong or another's (3500)", () =>
    Effect.gen(function* () {
      const server = yield* start()
      const cases = [
        ...wrong(ada).map(([what, one]) => [what, one, 3500] as const),
        ["of another user", token({ ...ada, sub: "eve" }), 3500],
        ["that has expired", token({ ...ada, exp: inSeconds(-1) }), 3005],
        ["that is not valid yet", token({ ...ada, nbf: inSeconds(60) }), 3005]
      ] as const
      for (const [what, one, code] of cases) {
        const { socket } = yield* raw(server, { token: token(ada) })
        socket.send(JSON.stringify({ id: 2, refresh: { token: one } }))
        expect((yield* socket.closed).code, `${what}`).toBe(code)
      }
    })
  )

  live("shows what the new token says of it", () =>
    Effect.gen(function* () {
      const server = yield* start()
      const { ask } = yield* raw(server, { token: token({ ...ada, info: 1, channels: ["closed:a"] }) })
      yield* ask("refresh", { token: token({ ...ada, info: 2 }) })
      const { presence } = (yield* ask("presence", { channel: "closed:a" }))["presence"]
      expect(Object.values(presence)).toMatchObject([{ conn_info: 2 }])
    })
  )
})

describe("subscription tokens", () => {
  const right = { ...ada, channel: "closed:a" }

  live("grant what the namespace does not; without one it is refused", () =>
    Effect.gen(function* () {
      const server = yield* start()
      const { ask } = yield* raw(server, { token: token(ada) })
      expect((yield* ask("subscribe", { channel: "closed:a" }))["error"].code).toBe(103)
      expect((yield* ask("subscribe", { channel: "closed:a", token: token(right) }))["subscribe"]).toEqual({})
      // Not a channel that there is not.
      const unknown = token({ ...ada, channel: "none:a" })
      expect((yield* ask("subscribe", { channel: "none:a", token: unknown }))["error"].code).toBe(102)
    })
  )

  live("grant what onSubscribe adds to it as well", () =>
    Effect.gen(function* () {
      const server = yield* start({}, { onSubscribe: () => Effect.succeed({ data: '{"hello":1}', info: "3" }) })
      const { ask } = yield* raw(server, { token: token(ada) })
      const granted = token({ ...right, info: 2, exp: inSeconds(600) })
      expect((yield* ask("subscribe", { channel: "closed:a", token: granted }))["subscribe"]).toMatchObject({
        expires: true,
        data: { hello: 1 }
      })
      const { presence } = (yield* ask("presence", { channel: "closed:a" }))["presence"]
      expect(Object.values(presence)).toMatchObject([{ chan_info: 3 }])
    })
  )

  live(
    "that are wrong or another's are refused with 103, expired ones with 109, also where the namespace permits it",
    () =>
      Effect.gen(function* () {
        const server = yield* start()
        for (const name of ["closed:a", "open:a"]) {
          const claims = { ...ada, channel: name }
          const cases = [
            ...wrong(claims).map(([what, one]) => [what, one, 103] as const),
            ["for another channel", token({ ...claims, channel: "open:b" }), 103],
            ["of another user", token({ ...claims, sub: "eve" }), 103],
            ["of no user", token({ ...claims, sub: undefined }), 103],
            ["of a connection", token(ada), 103],
            ["that has expired", token({ ...claims, exp: inSeconds(-1) }), 109],
            ["that is not valid yet", token({ ...claims, nbf: inSeconds(60) }), 109]
          ] as const
          const { ask } = yield* raw(server, { token: token(ada) })
          for (const [what, one, code] of cases) {
            expect((yield* ask("subscribe", { channel: name, token: one }))["error"]?.code, `${what}`).toBe(code)
          }
        }
      })
  )

  live("expire: unsubscribed with 2501 unless refreshed; one that is, is not disturbed", () =>
    Effect.gen(function* () {
      const server = yield* start()
      const { ask, socket } = yield* raw(server, { token: token(ada) })
      for (const name of ["closed:a", "closed:b"]) {
        const { subscribe } = yield* ask("subscribe", {
          channel: name,
          token: token({ ...ada, channel: name, exp: inSeconds(2) })
        })
        expect(subscribe).toMatchObject({ expires: true })
      }
      const longer = token({ ...ada, channel: "closed:b", exp: inSeconds(600) })
      const { sub_refresh } = yield* ask("sub_refresh", { channel: "closed:b", token: longer })
      expect(sub_refresh).toMatchObject({ expires: true })
      yield* socket.gets('{"push":{"channel":"closed:a","unsubscribe":{"code":2501')
      yield* server.publisher.publish("closed:a", "unheard")
      yield* server.publisher.publish("closed:b", "heard")
      yield* socket.gets('"heard"')
      expect(socket.received.some((frame) => frame.includes("unheard"))).toBe(false)
      // It may come back.
      expect((yield* ask("subscribe", { channel: "closed:a", token: token(right) }))["subscribe"]).toEqual({})
    })
  )

  live(
    "cannot be refreshed with one that has expired (110, temporary), is wrong or another's (3500), or without a subscription (103)",
    () =>
      Effect.gen(function* () {
        const server = yield* start()
        const cases = [
          ...wrong(right),
          ["for another channel", token({ ...right, channel: "closed:b" })],
          ["of another user", token({ ...right, sub: "eve" })]
        ] as const
        for (const [what, one] of cases) {
          const { ask, socket } = yield* raw(server, { token: token(ada) })
          yield* ask("subscribe", { channel: "closed:a", token: token(right) })
          socket.send(JSON.stringify({ id: 9, sub_refresh: { channel: "closed:a", token: one } }))
          expect((yield* socket.closed).code, `${what}`).toBe(3500)
        }
        const { ask } = yield* raw(server, { token: token(ada) })
        expect((yield* ask("sub_refresh", { channel: "closed:a", token: token(right) }))["error"].code).toBe(103)
        yield* ask("subscribe", { channel: "closed:a", token: token(right) })
        // Temporary, so that SDKs ask for a new token.
        for (const untimely of [token({ ...right, exp: inSeconds(-1) }), token({ ...right, nbf: inSeconds(60) })]) {
          expect((yield* ask("sub_refresh", { channel: "closed:a", token: untimely }))["error"]).toEqual({
            code: 110,
            message: "expired",
            temporary: true
          })
        }
      })
  )

  live("that have expired neither extend a subscription nor clear its end", () =>
    Effect.gen(function* () {
      const server = yield* start()
      const { ask, socket } = yield* raw(server, { token: token(ada) })
      const brief = token({ ...right, exp: inSeconds(2) })
      expect((yield* ask("subscribe", { channel: "closed:a", token: brief }))["subscribe"]).toMatchObject({
        expires: true
      })
      const expired = token({ ...right, exp: inSeconds(-1) })
      expect((yield* ask("sub_refresh", { channel: "closed:a", token: expired }))["error"].code).toBe(110)
      yield* socket.gets('{"push":{"channel":"closed:a","unsubscribe":{"code":2501')
    })
  )

  live("a subscription that the server has made and that expires ends the connection with 3006", () =>
    Effect.gen(function* () {
      const server = yield* start(
        {},
        { onConnect: () => Effect.succeed({ user: "ada", channels: [{ channel: "open:a", expiresAt: inSeconds(1) }] }) }
      )
      const { connected, socket } = yield* raw(server)
      expect(connected["subs"]["open:a"]).toMatchObject({ expires: true })
      expect((yield* socket.closed).code).toBe(3006)
    })
  )
})
