/** What Redis refuses while the link is live: in the log, the metrics and the server API, with Redis's words. */
import { describe, expect, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as TestClock from "effect/TestClock"
import * as Refusals from "../src/Broker/Refusals.ts"
import * as RedisStreams from "../src/Broker/RedisStreams.ts"
import { replyError } from "../src/internal/redisReply.ts"
import * as Metrics from "../src/Metrics.ts"
import * as Api from "./support/api.ts"
import { channel, raw } from "./support/history.ts"
import { live } from "./support/it.ts"
import * as People from "./support/people.ts"
import * as Redis from "./support/redis.ts"
import * as Link from "./support/redisLink.ts"
import * as Server from "./support/server.ts"
import { eventually } from "./support/wait.ts"

const PUBLICATION = { data: "1", json: true }
const retention = { size: 10, ttl: Duration.minutes(1), metaTtl: Duration.minutes(1) }

/** A Redis with a user `app` that may do everything but some commands, in some channels. */
const limited = (channels: string, ...without: ReadonlyArray<string>) =>
  Effect.map(
    Redis.start([
      ...`--user default on nopass ~* &* +@all --user app on >pw ~* ${channels} +@all`.split(" "),
      ...without.map((command) => `-${command}`)
    ]),
    (redis) => ({ redis, url: `redis://app:pw@127.0.0.1:${redis.port}` })
  )

const OOM = "OOM command not allowed when used memory > 'maxmemory'."

describe("OOM under noeviction", () => {
  live(
    "is in the answer of the server API, in one warning and in the counter; clients get 100, and it stays live",
    () =>
      Effect.gen(function* () {
        const redis = yield* Redis.start()
        const server = yield* Server.start({ config: { redis_url: redis.url, channel, ...Api.keyed } })
        const api = yield* Api.make(server.http)
        const { ask, socket } = yield* raw(server)
        yield* redis.use((client) => client.config("SET", "maxmemory", "1"))

        const { body } = yield* api.call("publish", { channel: "kept:x", data: 1 })
        expect(body).toEqual({ error: { code: 100, message: expect.stringContaining(OOM) } })
        const reply = yield* ask("publish", { channel: "kept:x", data: 1 })
        expect(reply["error"]).toEqual({ code: 100, message: "internal server error", temporary: true })
        expect(socket.received.join()).not.toContain("OOM")
        const batch = yield* api.call("broadcast", { channels: ["kept:y", "bare:x"], data: 1 })
        expect(JSON.stringify(batch.body)).toContain(OOM)

        const about = server.logs.filter((line) => line.includes("OOM") && !line.startsWith("DEBUG"))
        expect(about).toEqual([`WARN redis at 127.0.0.1:${redis.port} refuses to publish "kept:x": ${OOM}`])
        expect(server.metrics.brokerRefusals("oom").value).toBe(3)
        expect((yield* server.broker.state.get)._tag).toBe("Live")
        expect(yield* api.result("publish", { channel: "bare:x", data: 1 })).toEqual({})
      })
  )
})

describe("NOPERM", () => {
  live(
    "for what a script does, for a command, and for some of what goes out together: each is counted, one is logged",
    () =>
      Effect.gen(function* () {
        const { url } = yield* limited("&fanfare:pub:open*", "xadd", "del")
        const one = yield* Link.start(url)
        yield* one.becomes("Live")
        const kept = yield* Effect.flip(one.broker.publish("kept", PUBLICATION, { retention }))
        expect(kept).toMatchObject({ reason: "Failed" })
        expect(kept.message).toMatch(/^publish "kept": Failed \(.*(NOPERM|can't run this command)/)
        expect((yield* Effect.flip(one.broker.removeHistory("kept"))).message).toMatch(/NOPERM .*'del'/)
        const together = yield* Effect.all(
          ["open1", "shut", "open2", "closed"].map((name) => Effect.either(one.broker.publish(name, PUBLICATION))),
          { concurrency: "unbounded" }
        )
        expect(together.map(({ _tag }) => _tag)).toEqual(["Right", "Left", "Right", "Left"])
        expect(one.metrics.brokerRefusals("noperm").value).toBe(4)
        expect(one.lines("WARN").length).toBe(1)
        expect((yield* one.broker.state.get)._tag).toBe("Live")
      })
  )

  live("for a channel that somebody subscribes to", () =>
    Effect.gen(function* () {
      const { url } = yield* limited("&fanfare:pub:open*")
      const one = yield* Link.start(url)
      yield* one.becomes("Live")
      yield* one.broker.subscribe("open")
      expect((yield* Effect.flip(one.broker.subscribe("shut"))).message).toMatch(/^subscribe "shut": Failed \(NOPERM /)
      expect(one.metrics.brokerRefusals("noperm").value).toBe(1)
      expect(one.lines("WARN")).toEqual([expect.stringMatching(/refuses to subscribe "fanfare:pub:shut": NOPERM /)])
      expect(one.metrics.brokerLinkLosses.value).toBe(0)
    })
  )
})

describe("a key of another kind", () => {
  live("WRONGTYPE is logged beside OOM: each kind has its line", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const one = yield* Link.start(redis.url)
      yield* one.becomes("Live")
      yield* redis.use((client) => client.set(RedisStreams.keys("fanfare").meta("kept"), "no hash"))
      for (let round = 0; round < 3; round++) {
        yield* Effect.flip(one.broker.publish("kept", PUBLICATION, { retention }))
        yield* Effect.flip(
          one.broker.positions([{ channel: "kept", retention }]).pipe(Effect.flatMap(([top]) => Effect.fail(top)))
        )
      }
      yield* redis.use((client) => client.config("SET", "maxmemory", "1"))
      yield* Effect.flip(one.broker.publish("other", PUBLICATION, { retention }))
      expect(one.lines("WARN").map((line) => / ([A-Z]+) /.exec(line.slice(5))?.[1])).toEqual(["WRONGTYPE", "OOM"])
      expect(one.metrics.brokerRefusals("wrongtype").value).toBe(3)
    })
  )
})

describe("presence", () => {
  live("that Redis refuses to refresh is counted and logged like all else, in one line", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const server = yield* People.start({
        redis_url: redis.url,
        client: { presence_update_interval: "100ms" }
      })
      const ada = yield* People.connect(server, { user: "ada" })
      yield* ada.ask("subscribe", { channel: "room:a" })
      const [entries, expiries, users] = RedisStreams.keys("fanfare").presence("room:a")
      // All three at once, and none that expires: else the next refresh would put it right.
      yield* redis.use((client) => client.mset(entries, "no hash", expiries, "no sorted set", users, "no hash"))
      yield* eventually(
        Effect.sync(() => server.metrics.brokerRefusals("wrongtype").value),
        (count) => count >= 3,
        "three rounds"
      )
      expect(server.logs.filter((line) => line.startsWith("WARN"))).toEqual([
        expect.stringMatching(/refuses to refresh who is in "room:a": WRONGTYPE /)
      ])
    })
  )
})

describe("Refusals", () => {
  const setup = Effect.gen(function* () {
    const logs: Array<string> = []
    const logger = Logger.make(({ message }) => void logs.push(String(message)))
    // Without what samples the event loop, for the sake of the clock of the test.
    const layer = Layer.merge(Layer.sync(Metrics.Metrics, Metrics.make), Logger.replace(Logger.defaultLogger, logger))
    const context = yield* Layer.build(layer)
    const { refused } = yield* Effect.provide(
      Refusals.make("here"),
      Layer.merge(Layer.succeedContext(context), Logger.replace(Logger.defaultLogger, logger))
    )
    return { logs, metrics: Context.get(context, Metrics.Metrics), refused }
  })

  it.scoped("have a line a minute for each kind, which says how many there were in between", () =>
    Effect.gen(function* () {
      const { logs, metrics, refused } = yield* setup
      const oom = replyError(OOM)
      for (let index = 0; index < 1000; index++) refused('publish "a"', oom, 1)
      refused("publish", replyError("MISCONF no disk"), 256)
      yield* TestClock.adjust("59 seconds")
      refused("publish", oom, 5)
      yield* TestClock.adjust("1 second")
      refused("publish", oom, 1)
      yield* TestClock.adjust("2 minutes")
      refused("publish", oom, 1)
      yield* Effect.yieldNow()
      expect(logs).toEqual([
        `redis at here refuses to publish "a": ${OOM}`,
        "redis at here refuses to publish: MISCONF no disk",
        `redis at here refuses to publish: ${OOM}; 1004 more since the last such line`,
        `redis at here refuses to publish: ${OOM}`
      ])
      expect([metrics.brokerRefusals("oom").value, metrics.brokerRefusals("misconf").value]).toEqual([1007, 256])
    })
  )

  it.scoped("that end a link, or make it wait, are counted: the link has a line of its own", () =>
    Effect.gen(function* () {
      const { logs, metrics, refused } = yield* setup
      for (const words of ["READONLY a", "LOADING b", "MOVED 1 c"]) refused("publish", replyError(words), 1)
      yield* Effect.yieldNow()
      expect(logs).toEqual([])
      expect(["readonly", "loading", "moved"].map((kind) => metrics.brokerRefusals(kind).value)).toEqual([1, 1, 1])
    })
  )

  it("are of few kinds: whatever else Redis says is `other`, and what has no code `err`", () => {
    expect(
      ["NOREPLICAS a", "VERYNEW b", "no code", "ERR c"].map((words) => Refusals.kindOf(replyError(words)))
    ).toEqual(["noreplicas", "other", "err", "err"])
  })
})
