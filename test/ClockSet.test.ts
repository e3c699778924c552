import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Api from "./support/api.ts"
import { HOUR, settable } from "./support/clock.ts"
import * as Http from "./support/http.ts"
import { live } from "./support/it.ts"
import * as Program from "./support/program.ts"
import * as Redis from "./support/redis.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"
import { inSeconds, KEY, token } from "./support/tokens.ts"
import { eventually } from "./support/wait.ts"

const OPEN = {
  allow_subscribe_for_client: true,
  allow_subscribe_for_anonymous: true,
  allow_publish_for_subscriber: true,
  allow_publish_for_anonymous: true,
  allow_history_for_subscriber: true,
  allow_history_for_anonymous: true
}

const connectAs = (claims: object): string => JSON.stringify({ id: 1, connect: { token: token(claims, KEY) } })

const pingsOf = (socket: Socket.Socket): number => socket.received.filter((frame) => frame === "{}").length

describe("a server whose machine's clock is set back by an hour", () => {
  live("pings go on, peers that are dead or silent are ended, and a token expires by the machine's clock", () =>
    Effect.gen(function* () {
      const program = yield* Program.start({
        preload: "clock-back.cjs",
        env: {
          FANFARE_CLIENT_PING_INTERVAL: "400ms",
          FANFARE_CLIENT_PONG_TIMEOUT: "2s",
          FANFARE_CLIENT_STALE_CLOSE_DELAY: "1s",
          FANFARE_CLIENT_EXPIRED_CLOSE_DELAY: "100ms",
          FANFARE_CLIENT_TOKEN_HMAC_SECRET_KEY: KEY,
          FANFARE_HTTP_API_KEY: Api.KEY
        }
      })
      const protocol = `${program.ws}/connection/websocket`
      const answering = yield* Socket.open(protocol)
      answering.ws.on("message", (data) => {
        if (String(data) === "{}") answering.send("{}")
      })
      answering.send(connectAs({ sub: "ada" }))
      const mute = yield* Socket.open(protocol)
      mute.send(connectAs({ sub: "bob" }))
      yield* mute.gets('"id":1')
      yield* answering.gets("{}")
      process.kill(program.pid, "SIGUSR2")
      yield* program.says("the clock is an hour behind")

      const before = pingsOf(answering)
      const stale = yield* Socket.open(protocol)
      yield* eventually(
        Effect.sync(() => pingsOf(answering)),
        (pings) => pings >= before + 3,
        "pings go on",
        "10 seconds"
      )
      expect((yield* mute.closed).code).toBe(3012)
      expect((yield* stale.closed).code).toBe(3502)
      expect(answering.isClosed()).toBe(false)

      // By the clock that is set the first has most of an hour left, the other two seconds.
      const lasting = yield* Socket.open(protocol)
      lasting.send(connectAs({ sub: "cay", exp: inSeconds(-60) }))
      yield* lasting.gets('"expires":true')
      const ending = yield* Socket.open(protocol)
      ending.ws.on("message", (data) => {
        if (String(data) === "{}") ending.send("{}")
      })
      ending.send(connectAs({ sub: "dee", exp: inSeconds(-3600 + 2) }))
      yield* ending.gets('"expires":true')
      expect((yield* ending.closed).code).toBe(3005)

      const { nodes } = (yield* (yield* Api.make(program.http)).result("info", {})) as {
        readonly nodes: ReadonlyArray<{ readonly uptime: number }>
      }
      expect(nodes[0]?.uptime).toBeGreaterThanOrEqual(1)
      expect(nodes[0]?.uptime).toBeLessThan(60)
      program.signal("SIGTERM")
      expect(yield* program.exit).toEqual({ code: 0, signal: null })
    })
  )

  live("what is kept in process for a while goes when it has passed, and the rate of commands is what it was", () =>
    Effect.gen(function* () {
      const clock = settable()
      const namespaces = [{ name: "kept", ...OPEN, history_size: 10, history_ttl: "1m", history_meta_ttl: "2m" }]
      const server = yield* Server.start({
        layer: clock.layer,
        config: {
          ...Api.keyed,
          client: { command_rate: 20, error_limit: 30, ping_interval: "1000h" },
          channel: { namespaces }
        }
      })
      const api = yield* Api.make(server.http)
      const publish = (data: number) =>
        Effect.map(
          api.result("publish", { channel: "kept:a", data, idempotency_key: `key ${data}` }),
          (result) => result as { readonly offset: number }
        )
      const kept = Effect.map(api.result("history", { channel: "kept:a", limit: 10 }), (result) =>
        ((result as { readonly publications?: ReadonlyArray<{ readonly data: number }> }).publications ?? []).map(
          ({ data }) => data
        )
      )
      yield* publish(1)
      yield* clock.set(HOUR)
      expect(yield* kept).toEqual([1])
      expect((yield* publish(1)).offset).toBe(1)
      yield* clock.set(-2 * HOUR)
      expect((yield* publish(1)).offset).toBe(1)
      yield* publish(2)
      expect(yield* kept).toEqual([1, 2])
      yield* clock.pass(61_000)
      expect(yield* kept).toEqual([])
      expect((yield* publish(1)).offset).toBe(1)
      yield* clock.pass(5 * 60_000)
      expect((yield* publish(1)).offset).not.toBe(2)

      const client = yield* Socket.open(`${server.ws}/connection/websocket`)
      client.send('{"id":1,"connect":{}}')
      yield* client.gets('"id":1,')
      // A clock that is set forward fills no bucket, one that is set back leaves none empty.
      const ask = (first: number, count: number): string =>
        Array.from({ length: count }, (_, index) => `{"id":${first + index},"ping":{}}`).join("\n")
      client.send(ask(2, 19))
      yield* client.gets('"id":20,"ping"')
      yield* clock.set(HOUR)
      client.send(ask(100, 10))
      yield* client.gets('"id":109,')
      expect(client.received.join("")).toContain('"id":109,"error":{"code":111')
      yield* clock.set(-2 * HOUR)
      yield* clock.pass(1000)
      client.send(ask(200, 5))
      yield* client.gets('"id":204,"ping"')
    })
  )

  live("an outage of Redis is as long as it was, for readiness, in the log and in the metrics", () =>
    Effect.gen(function* () {
      const clock = settable()
      const redis = yield* Redis.start()
      const server = yield* Server.start({
        layer: clock.layer,
        config: { redis_url: redis.url, health: { broker_grace: "1s" } }
      })
      yield* redis.kill
      yield* eventually(
        Effect.sync(() => server.logs.join("\n")),
        (logs) => logs.includes("broker degraded"),
        "the broker is degraded"
      )
      yield* clock.set(-HOUR)
      yield* eventually(
        Effect.map(Http.send(`${server.http}/health/ready`), ({ status }) => status),
        (status) => status === 503,
        "readiness turns 503"
      )
      yield* redis.start
      yield* eventually(
        Effect.sync(() => server.logs.findLast((line) => line.includes("broker live")) ?? ""),
        (line) => line.includes(", after "),
        "the broker is live again"
      )
      const seconds = (yield* Http.metrics(server.http))["fanfare_broker_outage_seconds_total"] ?? Number.NaN
      expect(seconds).toBeGreaterThanOrEqual(1)
      expect(seconds).toBeLessThan(30)
      const told = / after (-?[\d.]+) s/.exec(server.logs.findLast((line) => line.includes("broker live")) ?? "")
      expect(Number(told?.[1])).toBeCloseTo(seconds, 0)
    })
  )
})
