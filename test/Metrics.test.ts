import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import { performance } from "node:perf_hooks"
import { INBOX_PUBLICATIONS } from "../src/Hub.ts"
import * as Api from "./support/api.ts"
import { channel, raw } from "./support/history.ts"
import * as Http from "./support/http.ts"
import { live } from "./support/it.ts"
import * as Redis from "./support/redis.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"
import { eventually } from "./support/wait.ts"

const CHANNEL = "public:lobby"

/** Waits until a figure is what it should be. */
const becomes = (look: () => number, expected: number) =>
  eventually(Effect.sync(look), (value) => value === expected, `${expected}`)

const served = (server: Server.Running, name: string, done: (value: number) => boolean) =>
  eventually(
    Effect.map(Http.metrics(server.http), (figures) => figures[name] ?? NaN),
    done,
    name
  )

describe("metrics of clients", () => {
  live("two servers in one process count apart", () =>
    Effect.gen(function* () {
      const [one, other] = [yield* Server.start(), yield* Server.start()]
      const socket = yield* Socket.open(`${one.ws}/channels/${CHANNEL}`)
      socket.send("hello")
      yield* socket.count(1)
      const figures = yield* Effect.forEach([one, other], ({ http }) => Http.metrics(http))
      for (const name of [
        'fanfare_connections{kind="plain"}',
        "fanfare_connections_opened_total",
        "fanfare_published_total",
        "fanfare_deliveries_total",
        'fanfare_publish_duration_seconds_count{result="accepted"}'
      ]) {
        expect([name, ...figures.map((figure) => figure[name])]).toEqual([name, 1, 0])
      }
      // Others are told that it has joined.
      expect(one.metrics.deliveryDuration.count).toBeGreaterThanOrEqual(1)
      expect(other.metrics.deliveryDuration.count).toBe(0)
    })
  )

  live("mailboxes and blocked sockets: what a client that does not read has waiting; nothing once it has read", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: { channel } })
      const slow = yield* Socket.open(`${server.ws}/channels/bare:x`)
      slow.pause()
      const publish = server.publisher.publishRaw("bare:x", { data: "x".repeat(16 * 1024), json: false })
      const figures = yield* eventually(
        Effect.zipRight(Effect.repeatN(publish, 15), Http.metrics(server.http)),
        (now) => (now["fanfare_mailbox_frames"] ?? 0) >= 32,
        "half a megabyte waits"
      )
      expect(figures["fanfare_connections_blocked"]).toBe(1)
      expect(figures["fanfare_mailbox_bytes"]).toBeGreaterThan(32 * 16 * 1024)
      slow.resume()
      for (const name of ["fanfare_connections_blocked", "fanfare_mailbox_frames", "fanfare_mailbox_bytes"]) {
        yield* served(server, name, (value) => value === 0)
      }
    })
  )

  live("commands by method and errors by code; what is not known, or a hook's own, is other", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({
        hooks: {
          onRpc: ({ method }) => Effect.fail({ _tag: "Rejected", code: Number(method), message: "no" } as never)
        }
      })
      const { ask } = yield* raw(server)
      yield* ask("subscribe", { channel: CHANNEL })
      yield* ask("subscribe", { channel: CHANNEL })
      yield* ask("subscribe", { channel: "nowhere:x" })
      yield* ask("rpc", { method: "4242" })
      yield* ask("rpc", { method: "103" })
      yield* ask("no_such_method", {})
      const { commands, errors } = server.metrics
      expect(["connect", "subscribe", "rpc", "no_such_method"].map((name) => commands(name).value)).toEqual([
        1, 3, 2, 1
      ])
      expect([105, 102, 103, 104, 4242].map((code) => errors(code).value)).toEqual([1, 1, 1, 1, 1])
      const figures = yield* Http.metrics(server.http)
      expect(figures['fanfare_errors_total{code="other"}']).toBe(1)
      expect(figures['fanfare_commands_total{method="other"}']).toBe(1)
      expect(Object.keys(figures).filter((name) => name.includes("4242") || name.includes("no_such"))).toEqual([])
    })
  )
})

describe("metrics of the server API", () => {
  live("requests by method and by the code of the answer: refused keys and unknown paths, too", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: Api.keyed })
      const api = yield* Api.make(server.http)
      yield* api.result("publish", { channel: CHANNEL, data: 1 })
      yield* api.result("info", {})
      yield* api.refusal("publish", { channel: "nowhere:x", data: 1 })
      yield* api.refusal("publish", { channel: 1 }, { malformed: true })
      yield* api.refusal("publish", { channel: CHANNEL, data: "x".repeat(65 * 1024) })
      yield* api.refusal("publish", { channel: CHANNEL, data: 1 }, { headers: { "X-API-Key": "wrong" } })
      yield* api.call("batch", { commands: [{ info: {} }] })
      const requests = Object.entries(yield* Http.metrics(server.http)).filter(
        ([name, value]) => name.startsWith("fanfare_api_requests_total") && value > 0
      )
      const of = (method: string, code: number) => `fanfare_api_requests_total{method="${method}",code="${code}"}`
      expect(Object.fromEntries(requests)).toEqual({
        [of("publish", 0)]: 1,
        [of("publish", 101)]: 1,
        [of("publish", 102)]: 1,
        [of("publish", 106)]: 1,
        [of("publish", 107)]: 1,
        [of("info", 0)]: 1,
        [of("batch", 0)]: 1
      })
      expect(server.logs).toContain("DEBUG refused /api/publish: unauthorized")
    })
  )

  live("every method is counted under its own name", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: Api.keyed })
      const { specification } = yield* Api.make(server.http)
      const paths = Object.keys(specification.paths).filter((path) => path.startsWith("/api/"))
      const figures = yield* Http.metrics(server.http)
      const names = Object.keys(figures).flatMap(
        (name) => /^fanfare_api_requests_total\{method="(\w+)"/.exec(name)?.[1] ?? []
      )
      expect(names.filter((name) => name !== "other").toSorted()).toEqual(
        paths.map((path) => path.slice("/api/".length)).toSorted()
      )
    })
  )
})

describe("every bound has a counter that moves each time", () => {
  live("a connection's inbox is full: its socket is paused", () =>
    Effect.gen(function* () {
      const gate = yield* Effect.makeLatch(false)
      const server = yield* Server.start({ hooks: { onPublish: () => gate.await } })
      const socket = yield* Socket.open(`${server.ws}/channels/${CHANNEL}`)
      for (let index = 0; index < 200; index++) socket.send(String(index))
      yield* becomes(() => server.metrics.pauses.connection.value, 1)
      yield* gate.open
      yield* socket.count(200)
      expect(server.metrics.pauses.connection.value).toBeGreaterThanOrEqual(1)
      expect(server.metrics.pauses.broker.value).toBe(0)
    })
  )

  live("the broker's inbox is full: publishers wait, once counted", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: { channel } })
      const socket = yield* Socket.open(`${server.ws}/channels/bare:x`)
      const publish = server.broker.publish("bare:x", { data: "x", json: false })
      for (let index = 0; index < INBOX_PUBLICATIONS - 1; index++) Effect.runSync(publish)
      expect(server.metrics.pauses.broker.value).toBe(0)
      Effect.runSync(publish)
      expect(server.metrics.pauses.broker.value).toBe(1)
      yield* publish
      yield* socket.count(INBOX_PUBLICATIONS + 1)
      expect(server.metrics.pauses.broker.value).toBe(1)
    })
  )

  live("publishes in flight are full: error 100, and each is counted", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const server = yield* Server.start({ config: { redis_url: redis.url } })
      yield* redis.freeze
      const data = "x".repeat(60 * 1024)
      const publish = Effect.flip(server.publisher.publishRaw(CHANNEL, { data, json: false }))
      const failed = yield* Effect.all(
        Array.from({ length: 600 }, () => publish),
        { concurrency: "unbounded" }
      )
      yield* redis.thaw
      const overloaded = failed.filter((error) => error.reason === "Overloaded").length
      expect(overloaded).toBeGreaterThan(0)
      expect(server.metrics.limits.publishes_in_flight.value).toBe(overloaded)
      expect(server.metrics.publishFailed.value).toBe(600)
      expect(server.metrics.publishDuration.failed.count).toBe(600)
    })
  )

  live("channels of a connection, connections of a user, sizes of frames, publications and replies", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({
        config: { client: { channel_limit: 1, user_connection_limit: 1, reply_max_size: 64 * 1024 } },
        hooks: { onConnect: () => Effect.succeed({ user: "ada" }) }
      })
      const { ask } = yield* raw(server)
      yield* ask("subscribe", { channel: CHANNEL })
      yield* ask("subscribe", { channel: "public:other" })
      expect(server.metrics.limits.channels.value).toBe(1)

      const second = yield* Socket.open(`${server.ws}/connection/websocket`)
      second.send(JSON.stringify({ id: 1, connect: {} }))
      expect((yield* second.closed).code).toBe(3504)
      expect(server.metrics.disconnects(3504).value).toBe(1)

      const large = yield* Socket.open(`${server.ws}/connection/websocket`)
      large.send("x".repeat(256 * 1024 + 1))
      expect((yield* large.closed).code).toBe(1009)
      expect(server.metrics.disconnects(1009).value).toBe(1)

      yield* Effect.flip(server.publisher.publish(CHANNEL, "x".repeat(64 * 1024)))
      expect(server.metrics.limits.publication_size.value).toBe(1)

      for (let index = 0; index < 3; index++) yield* server.publisher.publish(CHANNEL, "x".repeat(30 * 1024))
      yield* ask("history", { channel: CHANNEL, limit: 1 })
      yield* ask("history", { channel: CHANNEL, limit: 2 })
      expect(server.metrics.limits.reply_size.value).toBe(0)
      yield* ask("history", { channel: CHANNEL, limit: 3 })
      expect(server.metrics.limits.reply_size.value).toBe(1)
    })
  )
})

describe("metrics of the process", () => {
  live("a blocked event loop is seen", () =>
    Effect.gen(function* () {
      const server = yield* Server.start()
      yield* served(server, "fanfare_event_loop_delay_seconds_count", (count) => count > 0)
      const late = Effect.map(
        Http.metrics(server.http),
        (figures) =>
          (figures["fanfare_event_loop_delay_seconds_count"] ?? NaN) -
          (figures['fanfare_event_loop_delay_seconds_bucket{le="0.25"}'] ?? NaN)
      )
      const before = yield* late
      const began = performance.now()
      while (performance.now() - began < 500);
      yield* eventually(late, (now) => now === before + 1, "one that was late by 0.4 s")
    })
  )

  live("processor time goes up, and the rest is what the process says of itself", () =>
    Effect.gen(function* () {
      const server = yield* Server.start()
      const first = yield* Http.metrics(server.http)
      const second = yield* Http.metrics(server.http)
      expect(second["process_cpu_seconds_total"]).toBeGreaterThan(first["process_cpu_seconds_total"] ?? NaN)
      expect(Math.abs((second["process_cpu_seconds_total"] ?? NaN) - process.cpuUsage().user / 1e6)).toBeLessThan(60)
      const started = Date.now() / 1000 - process.uptime()
      expect(Math.abs((second["process_start_time_seconds"] ?? NaN) - started)).toBeLessThan(60)
      expect(second["process_resident_memory_bytes"]).toBeGreaterThan(second["process_heap_bytes"] ?? NaN)
      expect(second["process_heap_bytes"]).toBeGreaterThan(1024 * 1024)
      const { deno, node } = process.versions
      const runtime =
        deno === undefined ? `runtime="node",runtime_version="${node}"` : `runtime="deno",runtime_version="${deno}"`
      expect(Object.keys(second).filter((name) => name.startsWith("fanfare_build_info"))).toEqual([
        expect.stringContaining(runtime)
      ])
    })
  )

  live("what the program counts with Effect's Metric comes after it, and never in its place", () =>
    Effect.gen(function* () {
      yield* Metric.increment(Metric.counter("test_shop.orders"))
      yield* Metric.increment(Metric.counter("test_orders_total", { incremental: true }))
      yield* Metric.set(Metric.gauge("fanfare_channels"), 4711)
      const server = yield* Server.start()
      expect(yield* Http.metrics(server.http)).toMatchObject({
        test_shop_orders: 1,
        test_orders_total: 1,
        fanfare_channels: 0
      })
    })
  )
})
