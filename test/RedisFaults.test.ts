import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as SubscriptionRef from "effect/SubscriptionRef"
import { fileURLToPath } from "node:url"
import * as Http from "./support/http.ts"
import { live } from "./support/it.ts"
import * as Program from "./support/program.ts"
import * as Proxy from "./support/proxy.ts"
import * as Redis from "./support/redis.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"
import { eventually } from "./support/wait.ts"

const stateOf = (server: Server.Running) => Effect.map(SubscriptionRef.get(server.broker.state), ({ _tag }) => _tag)

const becomes = (server: Server.Running, state: string, limit: `${number} seconds` = "8 seconds") =>
  eventually(stateOf(server), (now) => now === state, `the broker is ${state}`, limit)

const CONNECT = '{"id":1,"connect":{}}'

/** A protocol client that is subscribed to a channel. */
const subscribed = (server: Server.Running, channel: string) =>
  Effect.gen(function* () {
    const client = yield* Socket.open(`${server.ws}/connection/websocket`)
    client.send(`${CONNECT}\n{"id":2,"subscribe":{"channel":"${channel}"}}`)
    yield* client.gets('"id":2,"subscribe":{')
    return client
  })

const OPEN = {
  allow_subscribe_for_client: true,
  allow_subscribe_for_anonymous: true,
  allow_publish_for_subscriber: true,
  allow_publish_for_anonymous: true
}

/** `fast:…` has no history; what is in `public:…` is lost with Redis, and that is told. */
const NAMESPACES = [
  { name: "fast", ...OPEN },
  { name: "public", ...OPEN, history_size: 100, history_ttl: "300s", force_recovery: true }
]

describe("kill -9 of Redis with clients connected", () => {
  live("sockets stay, publishes fail at once and temporarily, readiness says so; Redis back: messages flow again", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const server = yield* Server.start({ config: { redis_url: redis.url, channel: { namespaces: NAMESPACES } } })
      const client = yield* subscribed(server, "fast:lobby")
      const reader = yield* Socket.open(`${server.ws}/channels/fast:lobby`)
      const writer = yield* Socket.open(`${server.ws}/channels/fast:lobby`)
      const positioned = yield* subscribed(server, "public:lobby")
      const plain = yield* Socket.open(`${server.ws}/channels/public:lobby`)
      yield* redis.kill

      const before = Date.now()
      client.send('{"id":3,"publish":{"channel":"fast:lobby","data":1}}')
      writer.send("lost")
      yield* client.gets('{"id":3,"error":{"code":100,"message":"internal server error","temporary":true}}')
      expect(yield* writer.closed).toEqual({ code: 1011, reason: "publish failed" })
      expect(Date.now() - before).toBeLessThan(1500)

      yield* becomes(server, "Degraded")
      const ready = yield* Http.send(`${server.http}/health/ready`)
      expect([ready.status, JSON.parse(ready.body)]).toEqual([
        503,
        { status: "broker", broker: { name: "redis", state: "Degraded" } }
      ])
      expect((yield* Http.send(`${server.http}/health/live`)).status).toBe(200)
      client.send('{"id":4,"subscribe":{"channel":"fast:other"}}')
      yield* client.gets('{"id":4,"error":{"code":100')
      const late = yield* Socket.open(`${server.ws}/connection/websocket`)
      late.send(CONNECT)
      yield* late.gets('"connect"')
      const refused = yield* Socket.refusal(`${server.ws}/channels/fast:lobby`)
      expect([refused.status, refused.headers["retry-after"]]).toEqual([503, "1"])
      // What is kept is out of reach, not lost, as far as anybody knows.
      expect(positioned.received.some((frame) => frame.includes("unsubscribe"))).toBe(false)
      expect(plain.isClosed()).toBe(false)

      yield* redis.start
      const back = Date.now()
      yield* becomes(server, "Live", "6 seconds")
      client.send('{"id":5,"publish":{"channel":"fast:lobby","data":"again"}}')
      yield* client.gets('{"id":5,"publish":{}}')
      yield* reader.gets('"again"')
      expect(Date.now() - back).toBeLessThan(6000)
      expect([client.isClosed(), reader.isClosed(), late.isClosed()]).toEqual([false, false, false])
      yield* client.gets('"pub":{"data":"again"')
      yield* positioned.gets(
        '{"push":{"channel":"public:lobby","unsubscribe":{"code":2500,"reason":"insufficient state"}}}'
      )
      expect(yield* plain.closed).toEqual({ code: 3010, reason: "insufficient state" })
      expect(positioned.isClosed()).toBe(false)
      expect(server.metrics.brokerLinkLosses.value).toBe(1)
      expect(server.metrics.brokerOutageSeconds.value).toBeGreaterThan(0)
      expect(server.logs.filter((line) => line.startsWith("WARN broker degraded")).length).toBeLessThanOrEqual(2)
    })
  )

  live("health.broker_grace: an outage shorter than it does not take the instance out of traffic", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const server = yield* Server.start({ config: { redis_url: redis.url, health: { broker_grace: "1m" } } })
      yield* redis.kill
      yield* becomes(server, "Degraded")
      const ready = yield* Http.send(`${server.http}/health/ready`)
      expect([ready.status, JSON.parse(ready.body)]).toEqual([
        200,
        { status: "ok", broker: { name: "redis", state: "Degraded" } }
      ])
    })
  )
})

describe("the link", () => {
  live("half-open: a proxy that goes silent is noticed in under 4 s, and the link replaced", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const proxy = yield* Proxy.start(() => redis.port)
      const server = yield* Server.start({ config: { redis_url: `redis://127.0.0.1:${proxy.port}` } })
      const reader = yield* Socket.open(`${server.ws}/channels/public:lobby`)
      yield* proxy.silence
      const before = Date.now()
      yield* becomes(server, "Degraded", "4 seconds")
      expect(Date.now() - before).toBeLessThan(4000)
      yield* becomes(server, "Live")
      expect(proxy.accepted()).toBeGreaterThanOrEqual(4)
      yield* server.publisher.publish("public:lobby", "through")
      yield* reader.gets("through")
    })
  )

  live("a server that accepts and stays silent does not end the attempts", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const proxy = yield* Proxy.start(() => redis.port)
      const server = yield* Server.start({ config: { redis_url: `redis://127.0.0.1:${proxy.port}` } })
      // Frozen, Redis accepts connections (its kernel does) and answers nothing.
      yield* redis.freeze
      yield* becomes(server, "Degraded")
      const before = proxy.accepted()
      yield* eventually(Effect.sync(proxy.accepted), (count) => count >= before + 4, "two more attempts", "14 seconds")
      yield* redis.thaw
      yield* becomes(server, "Live", "10 seconds")
    })
  )

  live("a channel that Redis does not permit fails its subscriber, and leaves the link alone", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start("--user default off --user app on >pw ~* &fanfare:pub:public:* +@all".split(" "))
      const server = yield* Server.start({ config: { redis_url: `redis://app:pw@127.0.0.1:${redis.port}` } })
      const reader = yield* Socket.open(`${server.ws}/channels/public:lobby`)
      const client = yield* subscribed(server, "public:lobby")
      client.send('{"id":3,"subscribe":{"channel":"elsewhere"}}')
      yield* client.gets('{"id":3,"error":{"code":100')
      client.send('{"id":4,"publish":{"channel":"public:lobby","data":"on"}}')
      yield* reader.gets('"on"')
      expect(server.metrics.brokerLinkLosses.value).toBe(0)
    })
  )

  live("CLIENT KILL of the subscriber: the link comes back by itself, with every subscription, each loss counted", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const server = yield* Server.start({ config: { redis_url: redis.url } })
      const readers = yield* Effect.all(
        Array.from({ length: 20 }, (_, index) => Socket.open(`${server.ws}/channels/room-${index}`))
      )
      for (let round = 1; round <= 3; round++) {
        yield* redis.use((client) => client.call("CLIENT", "KILL", "TYPE", "pubsub"))
        yield* eventually(
          Effect.sync(() => server.metrics.brokerLinkLosses.value),
          (losses) => losses === round,
          "the loss is counted"
        )
        yield* becomes(server, "Live")
        for (const [index, reader] of readers.entries()) {
          yield* server.publisher.publish(`room-${index}`, `round ${round}`)
          yield* reader.gets(`round ${round}`)
        }
      }
      expect(readers.some((reader) => reader.isClosed())).toBe(false)
    })
  )

  live("without permission for INFO it works, and says what it cannot see", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start("--user default off --user app on >pw ~* &* +@all -info".split(" "))
      const server = yield* Server.start({ config: { redis_url: `redis://app:pw@127.0.0.1:${redis.port}` } })
      expect(server.logs.filter((line) => line.startsWith("WARN Redis does not permit INFO")).length).toBe(1)
      const client = yield* Socket.open(`${server.ws}/channels/public:lobby`)
      expect((yield* server.publisher.publish("public:lobby", "kept"))?.offset).toBe(1)
      yield* client.gets("kept")
    })
  )

  live("a blocked event loop is not taken for a dead link", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const proxy = yield* Proxy.start(() => redis.port)
      const server = yield* Server.start({ config: { redis_url: `redis://127.0.0.1:${proxy.port}` } })
      // While Redis is frozen, a ping of each client goes out (one a second) and
      // stays unanswered. Then its answer and its deadline (1.5 s) both come while
      // the loop is blocked: the deadline is seen first.
      yield* redis.freeze
      const before = proxy.sent()
      yield* eventually(
        Effect.sync(proxy.sent),
        (sent) => sent.length === 2 && sent.every((bytes, index) => bytes > (before[index] ?? 0)),
        "a ping of each client"
      )
      yield* redis.thaw
      const end = Date.now() + 2000
      while (Date.now() < end);
      yield* Effect.yieldNow()
      yield* server.publisher.publish("public:lobby", "through")
      const published = server.metrics.published.value
      yield* server.publisher.publish("public:lobby", "again")
      expect(server.metrics.published.value).toBe(published + 1)
      expect(yield* stateOf(server)).toBe("Live")
      expect(server.metrics.brokerLinkLosses.value).toBe(0)
    })
  )

  live("publisher and subscriber on different servers: not live", () =>
    Effect.gen(function* () {
      const one = yield* Redis.start()
      const other = yield* Redis.start()
      let split = true
      const proxy = yield* Proxy.start((index) => (split && index % 2 === 1 ? other.port : one.port))
      const program = yield* Program.start({
        env: { FANFARE_LOG_LEVEL: "debug" },
        args: [
          "--config",
          yield* Program.temporaryFile("fanfare.json", `{"redis_url":"redis://127.0.0.1:${proxy.port}"}`)
        ]
      })
      yield* program.says(
        "broker degraded: redis at 127.0.0.1:" +
          `${proxy.port}: publisher and subscriber are connected to different servers`
      )
      expect((yield* Http.send(`${program.http}/health/ready`)).status).toBe(503)
      split = false
      yield* program.says("broker live")
      expect((yield* Http.send(`${program.http}/health/ready`)).status).toBe(200)
    })
  )

  live(
    "Redis away at the start: the program listens, is not ready, says so in one line, and gets live when Redis comes",
    () =>
      Effect.gen(function* () {
        const redis = yield* Redis.start()
        yield* redis.kill
        const file = yield* Program.temporaryFile("fanfare.json", JSON.stringify({ redis_url: redis.url }))
        const program = yield* Program.start({ args: ["--config", file] })
        yield* program.says("broker degraded")
        const ready = yield* Http.send(`${program.http}/health/ready`)
        expect(ready.status).toBe(503)
        yield* redis.start
        yield* program.says("broker live")
        expect((yield* Http.send(`${program.http}/health/ready`)).status).toBe(200)
        expect(program.output().split("broker degraded").length - 1).toBe(1)
      })
  )

  live("user and password in the URL; a wrong one is said, without the password", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start("--user default off --user app on >s3cret&pass ~* &* +@all".split(" "))
      const url = (password: string): string => `redis://app:${encodeURIComponent(password)}@127.0.0.1:${redis.port}`
      const server = yield* Server.start({ config: { redis_url: url("s3cret&pass") } })
      const reader = yield* Socket.open(`${server.ws}/channels/public:lobby`)
      yield* server.publisher.publish("public:lobby", "in")
      yield* reader.gets("in")
      const file = yield* Program.temporaryFile("fanfare.json", JSON.stringify({ redis_url: url("wr0ng&pass") }))
      const program = yield* Program.start({ args: ["--config", file] })
      yield* program.says("WRONGPASS")
      expect(program.output()).not.toContain("wr0ng")
    })
  )

  live("rediss://: the link is encrypted, and the server's certificate verified", () =>
    Effect.gen(function* () {
      const fixture = (name: string): string => fileURLToPath(new URL(`./fixtures/${name}`, import.meta.url))
      const tlsPort = yield* Redis.freePort
      yield* Redis.start([
        "--tls-port",
        String(tlsPort),
        "--tls-cert-file",
        fixture("redis.crt"),
        "--tls-key-file",
        fixture("redis.key"),
        "--tls-auth-clients",
        "no"
      ])
      const url = `rediss://localhost:${tlsPort}`
      const trusting = yield* Program.start({
        env: { REDIS_URL: url, NODE_EXTRA_CA_CERTS: fixture("ca.crt") }
      })
      const reader = yield* Socket.open(`${trusting.ws}/channels/public:lobby`)
      reader.send("encrypted")
      yield* reader.gets("encrypted")
      const file = yield* Program.temporaryFile("fanfare.json", JSON.stringify({ redis_url: url }))
      const wary = yield* Program.start({ args: ["--config", file] })
      yield* wary.says("broker degraded")
      expect(wary.output()).toMatch(/unable to verify the first certificate/)
    })
  )
})
