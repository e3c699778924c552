/** `history_remove` on several instances that remember what was read: nobody recovers what was removed. */
import { describe, expect } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as RedisStreams from "../src/Broker/RedisStreams.ts"
import * as Cluster from "../src/Cluster.ts"
import { REPLIES, ID } from "./fixtures/control-v1.ts"
import * as Api from "./support/api.ts"
import { playInstance } from "./support/control.ts"
import { channel, raw } from "./support/history.ts"
import { live } from "./support/it.ts"
import { call, fill } from "./support/methods.ts"
import * as Redis from "./support/redis.ts"
import * as Server from "./support/server.ts"
import { eventually } from "./support/wait.ts"

/** Its seconds do not pass, so that nothing is forgotten because of its age. */
const still = Layer.suspend(() => {
  const base = Clock.make()
  const now = base.unsafeCurrentTimeNanos()
  const clock = Object.assign(Object.create(base) as Clock.Clock, {
    unsafeCurrentTimeNanos: () => now,
    currentTimeNanos: Effect.succeed(now)
  })
  return Layer.setClock(clock)
})

const NAME = "kept:a"

const startOn = (redis: Redis.Redis) =>
  Server.start({ config: { ...Api.keyed, redis_url: redis.url, channel }, layer: still })

/** A channel with five publications and a subscriber on an instance; `comes`: what somebody else there recovers. */
const inUse = (server: Server.Running) =>
  Effect.gen(function* () {
    const { ask } = yield* raw(server)
    const { subscribe } = yield* ask("subscribe", { channel: NAME })
    const epoch: string = subscribe.epoch
    const comes = (offset: number) =>
      Effect.scoped(
        Effect.gen(function* () {
          const { ask } = yield* raw(server)
          const { subscribe } = yield* ask("subscribe", { channel: NAME, recover: true, epoch, offset })
          const publications: ReadonlyArray<{ readonly data: number }> = subscribe.publications ?? []
          return [subscribe.recovered ?? false, publications.map(({ data }) => data)]
        })
      )
    return { comes }
  })

const ALL = [true, [3, 4, 5]]
const NONE = [false, []]

describe("history_remove", () => {
  live("both instances remember what was read, and have forgotten it when the one that was asked answers", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const servers = [yield* startOn(redis), yield* startOn(redis)] as const
      const [asked] = servers
      yield* fill(asked, NAME, 5)
      const uses = yield* Effect.forEach(servers, inUse)
      for (const { comes } of uses) expect(yield* comes(2)).toEqual(ALL)
      // Behind everybody's back: it is not in Redis any more, and remembered all the same.
      const removed = yield* redis.use((client) => client.del(RedisStreams.keys("fanfare").stream(NAME)))
      expect(removed).toBe(1)
      for (const { comes } of uses) expect(yield* comes(2)).toEqual(ALL)

      expect(yield* call(asked, "history_remove", { channel: NAME })).toEqual({ result: {} })
      for (const { comes } of uses) {
        expect(yield* comes(2)).toEqual(NONE)
        // Nobody's position becomes wrong.
        expect(yield* comes(5)).toEqual([true, []])
      }
      yield* asked.publisher.publish(NAME, 6)
      for (const { comes } of uses) expect([yield* comes(5), yield* comes(2)]).toEqual([[true, [6]], NONE])
    })
  )

  live("answers once the publications are gone, and every instance has confirmed that it has forgotten them", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const server = yield* startOn(redis)
      const peer = yield* playInstance(redis)
      yield* fill(server, NAME, 5)
      const length = redis.use((client) => client.exists(RedisStreams.keys("fanfare").stream(NAME)))
      expect(yield* length).toBe(1)
      const answer = yield* Effect.fork(call(server, "history_remove", { channel: NAME }))
      const request = yield* peer.isAsked("forget")
      expect([request.ask, yield* length, yield* Fiber.poll(answer)]).toMatchObject([
        { type: "forget", channel: NAME },
        0,
        { _tag: "None" }
      ])
      yield* peer.say(REPLIES.done.text.replace(ID, request.id ?? ""), request.from)
      expect(yield* Fiber.join(answer)).toEqual({ result: {} })
    })
  )

  live("that is refused, or not done, asks nobody to forget", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const server = yield* startOn(redis)
      const peer = yield* playInstance(redis)
      expect(yield* call(server, "history_remove", { channel: "bare:a" })).toMatchObject({ error: { code: 108 } })
      yield* server.cluster.nodes
      expect(peer.heard.map(({ ask }) => ask?.type)).toEqual(["info"])
    })
  )

  live("where nobody can be asked, the time is waited for in which everybody has forgotten by themselves", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const server = yield* Server.start({ config: { redis_url: redis.url, channel } })
      yield* redis.kill
      yield* eventually(server.broker.state.get, ({ _tag }) => _tag === "Degraded", "the link is lost")
      const [took] = yield* Effect.timed(server.cluster.forget(NAME))
      expect(Duration.toMillis(took)).toBeGreaterThan(Duration.toMillis(Cluster.REPLY_TIMEOUT) - 50)
      const alone = yield* Server.start({ config: { channel } })
      const [none] = yield* Effect.timed(alone.cluster.forget(NAME))
      expect(Duration.toMillis(none)).toBeLessThan(700)
    })
  )
})
