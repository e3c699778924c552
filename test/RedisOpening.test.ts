/** Why a link does not open: Redis's words, and what to write instead. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { createServer } from "node:net"
import type { AddressInfo, Socket } from "node:net"
import { fileURLToPath } from "node:url"
import { failureOf, silenceOf } from "../src/internal/redisOpening.ts"
import { live } from "./support/it.ts"
import * as Proxy from "./support/proxy.ts"
import * as Redis from "./support/redis.ts"
import * as Link from "./support/redisLink.ts"
import { eventually } from "./support/wait.ts"

const fixture = (name: string): string => fileURLToPath(new URL(`./fixtures/${name}`, import.meta.url))

/** A Redis with a user `app` that may do everything but some commands. */
const without = (...commands: ReadonlyArray<string>) =>
  Effect.map(
    Redis.start([..."--user app on >pw ~* &* +@all".split(" "), ...commands.map((command) => `-${command}`)]),
    (redis) => ({ redis, url: `redis://app:pw@127.0.0.1:${redis.port}` })
  )

/** Waits for the reason for which the link to a URL does not open. */
const reasonOf = (url: string, reason: RegExp) => Effect.flatMap(Link.start(url), (one) => one.fails(reason))

describe("the database of redis_url", () => {
  live("that Redis does not have: the link does not open, and nothing goes to database 0", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const one = yield* Link.start(`${redis.url}/99`)
      yield* one.fails(/^SELECT 99 is refused: ERR DB index is out of range$/)
      expect(one.lines("WARN")).toEqual([expect.stringMatching(/SELECT 99 is refused: ERR DB index is out of range/)])
      expect(yield* Effect.flip(one.broker.publish("x", { data: "1", json: true }))).toMatchObject({
        reason: "NotLive"
      })
    })
  )

  live("that the user may not SELECT: the same; database 0 needs no SELECT", () =>
    Effect.gen(function* () {
      const { url } = yield* without("select")
      yield* reasonOf(`${url}/2`, /^SELECT 2 is refused: NOPERM .*'select'/)
      const zero = yield* Link.start(`${url}/0`)
      yield* zero.becomes("Live")
      const none = yield* Link.start(url)
      yield* none.becomes("Live")
    })
  )

  live("is the one that keys go to", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const one = yield* Link.start(`${redis.url}/7`)
      yield* one.becomes("Live")
      yield* one.broker.publish("x", { data: "1", json: true }, { idempotencyKey: "once" })
      expect(yield* redis.use((client) => client.info("keyspace"))).toMatch(/^db7:keys=1,(?![^]*db0)/m)
    })
  )
})

describe("a step of opening that Redis refuses", () => {
  live("EVAL, denied or renamed: named, without the script", () =>
    Effect.gen(function* () {
      const { url } = yield* without("eval")
      expect(yield* reasonOf(url, /EVAL/)).toMatch(/^EVAL is refused: NOPERM [^\n]*'eval' command$/)
      const redis = yield* Redis.start(["--rename-command", "EVAL", "CALCULATE"])
      expect(yield* reasonOf(redis.url, /EVAL/)).toBe("EVAL is refused: ERR unknown command 'eval'")
    })
  )

  live("NOAUTH and WRONGPASS: what redis_url lacks", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start(["--requirepass", "s3cret"])
      expect(yield* reasonOf(redis.url, /NOAUTH/)).toBe(
        "NOAUTH Authentication required: redis_url has no password; write redis://:PASSWORD@HOST or redis://USER:PASSWORD@HOST"
      )
      const wrong = yield* reasonOf(redis.url.replace("://", "://:guess@"), /WRONGPASS/)
      expect(wrong).toBe(
        "WRONGPASS invalid username-password pair or user is disabled: user and password are those of redis_url"
      )
    })
  )

  live("INFO alone may be denied, or renamed", () =>
    Effect.gen(function* () {
      const renamed = yield* Redis.start(["--rename-command", "INFO", "ABOUT"])
      const one = yield* Link.start(renamed.url)
      yield* one.becomes("Live")
      expect(one.lines("WARN")).toEqual([expect.stringMatching(/^WARN Redis does not permit INFO/)])
    })
  )
})

describe("a Redis that does not let anybody in", () => {
  live("maxclients: Redis's words, and none of the network's", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      yield* redis.use((client) => client.config("SET", "maxclients", "1"))
      yield* Redis.client(redis)
      const links = yield* Effect.forEach(Array.from({ length: 10 }), () => Link.start(redis.url))
      for (const one of links) yield* one.fails(/^ERR max number of clients reached$/)
      for (const one of links) expect(one.lines("WARN").join()).not.toMatch(/EPIPE|ECONNRESET|is closed/)
    })
  )

  live("a Sentinel: what it is, also where a database is named", () =>
    Effect.gen(function* () {
      const sentinel = yield* Redis.start(["--sentinel"])
      const said = "it is a Sentinel (redis_mode:sentinel): redis_url has to name the Redis that it watches"
      expect(yield* reasonOf(sentinel.url, /Sentinel/)).toBe(said)
      expect(yield* reasonOf(`${sentinel.url}/1`, /Sentinel/)).toBe(said)
    })
  )

  live("TLS to a port without it, and the other way round: which scheme is for which port", () =>
    Effect.gen(function* () {
      const tlsPort = yield* Redis.freePort
      const tls = `--tls-port ${tlsPort} --tls-auth-clients no`.split(" ")
      const certificate = ["--tls-cert-file", fixture("redis.crt"), "--tls-key-file", fixture("redis.key")]
      const redis = yield* Redis.start([...tls, ...certificate])
      expect(yield* reasonOf(`rediss://127.0.0.1:${redis.port}`, /TLS/)).toMatch(
        /rediss:\/\/ is for a port with TLS, redis:\/\/ for one without$/
      )
      expect(yield* reasonOf(`redis://127.0.0.1:${tlsPort}`, /TLS/)).toMatch(
        /^it ended the connection instead of answering HELLO \(.*\): rediss:\/\/ is for a port with TLS/
      )
    })
  )
})

describe("what an attempt fails with where nobody says why", () => {
  const there = { isTls: false, isConnected: true, isGreeted: true }

  it("is how far it has come", () => {
    expect(silenceOf({ ...there, isConnected: false, isGreeted: false }, "2s")).toBe("no connection within 2s")
    expect(silenceOf({ ...there, isTls: true, isGreeted: false }, "2s")).toMatch(
      /^no answer to the TLS handshake within 2s/
    )
    expect(silenceOf({ ...there, isTls: true }, "2s")).toBe("no answer to HELLO within 2s")
    expect(silenceOf(there, "2s")).toBe("no answer to HELLO within 2s")
  })

  it("is the network's word before a connection is there, and a certificate's", () => {
    const refused = new Error("connect ECONNREFUSED 127.0.0.1:1")
    expect(failureOf({ ...there, isConnected: false, isGreeted: false }, refused)).toBe(refused.message)
    const distrusted = new Error("unable to verify the first certificate")
    expect(failureOf({ ...there, isTls: true, isGreeted: false }, distrusted)).toBe(distrusted.message)
  })
})

describe("an outage", () => {
  /** A server that ends each connection in the way that its number says. */
  const unfriendly = (end: (socket: Socket, index: number) => void) =>
    Effect.acquireRelease(
      Effect.async<{ readonly port: number; readonly accepted: () => number; readonly close: () => void }>((resume) => {
        let accepted = 0
        const server = createServer((socket) => {
          socket.on("error", () => undefined).resume()
          end(socket, accepted++)
        })
        server.listen(0, "127.0.0.1", () =>
          resume(
            Effect.succeed({
              port: (server.address() as AddressInfo).port,
              accepted: () => accepted,
              close: () => server.close()
            })
          )
        )
      }),
      ({ close }) => Effect.sync(close)
    )

  live("has one warning where the texts alternate; what Redis itself says later is said once, as information", () =>
    Effect.gen(function* () {
      const server = yield* unfriendly((socket, index) => {
        // Two connections an attempt.
        if (Math.floor(index / 2) % 2 === 0) socket.resetAndDestroy()
        else socket.end("-ERR max number of clients reached\r\n")
      })
      const one = yield* Link.start(`redis://127.0.0.1:${server.port}`)
      yield* eventually(Effect.sync(server.accepted), (count) => count >= 12, "six attempts")
      expect(one.lines("WARN").length).toBe(1)
      const told = one.lines("INFO")
      expect(told.length).toBeLessThanOrEqual(1)
      const words = [...one.lines("WARN"), ...told].filter((line) => line.includes("ERR max number of clients reached"))
      expect(words.length).toBe(1)
      expect(one.lines("DEBUG").filter((line) => line.includes("still degraded")).length).toBeGreaterThan(2)
    })
  )

  live("that begins with a lost connection and goes on with a password that is wrong by now says both", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start(["--requirepass", "old"])
      const one = yield* Link.start(redis.url.replace("://", "://:old@"))
      yield* one.becomes("Live")
      yield* one.broker.subscribe("x")
      yield* redis.kill
      yield* one.becomes("Degraded")
      yield* Redis.start(["--requirepass", "new", "--port", String(redis.port)])
      yield* one.fails(/^WRONGPASS/)
      yield* eventually(
        Effect.sync(() => one.lines("DEBUG").filter((line) => line.includes("WRONGPASS")).length),
        (count) => count >= 1,
        "another attempt"
      )
      expect(one.lines("WARN").length).toBe(1)
      expect(one.lines("INFO").filter((line) => line.includes("broker still degraded"))).toEqual([
        expect.stringMatching(/WRONGPASS/)
      ])
    })
  )

  live("a second one has its own warning", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const proxy = yield* Proxy.start(() => redis.port)
      const one = yield* Link.start(`redis://127.0.0.1:${proxy.port}`)
      yield* one.becomes("Live")
      for (let round = 1; round <= 2; round++) {
        yield* redis.use((client) => client.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"))
        yield* eventually(
          Effect.sync(() => one.lines("WARN").length),
          (count) => count === round,
          "a warning"
        )
        yield* one.becomes("Live")
      }
    })
  )
})
