/** Publishes of one turn, with a real Redis. */
import { describe, expect } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as Broker from "../src/Broker.ts"
import * as InFlight from "../src/Broker/InFlight.ts"
import * as RedisBroker from "../src/Broker/Redis.ts"
import * as Metrics from "../src/Metrics.ts"
import * as ServerConfig from "../src/ServerConfig.ts"
import { type Instance, instance } from "./support/broker.ts"
import { live } from "./support/it.ts"
import * as Redis from "./support/redis.ts"
import { eventually, Watched } from "./support/wait.ts"

describe("Broker/Redis, many publishes in one turn", () => {
  const start = (url: string) => instance(RedisBroker.layer(Redacted.make(url)))
  /** How often Redis has carried out a command; the probe of a link is an EVAL, too. */
  const calls = (server: Redis.Redis, command: string) =>
    Effect.map(
      server.use((client) => client.info("commandstats")),
      (info) => Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(info)?.[1] ?? 0)
    )
  const publish = ({ broker }: Instance, channel: string, data: string) =>
    Effect.match(broker.publish(channel, { data, json: false }), {
      onFailure: ({ reason, message, cause }) => `${reason} ${message} ${String(cause)}`,
      onSuccess: () => "accepted"
    })

  live("are few commands, and heard in order", () =>
    Effect.gen(function* () {
      const server = yield* Redis.start()
      const [one, other] = [yield* start(server.url), yield* start(server.url)]
      for (const channel of ["x", "y"]) yield* other.broker.subscribe(channel)
      const before = yield* calls(server, "eval")
      const channelOf = (index: number): string => (index % 3 === 0 ? "x" : "y")
      const results = yield* Effect.forEach(
        Array.from({ length: 1100 }, (_, index) => index),
        (index) => publish(one, channelOf(index), String(index)),
        { concurrency: "unbounded" }
      )
      expect(new Set(results)).toEqual(new Set(["accepted"]))
      yield* other.hears(1100)
      expect(other.heard.map(([channel, { data }]) => [channel, data])).toEqual(
        Array.from({ length: 1100 }, (_, index) => [channelOf(index), String(index)])
      )
      // 256 in each; the fibers may not all have begun in one turn.
      expect((yield* calls(server, "eval")) - before).toBeGreaterThanOrEqual(5)
      expect((yield* calls(server, "eval")) - before).toBeLessThan(20)
      expect(yield* calls(server, "publish")).toBe(1100)
    })
  )

  live("of which Redis refuses some: those fail, and the others are heard", () =>
    Effect.gen(function* () {
      const server = yield* Redis.start()
      yield* server.use((client) =>
        client.call("ACL", "SETUSER", "wary", "on", ">secret", "~fanfare:*", "&fanfare:pub:open*", "+@all")
      )
      const one = yield* start(server.url.replace("redis://", "redis://wary:secret@"))
      yield* one.broker.subscribe("open")
      const before = yield* calls(server, "eval")
      const results = yield* Effect.all(
        [publish(one, "open", "1"), publish(one, "closed", "2"), publish(one, "open", "3"), publish(one, "shut", "4")],
        { concurrency: "unbounded" }
      )
      yield* one.hears(2)
      expect(one.heard.map(([, { data }]) => data)).toEqual(["1", "3"])
      expect([results[0], results[2]]).toEqual(["accepted", "accepted"])
      expect(results[1]).toMatch(/^Failed publish "closed": Failed .*(NOPERM|can't publish)/)
      expect(results[3]).toMatch(/^Failed publish "shut": Failed .*(NOPERM|can't publish)/)
      expect((yield* calls(server, "eval")) - before).toBe(1)
      // One alone goes another way, and is refused as well.
      expect(yield* publish(one, "closed", "5")).toMatch(/^Failed publish "closed": Failed .*NOPERM/)
    })
  )

  live("that takes longer than an answer may: all are sent, and heard", () =>
    Effect.gen(function* () {
      const server = yield* Redis.start()
      const one = yield* start(server.url)
      yield* one.broker.subscribe("x")
      const first = yield* Effect.fork(publish(one, "x", "first"))
      yield* Effect.yieldNow()
      const last = yield* Effect.fork(
        Effect.suspend(() => {
          const end = performance.now() + Duration.toMillis(InFlight.DEADLINE) + 100
          while (performance.now() < end);
          return publish(one, "x", "last")
        })
      )
      expect(yield* Fiber.join(Fiber.zip(first, last))).toEqual(["accepted", "accepted"])
      yield* one.hears(2)
      expect(one.heard.map(([, { data }]) => data)).toEqual(["first", "last"])
    })
  )

  live("the last one of an instance: they go out before its link is closed", () =>
    Effect.gen(function* () {
      const server = yield* Redis.start()
      const other = yield* start(server.url)
      yield* other.broker.subscribe("x")
      const scope = yield* Scope.make()
      const one = yield* Scope.extend(start(server.url), scope)
      const told: Array<string> = []
      for (const data of ["1", "2"]) {
        const done = (result: Exit.Exit<unknown, unknown>): void => void told.push(result._tag)
        one.broker.unsafePublish("x", { data, json: true }, {}, { sent: () => undefined, done })
      }
      yield* Scope.close(scope, Exit.void)
      expect(told).toEqual(["Success", "Success"])
      yield* other.hears(2)
    })
  )

  live("are heard before a control message of the same turn", () =>
    Effect.gen(function* () {
      const server = yield* Redis.start()
      const [one, other] = [yield* start(server.url), yield* start(server.url)]
      yield* other.broker.subscribe("x")
      /** How many publications were before each control message. */
      const before: Array<number> = []
      const watched = new Watched()
      yield* other.broker.listenControl("other", () => {
        before.push(other.heard.length)
        watched.changed()
      })
      yield* Effect.repeat(one.broker.sendControl("are you there?"), { until: (instances) => instances > 0 })
      yield* watched.until(
        () => before.length === 1,
        () => "a control message"
      )
      const evals = yield* calls(server, "eval")
      yield* Effect.all([publish(one, "x", "1"), publish(one, "x", "2"), one.broker.sendControl("now")], {
        concurrency: "unbounded"
      })
      yield* watched.until(
        () => before.length === 2,
        () => "another one"
      )
      expect(before).toEqual([0, 2])
      expect((yield* calls(server, "eval")) - evals).toBe(1)
    })
  )

  live("that are on their way when the link breaks: each fails, and does not count against the next ones", () =>
    Effect.gen(function* () {
      const server = yield* Redis.start()
      const one = yield* start(server.url)
      const told: Array<string> = []
      const watched = new Watched()
      const publishMany = (count: number) => {
        for (let index = 0; index < count; index++) {
          one.broker.unsafePublish(
            "x",
            { data: "1", json: true },
            {},
            {
              sent: () => undefined,
              done: (result) => {
                const { cause } = result._tag === "Failure" ? result : { cause: undefined }
                told.push(cause?._tag === "Fail" ? cause.error.reason : "accepted")
                watched.changed()
              }
            }
          )
        }
        return Effect.map(
          watched.until(
            () => told.length === count,
            () => `${count} are told; ${told.length} are`
          ),
          () => new Set(told.splice(0))
        )
      }
      yield* server.freeze
      const publishing = yield* Effect.fork(publishMany(1000))
      yield* Effect.yieldNow()
      yield* server.kill
      expect(yield* Fiber.join(publishing)).toEqual(new Set(["Failed"]))
      yield* server.start
      yield* eventually(Broker.isLive(one.broker), (isLive) => isLive, "the link is back")
      // As many as there may be on their way.
      expect(yield* publishMany(16_384)).not.toContain("Overloaded")
      expect(yield* publish(one, "x", "2")).toBe("accepted")
    })
  )

  live("by a user who may not use scripts: the link does not open, and the log says why", () =>
    Effect.gen(function* () {
      const server = yield* Redis.start()
      yield* server.use((client) =>
        client.call("ACL", "SETUSER", "wary", "on", ">secret", "~fanfare:*", "&fanfare:*", "+@all", "-eval")
      )
      const layer = RedisBroker.layer(Redacted.make(server.url.replace("redis://", "redis://wary:secret@")))
      const context = yield* Layer.build(
        layer.pipe(Layer.provide(Metrics.layer), Layer.provide(ServerConfig.layer({})))
      )
      const broker = Context.get(context, Broker.Broker)
      yield* eventually(
        SubscriptionRef.get(broker.state),
        (state) => state._tag === "Degraded" && /NOPERM.*eval/.test(state.cause),
        "the broker says what is not permitted"
      )
    })
  )
})
