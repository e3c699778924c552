/** What happens to the presence of an instance's clients when the instance ends, in one way or another. */
import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { comes, presenceKeys, reads, sample, startOn } from "./support/clusterPresence.ts"
import { live } from "./support/it.ts"
import * as Redis from "./support/redis.ts"
import { eventually } from "./support/wait.ts"

const sorted = (ids: Iterable<string>): ReadonlyArray<string> => Array.from(ids).toSorted()

const INTERVAL = 1000

/** What a sample and a timer may take, on a busy machine. */
const MARGIN = 500

describe("the clients of an instance", () => {
  const setting = Effect.gen(function* () {
    const redis = yield* Redis.start()
    const [victim, other] = yield* Effect.all([startOn(redis, "1s"), startOn(redis, "1s")])
    const both = ["room:both", "room:more"]
    const gone = yield* Effect.forEach(["ada", "ada", "bob", "bob", "cleo", "dan", "", ""], (user) =>
      comes(victim, user, [...both, "room:gone"])
    )
    const stay = yield* Effect.forEach(["ada", "bob", "eve", ""], (user) => comes(other, user, both))
    const reader = yield* reads(other)
    const ids = (all: ReadonlyArray<{ readonly id: string }>) => sorted(all.map(({ id }) => id))
    const seen = Effect.map(
      Effect.all({ list: reader.list("room:both"), stats: reader.stats("room:both") }),
      ({ list, stats }) => ({ list: sorted(Object.keys(list)), stats })
    )
    return {
      redis,
      victim,
      reader,
      seen,
      all: { list: ids([...gone, ...stay]), stats: { clients: 12, users: 6 } },
      rest: { list: ids(stay), stats: { clients: 4, users: 4 } }
    }
  })

  live("that is killed are out of presence in twice the interval; everybody else is in it throughout", () =>
    Effect.gen(function* () {
      const { all, reader, redis, rest, seen, victim } = yield* setting
      // Nobody expires while both live.
      const steady = sample(
        () =>
          Effect.map(seen, (now) => {
            expect(now).toEqual(all)
            return false
          }),
        2.5 * INTERVAL
      )
      yield* steady

      victim.signal("SIGKILL")
      const took = yield* sample(
        () =>
          Effect.map(seen, (now) => {
            expect(rest.list.filter((id) => !now.list.includes(id))).toEqual([])
            expect(now.list.filter((id) => !all.list.includes(id))).toEqual([])
            expect(now.stats.clients).toBeGreaterThanOrEqual(rest.stats.clients)
            expect(now.stats.users).toBeGreaterThanOrEqual(rest.stats.users)
            return now.list.length === rest.list.length && now.stats.clients === rest.stats.clients
          }),
        10 * INTERVAL
      )
      expect(took).toBeLessThan(2 * INTERVAL + MARGIN)
      // Those that it had refreshed last were not taken for gone at once.
      expect(took).toBeGreaterThan(INTERVAL - MARGIN)
      expect(yield* victim.exit).toEqual({ code: null, signal: "SIGKILL" })
      yield* sample(
        () =>
          Effect.map(seen, (now) => {
            expect(now).toEqual(rest)
            return false
          }),
        1.5 * INTERVAL
      )
      expect([yield* reader.list("room:gone"), yield* reader.stats("room:gone")]).toEqual([
        {},
        { clients: 0, users: 0 }
      ])
      expect((yield* presenceKeys(redis)).filter((key) => key.includes("room:gone"))).toEqual([])
    })
  )

  live("that is stopped for longer, and goes on, are in presence again within an interval", () =>
    Effect.gen(function* () {
      const { all, rest, seen, victim } = yield* setting
      victim.signal("SIGSTOP")
      yield* eventually(seen, ({ stats }) => stats.clients === rest.stats.clients, "they are out")
      expect(yield* seen).toEqual(rest)
      victim.signal("SIGCONT")
      const took = yield* sample(
        () => Effect.map(seen, ({ stats }) => stats.clients === all.stats.clients),
        10 * INTERVAL
      )
      expect(took).toBeLessThan(INTERVAL + MARGIN)
      expect(yield* seen).toEqual(all)
    })
  )

  live("that is shut down are out of presence when it is gone, and leave nothing behind", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      // An interval that does not come to an end here.
      const [victim, other] = yield* Effect.all([startOn(redis, "25s"), startOn(redis, "25s")])
      yield* Effect.forEach(Array.from({ length: 50 }), (_, index) =>
        comes(victim, index % 2 === 0 ? "" : `user-${index % 10}`, ["room:a", `room:${index % 5}`])
      )
      const one = yield* comes(other, "ada", ["room:a"])
      const reader = yield* reads(other)
      expect(yield* reader.stats("room:a")).toEqual({ clients: 51, users: 7 })
      victim.signal("SIGTERM")
      expect(yield* victim.exit).toEqual({ code: 0, signal: null })
      expect(yield* reader.list("room:a")).toEqual({ [one.id]: { client: one.id, user: "ada" } })
      expect(yield* reader.stats("room:a")).toEqual({ clients: 1, users: 1 })
      expect((yield* presenceKeys(redis)).filter((key) => !key.includes("{room:a}"))).toEqual([])
      yield* one.ask("unsubscribe", { channel: "room:a" })
      expect(yield* presenceKeys(redis)).toEqual([])
    })
  )
})
