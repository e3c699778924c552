import { describe, expect } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as RedisBroker from "../src/Broker/Redis.ts"
import * as RedisStreams from "../src/Broker/RedisStreams.ts"
import type * as History from "../src/History.ts"
import type { Publication } from "../src/protocol/Publication.ts"
import { adapters, type Instance, instance } from "./support/broker.ts"
import { live } from "./support/it.ts"
import * as Redis from "./support/redis.ts"
import { eventually } from "./support/wait.ts"

const text = (data: string): Publication => ({ data, json: false })

const retention: History.Retention = { size: 8, ttl: Duration.minutes(5), metaTtl: Duration.hours(1) }

const publish = (of: Instance, channel: string, data: string, kept = retention) =>
  of.broker.publish(channel, text(data), { retention: kept })

const read = (of: Instance, channel: string, range: Partial<History.Range> = {}) =>
  of.broker.history({ channel, retention }, { limit: 100, maxBytes: 1e6, ...range })

const dataOf = ({ publications }: History.Page): ReadonlyArray<string> => publications.map(({ data }) => data)

for (const adapter of adapters) {
  /** A test with two instances of one cluster; over memory they are the same one. */
  const test = (name: string, run: (a: Instance, b: Instance) => Effect.Effect<void, unknown, Scope.Scope>): void =>
    live(name, () =>
      Effect.flatMap(adapter.cluster(2), ([a, b]) =>
        a === undefined || b === undefined ? Effect.dieMessage("no cluster") : run(a, b)
      )
    )

  describe(`${adapter.name}, history`, () => {
    test("publish: offsets are 1, 2, 3 … in one epoch, however many publish, and everybody hears them in order", (a, b) =>
      Effect.gen(function* () {
        yield* a.broker.subscribe("x")
        yield* b.broker.subscribe("x")
        const publishers = [a, b, a].map((one, index) =>
          Effect.forEach(Array.from({ length: 100 }), (_, number) => publish(one, "x", `${index}:${number}`))
        )
        const positions = (yield* Effect.all(publishers, { concurrency: "unbounded" })).flat()
        const numbers = Array.from({ length: 300 }, (_, index) => index + 1)
        expect(positions.map((position) => position?.offset ?? 0).toSorted((x, y) => x - y)).toEqual(numbers)
        expect(new Set(positions.map((position) => position?.epoch)).size).toBe(1)
        for (const one of [a, b]) {
          yield* one.hears(300)
          expect(one.heard.map(([, { offset }]) => offset)).toEqual(numbers)
          expect(new Set(one.heard.map(([, { epoch }]) => epoch))).toEqual(new Set([positions[0]?.epoch]))
        }
        expect(dataOf(yield* read(a, "x"))).toEqual(a.heard.slice(-8).map(([, { data }]) => data))
      }))

    test("history: everything that belongs to a publication, on every instance", (a, b) =>
      Effect.gen(function* () {
        const full: Publication = {
          data: '{"raw": 1e400,\n"tab":\t"ü🎺"}',
          json: true,
          info: { client: "c1", user: "42", connInfo: '{"a":1}', chanInfo: "[2]" },
          tags: { t: "v" }
        }
        const position = yield* a.broker.publish("x", full, { retention })
        const page = yield* read(b, "x")
        expect(page).toEqual({ ...position, publications: [{ ...full, ...position }] })
      }))

    test("history: limit, since, reverse, whole and maxBytes", (a, b) =>
      Effect.gen(function* () {
        yield* Effect.forEach(["1", "2", "3", "4", "5"], (data) => publish(a, "x", data))
        const { epoch, offset } = yield* read(b, "x", { limit: 0 })
        expect(offset).toBe(5)
        const since = (offset: number) => ({ since: { epoch, offset } })
        const some = (range: Partial<History.Range>) => Effect.map(read(b, "x", range), dataOf)
        expect(yield* some({})).toEqual(["1", "2", "3", "4", "5"])
        expect(yield* some({ limit: 2 })).toEqual(["1", "2"])
        expect(yield* some({ limit: 2, reverse: true })).toEqual(["5", "4"])
        expect(yield* some(since(3))).toEqual(["4", "5"])
        expect(yield* some({ ...since(2), limit: 2 })).toEqual(["3", "4"])
        expect(yield* some({ ...since(4), reverse: true, limit: 2 })).toEqual(["3", "2"])
        expect(yield* some({ ...since(0), reverse: true })).toEqual([])
        expect(yield* some(since(5))).toEqual([])
        expect(yield* some(since(Number.MAX_SAFE_INTEGER))).toEqual([])
        expect(yield* some({ since: { epoch: "another", offset: 0 } })).toEqual([])
        expect(yield* some({ since: { epoch: "", offset: 3 } })).toEqual(["4", "5"])
        expect(yield* some({ ...since(2), limit: 3, whole: true })).toEqual(["3", "4", "5"])
        expect(yield* some({ ...since(1), limit: 3, whole: true })).toEqual([])
        expect(yield* some({ maxBytes: 1 })).toEqual(["1"])
        expect(yield* some({ ...since(1), maxBytes: 1, whole: true })).toEqual([])
      }))

    test("history: a channel without a stream gets one, and keeps its epoch", (a, b) =>
      Effect.gen(function* () {
        const { epoch, offset } = yield* read(a, "x")
        expect(offset).toBe(0)
        expect((yield* read(b, "x")).epoch).toBe(epoch)
        expect(yield* publish(b, "x", "1")).toEqual({ epoch, offset: 1 })
      }))

    test("retention: size, and time after the last publication; the position goes on", (a, b) =>
      Effect.gen(function* () {
        const short = { ...retention, size: 2, ttl: Duration.seconds(1) }
        yield* Effect.forEach(["1", "2", "3"], (data) => publish(a, "x", data, short))
        expect(dataOf(yield* read(b, "x"))).toEqual(["2", "3"])
        const { offset } = yield* eventually(
          read(b, "x"),
          ({ publications }) => publications.length === 0,
          "they expire"
        )
        expect(offset).toBe(3)
        expect((yield* publish(b, "x", "4", short))?.offset).toBe(4)
      }))

    test("removeHistory: nothing is left, and the position goes on", (a, b) =>
      Effect.gen(function* () {
        const first = yield* publish(a, "x", "1")
        yield* b.broker.removeHistory("x")
        yield* b.broker.removeHistory("never there")
        expect(yield* read(a, "x")).toEqual({ ...first, publications: [] })
        expect(yield* publish(a, "x", "2")).toEqual({ ...first, offset: 2 })
        expect(dataOf(yield* read(b, "x"))).toEqual(["2"])
      }))

    test("positions: of hundreds of channels in one call, in the order asked", (a, b) =>
      Effect.gen(function* () {
        const kept = Array.from({ length: 300 }, (_, index) => ({ channel: `room:${index}`, retention }))
        const expected = yield* Effect.forEach(kept, ({ channel }, index) =>
          index % 3 === 0 ? Effect.succeed(undefined) : publish(a, channel, "x")
        )
        expect(yield* b.broker.positions(kept)).toEqual(expected)
        expect(yield* b.broker.positions([])).toEqual([])
      }))

    test("names that mean something elsewhere are ordinary, and never mixed up", (a, b) =>
      Effect.gen(function* () {
        const names = ["__proto__", "{x}", "x}", "x%7D", "x%257D", "{", "}", "a:b", "*", "ünï:🎺", "with space", '"']
        const positions = yield* Effect.forEach(names, (name) => publish(a, name, name))
        expect(positions.map((position) => position?.offset)).toEqual(names.map(() => 1))
        expect(yield* Effect.forEach(names, (name) => Effect.map(read(b, name), dataOf))).toEqual(
          names.map((name) => [name])
        )
      }))
  })
}

describe("Broker/Redis, streams", () => {
  const start = (redis: Redis.Redis) => instance(RedisBroker.layer(Redacted.make(redis.url)))
  const keys = RedisStreams.keys("fanfare")

  live("survive all instances", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const position = yield* Effect.scoped(Effect.flatMap(start(redis), (one) => publish(one, "x", "1")))
      const another = yield* start(redis)
      expect(yield* read(another, "x")).toMatchObject({ ...position, publications: [{ data: "1" }] })
      expect(yield* publish(another, "x", "2")).toEqual({ ...position, offset: 2 })
    })
  )

  live("of which Redis has evicted a key: without its meta a new one, without its publications none of them", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const one = yield* start(redis)
      const first = yield* publish(one, "x", "1")
      yield* redis.use((client) => client.del(keys.stream("x")))
      expect(yield* read(one, "x")).toEqual({ ...first, publications: [] })
      expect(yield* publish(one, "x", "2")).toEqual({ ...first, offset: 2 })
      yield* redis.use((client) => client.del(keys.meta("x")))
      expect(yield* one.broker.positions([{ channel: "x", retention }])).toEqual([undefined])
      const anew = yield* publish(one, "x", "3")
      expect(anew?.offset).toBe(1)
      expect(anew?.epoch).not.toBe(first?.epoch)
      expect(dataOf(yield* read(one, "x"))).toEqual(["3"])
    })
  )

  live("expire in Redis, as configured, and are kept by use", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const one = yield* start(redis)
      yield* publish(one, "x", "1")
      yield* read(one, "empty")
      const ttl = (key: string) => redis.use((client) => client.pttl(key))
      const within = (milliseconds: number, of: Duration.Duration): boolean =>
        milliseconds <= Duration.toMillis(of) && milliseconds > Duration.toMillis(of) - 20_000
      expect(within(yield* ttl(keys.stream("x")), retention.ttl)).toBe(true)
      expect(within(yield* ttl(keys.meta("x")), retention.metaTtl)).toBe(true)
      expect(within(yield* ttl(keys.meta("empty")), retention.metaTtl)).toBe(true)
      for (const channel of ["x", "empty"]) {
        yield* redis.use((client) => client.pexpire(keys.meta(channel), 60_000))
        yield* one.broker.positions([{ channel, retention }])
        expect(within(yield* ttl(keys.meta(channel)), retention.metaTtl)).toBe(true)
      }
    })
  )

  live("a read whose link is lost before the answer fails as not live, a refused one as failed", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const one = yield* start(redis)
      yield* redis.use((client) => client.set(keys.meta("wrong"), "no hash"))
      expect(yield* Effect.flip(read(one, "wrong"))).toMatchObject({ reason: "Failed" })
      yield* redis.freeze
      const reading = yield* Effect.fork(Effect.flip(read(one, "x")))
      yield* Effect.yieldNow()
      yield* redis.kill
      expect(yield* Fiber.join(reading)).toMatchObject({ reason: "NotLive" })
    })
  )

  live("are read no further than what is sent: a short page of a long stream costs Redis little", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const one = yield* start(redis)
      const long = { ...retention, size: 300 }
      yield* Effect.forEach(Array.from({ length: 300 }), () => publish(one, "x", "x".repeat(60_000), long), {
        concurrency: 16
      })
      /** How many times a script has asked for a part of a stream. */
      const calls = (command: string) =>
        Effect.map(
          redis.use((client) => client.info("commandstats")),
          (info) => Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(info)?.[1] ?? 0)
        )
      const range = { limit: 300, maxBytes: 1024 * 1024 }
      const { epoch } = yield* read(one, "x", { limit: 0 })
      const page = yield* read(one, "x", range)
      expect(dataOf(page).length).toBe(17)
      // Sixteen entries at a time: two parts, of nineteen.
      expect(yield* calls("xrange")).toBe(2)
      expect((yield* read(one, "x", { ...range, since: { epoch, offset: 0 }, whole: true })).publications).toEqual([])
      expect(yield* calls("xrange")).toBe(4)
      const reverse = yield* read(one, "x", { ...range, reverse: true })
      expect(reverse.publications.map(({ offset }) => offset)).toEqual(Array.from({ length: 17 }, (_, i) => 300 - i))
      expect(yield* calls("xrevrange")).toBe(2)
    })
  )

  live("whose key holds something else: the publish is refused, and nothing is changed or heard", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const one = yield* start(redis)
      yield* one.broker.subscribe("x")
      const first = yield* publish(one, "x", "1")
      yield* redis.use(async (client) => {
        await client.rename(keys.stream("x"), "aside")
        await client.set(keys.stream("x"), "something else")
      })
      expect(yield* Effect.flip(publish(one, "x", "refused"))).toMatchObject({ reason: "Failed" })
      yield* redis.use((client) => client.rename("aside", keys.stream("x")))
      expect(yield* publish(one, "x", "2")).toEqual({ ...first, offset: 2 })
      yield* one.hears(2)
      expect(one.heard.map(([, { data }]) => data)).toEqual(["1", "2"])
    })
  )
})
