/** The Redis user of a server: what docs/history.md says that it needs is enough. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { readFileSync } from "node:fs"
import * as Streams from "../src/Broker/RedisStreams.ts"
import * as Entries from "../src/Presence/RedisEntries.ts"
import * as Api from "./support/api.ts"
import { live } from "./support/it.ts"
import * as People from "./support/people.ts"
import * as Redis from "./support/redis.ts"
import { eventually } from "./support/wait.ts"

const page = readFileSync(new URL("../docs/history.md", import.meta.url), "utf8")

const listed = Array.from(
  (/^Commands that the Redis user needs.*$/m.exec(page)?.[0] ?? "").matchAll(/`([A-Z|]+)`/g),
  ([, name = ""]) => name
)

describe("The Redis user", () => {
  it("may do what the scripts do", () => {
    const scripts = Object.values({ ...Streams.scripts, ...Entries.scripts }).map(({ lua }) => lua)
    const called = scripts.flatMap((lua) => Array.from(lua.matchAll(/redis\.p?call\("(\w+)"/g), ([, name]) => name))
    expect(called.length).toBeGreaterThan(30)
    expect(called.filter((name) => !listed.includes(name ?? ""))).toEqual([])
  })

  live("needs no other command than those that the documentation lists", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const commands = Array.from(new Set(listed), (name) => `+${name.toLowerCase()}`)
      yield* redis.use((client) =>
        client.call("ACL", "SETUSER", "wary", "on", ">secret", "~fanfare:*", "&fanfare:*", "-@all", ...commands)
      )
      const server = yield* People.start({
        // A database of its own, for SELECT.
        redis_url: `${redis.url.replace("redis://", "redis://wary:secret@")}/3`,
        client: { presence_update_interval: "100ms" }
      })
      const api = yield* Api.make(server.http)
      const ada = yield* People.connect(server, { user: "ada" })
      for (const channel of ["room:a", "bare:a"]) yield* ada.ask("subscribe", { channel })
      const data = "hello"
      const publish = { channel: "room:a", data, idempotency_key: "once" }
      expect(yield* api.result("publish", publish)).toMatchObject({ offset: 1 })
      expect(yield* api.result("publish", publish)).toMatchObject({ offset: 1 })
      yield* api.result("broadcast", { channels: ["bare:a", "room:a", "bare:b", "room:b"], data })
      yield* api.result("publish", { channel: "bare:a", data, idempotency_key: "twice" })
      expect((yield* api.result("history", { channel: "room:a", limit: 10 })).publications.length).toBe(2)
      expect((yield* api.result("history", { channel: "room:a", limit: 10, reverse: true })).publications.length).toBe(
        2
      )
      expect(Object.keys((yield* api.result("presence", { channel: "room:a" })).presence)).toEqual([ada.id])
      yield* api.result("history_remove", { channel: "room:a" })
      yield* ada.ask("unsubscribe", { channel: "room:a" })
      yield* eventually(
        api.result("presence_stats", { channel: "room:a" }),
        ({ num_clients }) => num_clients === 0,
        "nobody is there"
      )
      // The heartbeat as well.
      yield* eventually(
        redis.use((client) => client.info("commandstats")),
        (stats) => Number(/cmdstat_ping:calls=(\d+)/.exec(stats)?.[1]) > 4,
        "heartbeats"
      )
      expect(server.logs.filter((line) => line.startsWith("WARN"))).toEqual([])
      expect(yield* redis.use((client) => client.call("ACL", "LOG"))).toEqual([])
    })
  )
})
