/** Environments that share one Redis: by its databases, or by `broker.redis.prefix`. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import { keys } from "../src/Broker/RedisStreams.ts"
import * as Api from "./support/api.ts"
import { channel, raw } from "./support/history.ts"
import { live } from "./support/it.ts"
import * as Redis from "./support/redis.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"

/** An instance at a URL, with readers in a channel with history and in one without. */
const instance = (redis_url: string, prefix = "fanfare") =>
  Effect.gen(function* () {
    const server = yield* Server.start({
      config: { redis_url, channel, broker: { redis: { prefix } }, ...Api.keyed },
      hooks: { onConnect: () => Effect.succeed({ user: "ada" }) }
    })
    const readers = yield* Effect.forEach(["kept:x", "bare:x"], (name) => Socket.open(`${server.ws}/channels/${name}`))
    const api = yield* Api.make(server.http)
    const publish = (data: string) =>
      Effect.forEach(["kept:x", "bare:x"], (name) => api.result("publish", { channel: name, data }))
    const hears = (data: string) => Effect.forEach(readers, (reader) => reader.gets(data))
    const heard = () => readers.flatMap(({ received }) => received).toSorted()
    return { api, hears, heard, publish, server }
  })

/** What publishes in each, and who hears it. */
const isolated = (one: string, other: string, prefixes: readonly [string, string] = ["fanfare", "fanfare"]) =>
  Effect.gen(function* () {
    const production = yield* instance(one, prefixes[0])
    const sibling = yield* instance(one, prefixes[0])
    const staging = yield* instance(other, prefixes[1])
    const user = yield* raw(production.server)
    yield* staging.publish("staging")
    yield* production.publish("production")
    yield* staging.hears("staging")
    yield* production.hears("production")
    yield* sibling.hears("production")
    // What was sent before it has come by now: Redis delivers in order.
    expect(production.heard()).toEqual(['"production"', '"production"'])
    expect(sibling.heard()).toEqual(['"production"', '"production"'])
    expect(staging.heard()).toEqual(['"staging"', '"staging"'])
    expect(Object.keys(yield* staging.api.result("info", {}))).toEqual(["nodes"])
    expect((yield* staging.api.result("info", {})).nodes.length).toBe(1)
    expect((yield* production.api.result("info", {})).nodes.length).toBe(2)
    expect(yield* staging.api.result("disconnect", { user: "ada" })).toEqual({})
    expect(user.socket.isClosed()).toBe(false)
    // The other instance of the same environment reaches it.
    yield* sibling.api.result("disconnect", { user: "ada" })
    expect((yield* user.socket.closed).code).toBe(3503)
  })

describe("two environments on one Redis", () => {
  live("told apart by the database: publications, control messages and histories stay in their own", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      yield* isolated(redis.url, `${redis.url}/3`)
    })
  )

  live("told apart by two other databases", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      yield* isolated(`${redis.url}/1`, `${redis.url}/11`)
    })
  )

  live("told apart by broker.redis.prefix, in one database", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      yield* isolated(redis.url, redis.url, ["production", "staging"])
    })
  )
})

describe("the names in Redis", () => {
  live("of database 0 are those of before; of others within the prefix too, for a user with &fanfare:*", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start(
        "--user default on nopass ~* &* +@all --user app on >pw ~fanfare:* &fanfare:* +@all".split(" ")
      )
      const url = `redis://app:pw@127.0.0.1:${redis.port}`
      const zero = yield* instance(url)
      const five = yield* instance(`${url}/5`)
      yield* five.publish("five")
      yield* five.hears("five")
      const topics = yield* redis.use((client) => client.pubsub("CHANNELS", "*"))
      const ids = (yield* zero.api.result("info", {})).nodes.map(({ uid }: { readonly uid: string }) => uid)
      const other = (yield* five.api.result("info", {})).nodes.map(({ uid }: { readonly uid: string }) => uid)
      expect((topics as ReadonlyArray<string>).toSorted()).toEqual(
        [
          "fanfare:control",
          `fanfare:control:${ids[0]}`,
          "fanfare:pub:bare:x",
          "fanfare:pub:kept:x",
          "fanfare:control@5",
          `fanfare:control@5:${other[0]}`,
          "fanfare:pub@5:bare:x",
          "fanfare:pub@5:kept:x"
        ].toSorted()
      )
      expect(yield* redis.use((client) => client.call("ACL", "LOG"))).toEqual([])
    })
  )

  it("of different databases are different, whatever the channels and instances are called", () => {
    const name = FastCheck.string()
    const database = FastCheck.nat(99_999)
    const named = FastCheck.tuple(database, FastCheck.constantFrom("topic", "control", "everybody"), name)
    const of = ([number, kind, text]: readonly [number, string, string]): string => {
      const { control, topic } = keys("fanfare", number)
      return kind === "topic" ? topic(text) : kind === "control" ? control(text) : control()
    }
    FastCheck.assert(
      FastCheck.property(named, named, (one, other) => {
        const same = one[0] === other[0] && one[1] === other[1] && (one[1] === "everybody" || one[2] === other[2])
        expect(of(one) === of(other)).toBe(same)
        expect(of(one).startsWith("fanfare:")).toBe(true)
      })
    )
  })
})
