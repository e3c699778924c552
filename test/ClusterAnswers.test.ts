import { beforeEach, describe, expect } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Cluster from "../src/Cluster.ts"
import { raw } from "./support/history.ts"
import { live } from "./support/it.ts"
import * as Redis from "./support/redis.ts"
import { CHANNELS, clusters, configOf, GO, LAYOUTS, overRedis, SEED, sit } from "./support/seats.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"
import { eventually } from "./support/wait.ts"

for (const [name, cluster] of clusters) {
  describe(`what the instances tell of themselves over ${name}`, () => {
    // The layouts come from it, and no name of a test says it here: one that fails does.
    beforeEach(({ annotate }) => annotate(`SEED=${SEED}`))

    live("channels: the subscribers of each on all instances, by pattern", () =>
      Effect.gen(function* () {
        const servers = yield* cluster()
        const all = yield* Effect.forEach([...(LAYOUTS[0] ?? []), ...(LAYOUTS[1] ?? [])], (one) => sit(servers, one))
        const expected = (pattern: RegExp) =>
          new Map(
            CHANNELS.filter((channel) => pattern.test(channel)).map((channel) => [
              channel,
              all.filter(({ channels }) => channels.includes(channel)).length
            ])
          )
        const patterns: ReadonlyArray<readonly [pattern: string, RegExp]> = [
          ["*", /^/],
          ["room:*", /^/],
          ["room:?", /^/],
          ["*a", /a$/],
          ["r**:b", /b$/],
          ["?oom:?", /^/],
          ["room:b", /b$/],
          ["room:", /^never$/],
          ["room:??", /^never$/],
          ["[a-z]*", /^never$/],
          ["", /^never$/]
        ]
        for (const { cluster } of servers) {
          for (const [pattern, meant] of patterns) {
            const { channels, isPartial } = yield* cluster.channels(pattern)
            expect([pattern, isPartial, new Map([...channels].toSorted())]).toEqual([pattern, false, expected(meant)])
          }
        }
      })
    )

    live("nodes: every instance once, with its figures", () =>
      Effect.gen(function* () {
        const servers = yield* cluster()
        const all = yield* Effect.forEach(LAYOUTS[0] ?? [], (one) => sit(servers, one))
        const isOne = servers[0] === servers[1]
        const ids = yield* Effect.forEach(isOne ? [servers[0]] : servers, (server) =>
          Effect.scoped(Effect.map(raw(server), ({ connected }) => String(connected["node"])))
        )
        const own = (index: number) => all.filter(({ on }) => isOne || on === index)
        const expected = ids.map((id, index) => ({
          id,
          name: "127.0.0.1:0",
          version: expect.any(String),
          uptime: expect.any(Number),
          clients: own(index).length,
          users: new Set(own(index).map(({ user }) => user)).size,
          subscriptions: own(index).reduce((sum, { channels }) => sum + channels.length, 0),
          channels: new Set(own(index).flatMap(({ channels }) => channels)).size
        }))
        for (const { cluster } of servers) {
          const { nodes } = yield* eventually(
            cluster.nodes,
            ({ nodes }) => nodes.reduce((sum, { clients }) => sum + clients, 0) === all.length,
            "those that only asked for their node have left"
          )
          expect(nodes.toSorted((a, b) => ids.indexOf(a.id) - ids.indexOf(b.id))).toEqual(expected)
          expect((yield* cluster.nodes).isPartial).toBe(false)
        }
      })
    )

    live("more than MAX_CHANNELS: so many of them, and the answer is partial", () =>
      Effect.gen(function* () {
        const servers = yield* cluster({ channel_limit: 20_000 })
        // Each instance could tell all of its own.
        const each = Cluster.MAX_CHANNELS / 2 + 10
        yield* Effect.forEach(
          servers,
          (server, index) =>
            Effect.gen(function* () {
              const socket = yield* Socket.open(`${server.ws}/connection/websocket`)
              socket.send('{"id":1,"connect":{}}')
              for (let first = 0; first < each; first += 200) {
                const commands = Array.from({ length: Math.min(200, each - first) }, (_, offset) => ({
                  id: first + offset + 2,
                  subscribe: { channel: `bare:${index}-${first + offset}` }
                }))
                socket.send(commands.map((command) => JSON.stringify(command)).join("\n"))
              }
              yield* eventually(
                Effect.sync(() => socket.received.reduce((sum, frame) => sum + frame.split("\n").length, 0)),
                (replies) => replies >= each + 1,
                "all are subscribed",
                "60 seconds"
              )
            }),
          { concurrency: "unbounded" }
        )
        for (const { cluster } of servers) {
          const { channels, isPartial } = yield* cluster.channels("*")
          expect([channels.size, isPartial]).toEqual([Cluster.MAX_CHANNELS, true])
          const some = yield* cluster.channels("bare:1-*")
          expect([some.channels.size, some.isPartial]).toEqual([each, false])
          expect([...some.channels.values()].every((count) => count === 1)).toBe(true)
        }
      })
    )
  })
}

// ── Redis away ───────────────────────────────────────────────────────────────

/** What an answer may take beyond the wait for it, on a busy machine. */
const MARGIN = 950

const milliseconds = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<readonly [number, A], E, R> =>
  Effect.map(Effect.timed(effect), ([took, value]) => [Duration.toMillis(took), value] as const)

describe("without Redis an instance does its own part, and says that it is not all", () => {
  const users = ["ada", "bea", "cleo"] as const

  const setting = Effect.gen(function* () {
    const redis = yield* Redis.start()
    const servers = yield* overRedis(redis)
    const seats = users.flatMap((user) => [
      { user, on: 0, isPlain: false, channels: ["room:a"] } as const,
      { user, on: 1, isPlain: false, channels: ["room:a"] } as const
    ])
    const all = yield* Effect.forEach(seats, (one) => sit(servers, one))
    for (const { mark } of all) mark()
    const of = (user: string, on: number) => {
      const found = all.find((one) => one.user === user && one.on === on)
      if (found === undefined) throw new Error(`no ${user} on ${on}`)
      return found
    }
    return { redis, servers, of }
  })

  const disconnect = (user: string) => ({ type: "disconnect", user, whitelist: [], ...GO }) as const

  const unsubscribe = (user: string) =>
    ({ type: "unsubscribe", user, channel: "room:a", code: 2000, reason: "out" }) as const

  live("SIGKILL of Redis: at once; and everywhere again when it is back", () =>
    Effect.gen(function* () {
      const { of, redis, servers } = yield* setting
      const [a, b] = servers
      yield* redis.kill
      // Whether it has noticed that the link is lost or not.
      const [first, outcome] = yield* milliseconds(a.cluster.perform(disconnect("ada")))
      expect(outcome).toEqual({ clients: 1, isPartial: true })
      expect((yield* of("ada", 0).socket.closed).code).toBe(4001)
      yield* eventually(a.broker.state.get, ({ _tag }) => _tag === "Degraded", "the link is lost")
      const [second, another] = yield* milliseconds(a.cluster.perform(unsubscribe("bea")))
      expect(another).toEqual({ clients: 1, isPartial: true })
      yield* of("bea", 0).socket.gets('"unsubscribe"')
      // What needs the broker is not done.
      const subscribe = { type: "subscribe", user: "cleo", channel: "room:new" } as const
      const [third, refused] = yield* milliseconds(a.cluster.perform(subscribe))
      expect(refused).toEqual({ clients: 0, isPartial: true })
      const [fourth, { channels, isPartial }] = yield* milliseconds(a.cluster.channels("*"))
      expect([channels, isPartial]).toEqual([new Map([["room:a", 1]]), true])
      const [fifth, nodes] = yield* milliseconds(a.cluster.nodes)
      expect([nodes.nodes.length, nodes.isPartial]).toEqual([1, true])
      const [sixth, failed] = yield* milliseconds(Effect.flip(a.cluster.message("cleo", "1")))
      expect(failed._tag).toBe("BrokerError")
      expect(Math.max(first, second, third, fourth, fifth, sixth)).toBeLessThan(MARGIN)

      // Nobody on the other instance has noticed.
      for (const user of users) {
        yield* of(user, 1).settles
        expect([of(user, 1).since(), of(user, 1).socket.isClosed()]).toEqual([[], false])
      }

      yield* redis.start
      for (const server of [a, b]) {
        yield* eventually(server.broker.state.get, ({ _tag }) => _tag === "Live", "the broker is live")
      }
      expect(yield* a.cluster.perform(disconnect("ada"))).toEqual({ clients: 1, isPartial: false })
      expect((yield* of("ada", 1).socket.closed).code).toBe(4001)
      expect(yield* b.cluster.perform(subscribe)).toEqual({ clients: 2, isPartial: false })
      expect((yield* b.cluster.nodes).nodes.length).toBe(2)
    })
  )

  live("Redis that hangs: in its time", () =>
    Effect.gen(function* () {
      const { of, redis, servers } = yield* setting
      const [a] = servers
      // Servers take long to close over one that hangs.
      yield* Effect.acquireRelease(redis.freeze, () => redis.thaw)
      const all = Effect.all([a.cluster.perform(disconnect("ada")), a.cluster.channels("*"), a.cluster.nodes], {
        concurrency: "unbounded"
      })
      const [took, [disconnected, channels, nodes]] = yield* milliseconds(all)
      expect(took).toBeLessThan(Duration.toMillis(Cluster.REPLY_TIMEOUT) + MARGIN)
      expect(disconnected).toEqual({ clients: 1, isPartial: true })
      expect([channels.isPartial, nodes.isPartial, nodes.nodes.length]).toEqual([true, true, 1])
      expect((yield* of("ada", 0).socket.closed).code).toBe(4001)
    })
  )

  live("an instance that is gone is not waited for", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const a = yield* Server.start({ config: { ...configOf(), redis_url: redis.url } })
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* Server.start({ config: { ...configOf(), redis_url: redis.url } })
          expect((yield* a.cluster.nodes).nodes.length).toBe(2)
        })
      )
      const [took, { isPartial, nodes }] = yield* milliseconds(a.cluster.nodes)
      expect([nodes.length, isPartial]).toEqual([1, false])
      expect(took).toBeLessThan(MARGIN)
    })
  )
})
