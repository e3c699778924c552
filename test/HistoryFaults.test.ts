import { describe, expect } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as RedisStreams from "../src/Broker/RedisStreams.ts"
import { live } from "./support/it.ts"
import { valuesOf } from "./support/metrics.ts"
import { Reader } from "./support/reader.ts"
import * as Redis from "./support/redis.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"
import { eventually } from "./support/wait.ts"

const OPEN = { allow_subscribe_for_client: true, allow_subscribe_for_anonymous: true }
const KEPT = { ...OPEN, history_ttl: "10m", force_recovery: true }

const NAMESPACES = [
  { name: "kept", ...KEPT, history_size: 5000 },
  { name: "short", ...KEPT, history_size: 3 },
  { name: "bare", ...OPEN }
]

const PERIOD = 400
const DURATION = Duration.minutes(10)

/** A server over a Redis; `check`: the period of its position check. */
const serverOf = (redis: Redis.Redis, check = "20m") =>
  Server.start({
    config: {
      redis_url: redis.url,
      channel: { namespaces: NAMESPACES },
      client: { channel_position_check_delay: check, recovery_max_publication_limit: 5000, reply_max_size: 2 ** 24 },
      http_api: { key: "key" }
    }
  })

const isLive = (server: Server.Running) =>
  eventually(server.broker.state.get, ({ _tag }) => _tag === "Live", "the broker is live")

/** A reader that is subscribed, and disconnects with the scope. */
const reading = (server: Server.Running, channel: string) =>
  Effect.acquireRelease(
    Effect.sync(() => new Reader(channel)),
    (reader) => reader.disconnect
  ).pipe(Effect.tap((reader) => reader.connect(server.ws)))

const has = (reader: Reader, offset: number) =>
  reader.until(() => reader.position?.offset === offset, `offset ${offset}`)

const isTold = (reader: Reader) => reader.until(() => reader.ended.length > 0, "it is told")

/** Kills the links that subscribe to channels; every instance has one that hears control messages, on two topics. */
const killSubscribers = (client: Parameters<Parameters<Redis.Redis["use"]>[0]>[0]) =>
  client.call("CLIENT", "LIST", "TYPE", "pubsub").then((list) => {
    const subscribers = String(list)
      .split("\n")
      .filter((line) => Number(/ sub=(\d+)/.exec(line)?.[1] ?? 0) > 2)
    return Promise.all(
      subscribers.map((line) => client.call("CLIENT", "KILL", "ID", /(?:^| )id=(\d+)/.exec(line)?.[1] ?? ""))
    )
  })

describe("CLIENT KILL of the subscriber link, ten times, during 500 messages/s into 50 channels", () => {
  const CHANNELS = 50
  const KILLS = 10
  /** Messages between two kills. */
  const BETWEEN = 250

  live(
    "with history: no gap, no duplicate, no reconnect, no resubscription; without: sockets stay, each loss is counted",
    () =>
      Effect.gen(function* () {
        const redis = yield* Redis.start()
        const servers = yield* Effect.all([serverOf(redis), serverOf(redis)])
        // An instance without subscribers keeps its links: what it publishes is missed by the others.
        const source = yield* serverOf(redis)
        const readers = yield* Effect.forEach(Array.from({ length: 2 * CHANNELS }), (_, index) =>
          reading(servers[index % 2] as Server.Running, `kept:${Math.floor(index / 2)}`)
        )
        const sockets = yield* Effect.forEach(Array.from({ length: CHANNELS }), (_, index) =>
          Socket.open(`${servers[0].ws}/channels/bare:${index}`, { onText: () => undefined })
        )

        let count = 0
        const publish = (index: number) =>
          Effect.all([
            source.publisher.publish(`kept:${index % CHANNELS}`, index),
            source.publisher.publish(`bare:${index % CHANNELS}`, index)
          ])
        // Ten of each kind every 20 ms: 500 a second into the channels with history, as many into those without.
        const publisher = yield* Effect.suspend(() =>
          Effect.forEach(
            Array.from({ length: 10 }, () => count++),
            publish,
            { discard: true }
          )
        ).pipe(Effect.repeat(Schedule.fixed("20 millis")), Effect.fork)

        const before = Date.now()
        for (let round = 1; round <= KILLS; round++) {
          const next = count + BETWEEN
          yield* redis.use(killSubscribers)
          for (const server of servers) {
            yield* eventually(
              Effect.sync(() => server.metrics.brokerLinkLosses.value),
              (losses) => losses === round,
              "the loss is counted"
            )
            yield* isLive(server)
          }
          yield* eventually(
            Effect.sync(() => count),
            (now) => now >= next,
            "more messages"
          )
        }
        const took = (Date.now() - before) / 1000
        yield* Fiber.interrupt(publisher)

        for (const reader of readers) {
          const channel = Number(reader.channel.split(":")[1])
          const sent = Array.from({ length: count }, (_, index) => index).filter(
            (index) => index % CHANNELS === channel
          )
          // The last one may have been given up before it was accepted.
          yield* reader.until(() => reader.log.length >= sent.length - 1, `${sent.length} publications`)
          expect(reader.log).toEqual(sent.slice(0, reader.log.length))
          expect([reader.violations, reader.ended]).toEqual([[], []])
        }
        expect(sockets.some((socket) => socket.isClosed())).toBe(false)
        for (const [index, { metrics }] of servers.entries()) {
          expect(metrics.connectionsOpened.value).toBe(index === 0 ? 2 * CHANNELS : CHANNELS)
          expect(valuesOf(metrics.insufficient)).toEqual({ overflow: 0, gap: 0 })
          expect(valuesOf(metrics.recoveries)).toEqual({ recovered: 0, unrecovered: 0 })
          expect(metrics.brokerLinkLosses.value).toBe(KILLS)
          // The first delay is 100 ms, less a fifth of it.
          expect(metrics.brokerOutageSeconds.value).toBeGreaterThan(KILLS * 0.08)
          expect(metrics.brokerOutageSeconds.value).toBeLessThan(took)
          expect(metrics.outageChannels.value).toBe(index === 0 ? KILLS * CHANNELS : 0)
          // Much was missed, or this would test nothing.
          expect(metrics.healed.value).toBeGreaterThan(KILLS * 20)
        }
        expect(source.metrics.brokerLinkLosses.value).toBe(0)
      }),
    120_000
  )
})

describe("a Redis that has lost something: everybody is told, nobody goes on in silence", () => {
  /** One of each kind, in a channel with three publications, on both instances. */
  const audience = (redis: Redis.Redis) =>
    Effect.gen(function* () {
      const servers = yield* Effect.all([serverOf(redis, `${PERIOD}ms`), serverOf(redis, `${PERIOD}ms`)])
      const [server] = servers
      yield* Effect.forEach([1, 2, 3], (data) => server.publisher.publish("kept:x", data))
      const readers = yield* Effect.forEach(servers, (one) => reading(one, "kept:x"))
      const sockets = yield* Effect.forEach(servers, (one) => Socket.open(`${one.ws}/channels/kept:x`))
      const silent = yield* Effect.forEach(servers, (one) => reading(one, "kept:silent"))
      return { server, readers, sockets, silent }
    })

  const allTold = ({ readers, sockets, silent }: Effect.Effect.Success<ReturnType<typeof audience>>) =>
    Effect.gen(function* () {
      for (const reader of [...readers, ...silent]) {
        const epoch = reader.position?.epoch
        yield* isTold(reader)
        expect(reader.ended).toEqual([2500])
        const again = yield* reader.subscribe().pipe(Effect.retry(Schedule.spaced("50 millis")))
        expect([again.was_recovering, again.recovered]).toEqual([true, undefined])
        expect(again.epoch).not.toBe(epoch)
      }
      for (const socket of sockets) expect(yield* socket.closed).toEqual({ code: 3010, reason: "insufficient state" })
    })

  /** What comes next is one stream for all. */
  const goesOn = ({ server, readers }: Effect.Effect.Success<ReturnType<typeof audience>>, offset: number) =>
    Effect.gen(function* () {
      expect((yield* server.publisher.publish("kept:x", "on"))?.offset).toBe(offset)
      for (const reader of readers) {
        yield* has(reader, offset)
        expect(reader.violations).toEqual([])
        expect(reader.log).toEqual(["on"])
      }
    })

  live("restarted empty", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const all = yield* audience(redis)
      yield* redis.kill
      yield* redis.start
      yield* allTold(all)
      yield* goesOn(all, 1)
    })
  )

  live("restarted from an older snapshot: the same keys, lower offsets", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const all = yield* audience(redis)
      yield* redis.use((client) => client.save())
      yield* Effect.forEach([4, 5], (data) => all.server.publisher.publish("kept:x", data))
      for (const reader of all.readers) yield* has(reader, 5)
      yield* redis.kill
      yield* redis.start
      yield* allTold(all)
      // What the snapshot had can still be read, and offsets go on from there.
      const page = yield* all.server.broker.history(
        { channel: "kept:x", retention: { size: 5000, ttl: DURATION, metaTtl: DURATION } },
        { limit: 10, maxBytes: 1000 }
      )
      expect(page.publications.map(({ data }) => data)).toEqual(["1", "2", "3"])
      yield* goesOn(all, 4)
    })
  )

  live("FLUSHALL: within the period of the position check", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const all = yield* audience(redis)
      const before = Date.now()
      yield* redis.use((client) => client.flushall())
      for (const reader of [...all.readers, ...all.silent]) yield* isTold(reader)
      // Its period, and what the check itself takes on a busy machine.
      expect(Date.now() - before).toBeLessThan(PERIOD + 1000)
      yield* allTold(all)
      yield* goesOn(all, 1)
    })
  )

  live("FLUSHALL, and a publication right after it: at once", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const server = yield* serverOf(redis)
      const reader = yield* reading(server, "kept:x")
      yield* server.publisher.publish("kept:x", "before")
      yield* has(reader, 1)
      yield* redis.use((client) => client.flushall())
      yield* server.publisher.publish("kept:x", "after")
      yield* isTold(reader)
      expect(reader.log).toEqual(["before"])
      expect((yield* reader.subscribe()).offset).toBe(1)
    })
  )

  live("SCRIPT FLUSH: nobody notices", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const server = yield* serverOf(redis, `${PERIOD}ms`)
      const reader = yield* reading(server, "kept:x")
      for (let round = 1; round <= 3; round++) {
        yield* server.publisher.publish("kept:x", round)
        yield* redis.use((client) => client.script("FLUSH"))
      }
      yield* server.publisher.publish("kept:x", 4, { idempotencyKey: "4" })
      yield* has(reader, 4)
      expect([reader.log, reader.violations, reader.ended]).toEqual([[1, 2, 3, 4], [], []])
    })
  )
})

describe("a publication that an instance did not hear", () => {
  /** Adds to the stream without publishing, as a network does that loses a message. */
  const lose = (redis: Redis.Redis, channel: string, offset: number) =>
    redis.use(async (client) => {
      const keys = RedisStreams.keys("fanfare")
      const namespace = NAMESPACES.find(({ name }) => channel.startsWith(`${name}:`))
      const size = namespace !== undefined && "history_size" in namespace ? namespace.history_size : 0
      await client.xadd(keys.stream(channel), "MAXLEN", size, `${offset}-0`, "e", `{"v":1}\n"lost ${offset}"`)
      await client.hset(keys.meta(channel), "offset", offset)
    })

  live("is read from history in its place once the next one comes, without a word to clients", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const server = yield* serverOf(redis)
      const reader = yield* reading(server, "kept:x")
      const socket = yield* Socket.open(`${server.ws}/channels/kept:x`)
      yield* server.publisher.publish("kept:x", "first")
      yield* lose(redis, "kept:x", 2)
      yield* lose(redis, "kept:x", 3)
      yield* server.publisher.publish("kept:x", "last")
      yield* has(reader, 4)
      expect([reader.log, reader.violations, reader.ended]).toEqual([["first", "lost 2", "lost 3", "last"], [], []])
      yield* socket.count(4)
      expect(socket.received).toEqual(['"first"', '"lost 2"', '"lost 3"', '"last"'])
      expect(server.metrics.holes.value).toBe(1)
      expect(server.metrics.healed.value).toBeGreaterThanOrEqual(2)
    })
  )

  live("is read by the position check where no next one comes", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const server = yield* serverOf(redis, `${PERIOD}ms`)
      const reader = yield* reading(server, "kept:x")
      yield* lose(redis, "kept:x", 1)
      yield* has(reader, 1)
      expect([reader.log, reader.violations, reader.ended]).toEqual([["lost 1"], [], []])
    })
  )

  live("is said to be missing where history has it no more: 2500, and 3010 on the plain socket", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const server = yield* serverOf(redis)
      const reader = yield* reading(server, "short:x")
      const socket = yield* Socket.open(`${server.ws}/channels/short:x`)
      for (let offset = 1; offset <= 5; offset++) yield* lose(redis, "short:x", offset)
      yield* server.publisher.publish("short:x", "last")
      yield* isTold(reader)
      expect(reader.log).toEqual([])
      expect(yield* socket.closed).toEqual({ code: 3010, reason: "insufficient state" })
      expect(socket.received).toEqual([])
      const again = yield* reader.subscribe()
      expect([again.was_recovering, again.recovered, again.offset]).toEqual([true, undefined, 6])
      expect(server.metrics.gaps.value).toBe(1)
      expect(valuesOf(server.metrics.insufficient)).toEqual({ overflow: 0, gap: 2 })
      yield* server.publisher.publish("short:x", "on")
      yield* has(reader, 7)
    })
  )

  live("that needs several pages of history is read in order", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const server = yield* serverOf(redis)
      const reader = yield* reading(server, "kept:x")
      for (let offset = 1; offset <= 700; offset++) yield* lose(redis, "kept:x", offset)
      yield* Effect.forEach(
        Array.from({ length: 400 }, (_, index) => index),
        (data) => server.publisher.publish("kept:x", data),
        { concurrency: "unbounded" }
      )
      yield* has(reader, 1100)
      expect([reader.violations, reader.ended, reader.log.length]).toEqual([[], [], 1100])
    })
  )
})

describe("maxmemory reached", () => {
  live(
    "publishes are refused, offsets do not skip, nobody gets what was refused, and recovery is exact afterwards",
    () =>
      Effect.gen(function* () {
        const redis = yield* Redis.start()
        const server = yield* serverOf(redis)
        const reader = yield* reading(server, "kept:x")
        const gone = yield* reading(server, "kept:x")
        yield* Effect.forEach([1, 2], (data) => server.publisher.publish("kept:x", data))
        yield* Effect.forEach([reader, gone], (one) => has(one, 2))
        yield* gone.disconnect
        yield* redis.use((client) => client.config("SET", "maxmemory", "1"))
        const refused = yield* Effect.forEach(Array.from({ length: 20 }), () =>
          Effect.flip(server.publisher.publish("kept:x", "refused"))
        )
        expect(refused.map((error) => error.reason)).toEqual(Array.from({ length: 20 }, () => "Failed"))
        expect(
          yield* Effect.flip(server.publisher.publish("kept:x", "refused", { idempotencyKey: "1" }))
        ).toMatchObject({
          reason: "Failed"
        })
        // Who has a position can still come back to it.
        const elsewhere = new Reader("kept:x")
        elsewhere.position = gone.position
        expect((yield* elsewhere.connect(server.ws)).recovered).toBe(true)
        yield* elsewhere.disconnect
        yield* redis.use((client) => client.config("SET", "maxmemory", "0"))
        expect((yield* server.publisher.publish("kept:x", 3, { idempotencyKey: "1" }))?.offset).toBe(3)
        yield* has(reader, 3)
        expect([reader.log, reader.violations, reader.ended]).toEqual([[1, 2, 3], [], []])
        expect((yield* gone.connect(server.ws)).recovered).toBe(true)
        expect([gone.log, gone.violations]).toEqual([[1, 2, 3], []])
      })
  )
})
