import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { BrokerError } from "../src/Broker.ts"
import { live } from "./support/it.ts"
import {
  addMany,
  clientsOf,
  info,
  instance,
  isConsistent,
  keys,
  present,
  renewed,
  type Run,
  statsBecome
} from "./support/presence.ts"
import * as Redis from "./support/redis.ts"
import { eventually } from "./support/wait.ts"

describe("Presence/Redis: on its link", () => {
  live("an add without an answer is taken back, to what was there before; one that has left meanwhile stays away", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      let isLost = false
      const through =
        (run: Run): Run =>
        (channel, what, changes, command) =>
          isLost && what === "enter"
            ? Effect.zipRight(
                run(channel, what, changes, command),
                Effect.fail(new BrokerError({ reason: "Timeout", channel, message: "the answer is lost" }))
              )
            : run(channel, what, changes, command)
      const a = yield* instance(redis, { through })
      yield* a.presence.add("x", info("a0", "ann"))
      isLost = true
      expect(yield* Effect.flip(a.presence.add("x", info("a0", "other")))).toMatchObject({ reason: "Timeout" })
      expect(yield* Effect.flip(a.presence.add("x", info("a1")))).toMatchObject({ reason: "Timeout" })
      isLost = false
      yield* eventually(
        present(a, "x"),
        (all) => JSON.stringify(all) === JSON.stringify([info("a0", "ann")]),
        "it is as it was"
      )
      yield* isConsistent(redis, "x")
    })
  )

  live("an add that Redis executes after the deadline is taken back behind it", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const a = yield* instance(redis)
      yield* a.presence.add("x", info("a0"))
      yield* redis.freeze
      expect(yield* Effect.flip(a.presence.add("x", info("a1")))).toMatchObject({ reason: "Timeout" })
      yield* redis.thaw
      yield* a.presence.add("x", info("a2"))
      expect(yield* clientsOf(a, "x")).toEqual(["a0", "a2"])
      expect(a.metrics.brokerLinkLosses.value).toBe(0)
    })
  )

  live("who leaves while a round is under way is not entered again, and a round is never sent all at once", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const gate = yield* Effect.makeLatch(true)
      let waiting = 0
      let most = 0
      const through =
        (run: Run): Run =>
        (channel, what, changes, command) =>
          what.startsWith("refresh")
            ? Effect.suspend(() => {
                most = Math.max(most, ++waiting)
                return Effect.zipRight(gate.await, run(channel, what, changes, command))
              }).pipe(Effect.ensuring(Effect.sync(() => waiting--)))
            : run(channel, what, changes, command)
      const a = yield* instance(redis, { interval: "1s", through })
      yield* addMany(a, "x", "a", 3000)
      yield* Effect.forEach(Array.from({ length: 50 }), (_, index) => addMany(a, `room ${index}`, "a", 2))
      yield* gate.close
      yield* eventually(
        Effect.sync(() => waiting),
        (count) => count === 8,
        "a round is under way"
      )
      const leaving = ["x", "room 7"]
      for (const channel of leaving) yield* a.presence.remove(channel, "a0")
      yield* gate.open
      for (const channel of leaving) {
        // In the same call, if it was.
        yield* renewed(redis, channel, "a1", 1)
        expect(yield* clientsOf(a, channel)).not.toContain("a0")
      }
      yield* statsBecome(a, "x", 2999, 1)
      expect(most).toBe(8)
      yield* isConsistent(redis, "x")
    })
  )

  live("one call that fails does not keep the others of the round, or the next round, from being made", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const a = yield* instance(redis, { interval: "500ms" })
      yield* addMany(a, "before", "a", 1)
      yield* addMany(a, "x", "a", 1)
      yield* addMany(a, "after", "a", 200)
      const [entries, expiries, users] = keys.presence("x")
      yield* redis.use(async (client) => {
        await client.persist(expiries)
        await client.persist(users)
        await client.set(entries, "no hash")
      })
      expect(yield* Effect.flip(a.presence.list("x", 1000))).toMatchObject({ reason: "Failed" })
      for (const channel of ["before", "after"]) yield* renewed(redis, channel, "a0", 4)
      yield* redis.use((client) => client.del(entries))
      yield* statsBecome(a, "x", 1, 1)
    })
  )
})
