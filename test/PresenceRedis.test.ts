import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { BrokerError } from "../src/Broker.ts"
import { EXPIRED_CHUNK } from "../src/Presence/RedisEntries.ts"
import { live } from "./support/it.ts"
import {
  addMany,
  becomes,
  clientsOf,
  empty,
  info,
  instance,
  isConsistent,
  keys,
  present,
  remaining,
  renewed,
  type Run,
  statsBecome,
  stored
} from "./support/presence.ts"
import * as Proxy from "./support/proxy.ts"
import * as Redis from "./support/redis.ts"
import { eventually } from "./support/wait.ts"

const SHORT = "500ms"

const config = (redis: Redis.Redis, key: string, value: string) =>
  redis.use((client) => client.config("SET", key, value))

describe("Presence/Redis: an instance that is gone", () => {
  live("expires within two intervals, with its users; those of others stay", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const a = yield* instance(redis, { interval: SHORT })
      const b = yield* instance(redis, { interval: SHORT })
      yield* addMany(a, "x", "a", 200, "both")
      yield* addMany(b, "x", "b", 300, "both")
      yield* addMany(b, "x", "c", 10)
      yield* addMany(b, "y", "b", 3)
      expect(yield* a.presence.stats("x")).toEqual({ clients: 510, users: 2 })
      yield* b.crash
      expect(yield* remaining(redis, "y")).toBeLessThanOrEqual(1000)
      yield* statsBecome(a, "x", 200, 1)
      yield* statsBecome(a, "y", 0, 0)
      expect((yield* clientsOf(a, "x")).every((client) => client.startsWith("a"))).toBe(true)
      yield* renewed(redis, "x", "a0", 3)
      expect(yield* a.presence.stats("x")).toEqual({ clients: 200, users: 1 })
      yield* isConsistent(redis, "x")
    })
  )

  live("leaves no key behind where it was alone, though nobody looks; neither does one whose clients have left", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const a = yield* instance(redis)
      yield* addMany(a, "x", "a", 20)
      yield* Effect.forEach(Array.from({ length: 20 }), (_, index) => a.presence.remove("x", `a${index}`))
      expect(yield* redis.use((client) => client.dbsize())).toBe(0)
      const b = yield* instance(redis, { interval: SHORT })
      yield* addMany(b, "x", "b", 20)
      yield* addMany(b, "y", "b", 20)
      expect(yield* redis.use((client) => client.dbsize())).toBe(6)
      yield* b.crash
      yield* empty(redis)
    })
  )

  live("is there again once its link is back, after one that was silent for long", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const proxy = yield* Proxy.start(() => redis.port)
      const a = yield* instance(redis, { interval: SHORT })
      const b = yield* instance(proxy, { interval: SHORT })
      yield* addMany(a, "x", "a", 2)
      yield* addMany(b, "x", "b", 2)
      yield* proxy.silence
      yield* statsBecome(a, "x", 2, 1)
      yield* statsBecome(a, "x", 4, 2)
      yield* isConsistent(redis, "x")
    })
  )

  live("with a shorter interval does not take the keys of the others along", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const a = yield* instance(redis)
      const b = yield* instance(redis, { interval: SHORT })
      yield* addMany(a, "x", "a", 2)
      yield* addMany(b, "x", "b", 2)
      const ends = yield* redis.use((client) => Promise.all(keys.presence("x").map((key) => client.pexpiretime(key))))
      expect(new Set(ends).size).toBe(1)
      expect((ends[0] ?? 0) - Date.now()).toBeGreaterThan(60_000)
      yield* b.crash
      yield* statsBecome(a, "x", 2, 1)
    })
  )
})

describe("Presence/Redis: what has expired", () => {
  /** The commands that Redis runs, also those of scripts, each with its arguments. */
  const monitored = (redis: Redis.Redis) =>
    Effect.gen(function* () {
      const client = yield* Redis.client(redis)
      const monitor = yield* Effect.acquireRelease(
        Effect.promise(() => client.monitor()),
        (one) => Effect.sync(() => one.disconnect())
      )
      const commands: Array<ReadonlyArray<string>> = []
      monitor.on("monitor", (_: string, command: ReadonlyArray<string>) => commands.push(command))
      return commands
    })

  live("is taken out a part at a time, by whoever comes by; a reader waits until all of it is out", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const a = yield* instance(redis)
      const b = yield* instance(redis)
      yield* addMany(a, "x", "a", 5000, "both")
      yield* addMany(b, "x", "b", 3, "both")
      // From now on Redis knows the scripts by their digests.
      yield* b.presence.remove("x", "nobody")
      yield* b.presence.stats("x")
      yield* a.crash
      // As if two minutes had passed since.
      yield* redis.use((client) =>
        client.zadd(keys.presence("x")[1], ...Array.from({ length: 5000 }, (_, index) => ["1", `a${index}`]).flat())
      )
      const commands = yield* monitored(redis)
      const left = redis.use((client) => client.hlen(keys.presence("x")[0]))
      const chunk = EXPIRED_CHUNK
      yield* b.presence.add("x", info("b3", "both"))
      expect(yield* left).toBe(5004 - chunk)
      yield* b.presence.remove("x", "b3")
      expect(yield* left).toBe(5003 - 2 * chunk)
      yield* isConsistent(redis, "x")
      expect(yield* b.presence.stats("x")).toEqual({ clients: 3, users: 1 })
      expect(yield* left).toBe(3)
      yield* isConsistent(redis, "x")

      yield* eventually(
        Effect.sync(() => commands.filter(([name]) => name === "ZCARD").length),
        (count) => count > 0,
        "the monitor has seen all"
      )
      const taken = commands.filter(([name]) => name === "HDEL").map((command) => command.length - 2)
      expect(Math.max(...taken)).toBe(chunk)
      expect(taken.reduce((sum, count) => sum + count, 0)).toBe(5001)
      expect(commands.filter(([name]) => name === "evalsha").length).toBe(2 + Math.ceil((5000 - 2 * chunk + 1) / chunk))
    })
  )

  live("and is entered, removed or listed counts right", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const a = yield* instance(redis)
      const expire = (...clients: ReadonlyArray<string>) =>
        redis.use((client) => client.zadd(keys.presence("x")[1], ...clients.flatMap((one) => ["1", one])))
      yield* addMany(a, "x", "a", 4, "ann")
      const renew = (user: string) => a.presence.add("x", info("a0", user))
      const remove = (client: string) => a.presence.remove("x", client)
      for (const [expired, doing, left] of [
        [["a0"], renew("ann"), ["ann", "ann", "ann", "ann"]],
        [["a0"], renew("bob"), ["bob", "ann", "ann", "ann"]],
        [["a0", "a1"], renew("ann"), ["ann", "ann", "ann"]],
        [["a0", "a2"], remove("a0"), ["ann"]],
        [["a3"], remove("a2"), []]
      ] as const) {
        yield* expire(...expired)
        yield* doing
        expect((yield* present(a, "x")).map(({ user }) => user)).toEqual(left)
        expect(yield* a.presence.stats("x")).toEqual({ clients: left.length, users: new Set(left).size })
        yield* isConsistent(redis, "x")
      }
    })
  )
})

describe("Presence/Redis: Redis", () => {
  live("restarted empty: everybody is there again once the link is back", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const a = yield* instance(redis, { interval: "1h" })
      const b = yield* instance(redis, { interval: "1h" })
      yield* addMany(a, "x", "a", 300)
      yield* addMany(b, "x", "b", 300)
      yield* Effect.forEach(Array.from({ length: 300 }), (_, index) => addMany(a, `room ${index}`, "a", 1))
      yield* redis.kill
      yield* becomes(a.broker, "Degraded")
      yield* becomes(b.broker, "Degraded")
      yield* a.presence.remove("x", "a0")
      yield* redis.start
      yield* becomes(a.broker, "Live")
      yield* becomes(b.broker, "Live")
      yield* statsBecome(a, "x", 599, 2)
      for (const channel of ["room 0", "room 299"]) yield* statsBecome(b, channel, 1, 1)
      yield* isConsistent(redis, "x")
    })
  )

  live("away: add fails at once, remove returns, and neither leaves a ghost behind", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const a = yield* instance(redis, { interval: SHORT })
      yield* addMany(a, "x", "a", 3)
      yield* redis.freeze
      yield* becomes(a.broker, "Degraded")
      const before = Date.now()
      for (const failing of [
        a.presence.add("x", info("late")),
        a.presence.add("x", info("a2", "other")),
        a.presence.list("x", 1000),
        a.presence.stats("x")
      ]) {
        expect(yield* Effect.flip<unknown, unknown, never>(failing)).toMatchObject({ reason: "NotLive", channel: "x" })
      }
      yield* a.presence.remove("x", "a0")
      expect(Date.now() - before).toBeLessThan(500)
      yield* redis.thaw
      yield* becomes(a.broker, "Live")
      yield* statsBecome(a, "x", 2, 1)
      yield* renewed(redis, "x", "a2", 3)
      expect(yield* present(a, "x")).toEqual([info("a1", "a"), info("a2", "a")])
    })
  )

  live("that lost the removal keeps who has left for two intervals at most, and the others", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      let isCut = false
      const through =
        (run: Run): Run =>
        (channel, what, changes, command) =>
          isCut
            ? Effect.fail(new BrokerError({ reason: "NotLive", channel, message: "cut" }))
            : run(channel, what, changes, command)
      const a = yield* instance(redis, { interval: "1s", through })
      yield* addMany(a, "x", "a", 2)
      isCut = true
      yield* a.presence.remove("x", "a0")
      isCut = false
      expect(yield* a.presence.stats("x")).toEqual({ clients: 2, users: 1 })
      expect(yield* remaining(redis, "x")).toBeLessThanOrEqual(2000)
      yield* statsBecome(a, "x", 1, 1)
      yield* renewed(redis, "x", "a1", 2)
      expect(yield* clientsOf(a, "x")).toEqual(["a1"])
    })
  )

  live("full: what is new or changed is refused as a whole, what is there is kept and can leave", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const a = yield* instance(redis, { interval: SHORT })
      const b = yield* instance(redis, { interval: SHORT })
      yield* addMany(a, "x", "a", 4, "ann")
      yield* addMany(b, "x", "b", 1, "bob")
      yield* config(redis, "maxmemory", "1")
      // Taken out by another: its own instance enters it again, once that is possible.
      yield* b.presence.remove("x", "a3")
      for (const one of [info("a0", "other"), info("a0", "ann", { connInfo: "1" }), info("new")]) {
        expect(yield* Effect.flip(a.presence.add("x", one))).toMatchObject({ reason: "Failed" })
        yield* isConsistent(redis, "x")
      }
      yield* a.presence.add("x", info("a0", "ann"))
      yield* a.presence.remove("x", "a1")
      yield* renewed(redis, "x", "a2", 4)
      expect(yield* present(b, "x")).toEqual([info("a0", "ann"), info("a2", "ann"), info("b0", "bob")])
      expect(yield* b.presence.stats("x")).toEqual({ clients: 3, users: 2 })
      yield* isConsistent(redis, "x")
      // What has expired is taken out all the same, and makes no way for what is refused.
      yield* b.crash
      yield* redis.use((client) =>
        client.eval('redis.call("ZREM", KEYS[1], "") redis.call("ZADD", KEYS[1], 1, "b0")', 1, keys.presence("x")[1])
      )
      expect(yield* Effect.flip(a.presence.add("x", info("new")))).toMatchObject({ reason: "Failed" })
      expect((yield* stored(redis, "x")).entries.size).toBe(2)
      yield* isConsistent(redis, "x")
      yield* config(redis, "maxmemory", "0")
      yield* statsBecome(a, "x", 3, 1)
      yield* isConsistent(redis, "x")
    })
  )

  live("that has evicted a key: what is left of the channel goes too, and everybody is entered again", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const a = yield* instance(redis, { interval: SHORT })
      yield* addMany(a, "x", "a", 3)
      for (const key of keys.presence("x")) {
        yield* redis.use((client) => client.del(key))
        yield* statsBecome(a, "x", 3, 1)
        yield* isConsistent(redis, "x")
      }
    })
  )

  live("holds entries of a later version: they are counted, and not listed", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const a = yield* instance(redis)
      yield* addMany(a, "x", "a", 2, "ann")
      const [entries, expiries, users] = keys.presence("x")
      yield* redis.use(async (client) => {
        await client.hset(entries, "later", '{"v":2,"connInfo":[]}\nbob', "unreadable", "?")
        await client.zadd(expiries, Date.now() + 60_000, "later", Date.now() + 60_000, "unreadable")
        await client.hset(users, "bob", 1, "", 1)
      })
      expect(yield* present(a, "x")).toEqual([info("a0", "ann"), info("a1", "ann")])
      expect(yield* a.presence.stats("x")).toEqual({ clients: 4, users: 3 })
      yield* a.presence.remove("x", "later")
      yield* a.presence.remove("x", "unreadable")
      expect(yield* a.presence.stats("x")).toEqual({ clients: 2, users: 1 })
      yield* isConsistent(redis, "x")
    })
  )
})
