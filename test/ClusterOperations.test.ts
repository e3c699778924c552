import { describe, expect } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import type * as Scope from "effect/Scope"
import * as Cluster from "../src/Cluster.ts"
import { OPEN, raw } from "./support/history.ts"
import { live } from "./support/it.ts"
import * as Redis from "./support/redis.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"
import { inSeconds, KEY, token } from "./support/tokens.ts"
import { eventually } from "./support/wait.ts"
import type { Json } from "./support/json.ts"

const SEEN = { allow_presence_for_subscriber: true, allow_presence_for_anonymous: true }

const configOf = (client: object = {}) => ({
  channel: {
    namespaces: [
      { name: "room", ...OPEN, ...SEEN, presence: true },
      { name: "bare", ...OPEN }
    ]
  },
  client: {
    token: { hmac_secret_key: KEY },
    allow_anonymous_connect_without_token: true,
    ping_interval: "1h",
    ...client
  }
})

type Pair = readonly [Server.Running, Server.Running]

const overMemory = (client?: object) =>
  Effect.map(Server.start({ config: configOf(client) }), (server): Pair => [server, server])

const overRedis = (redis: Redis.Redis, client?: object) => {
  const one = Server.start({ config: { ...configOf(client), redis_url: redis.url } })
  return Effect.map(Effect.zip(one, one), (pair): Pair => pair)
}

/** Two servers of one cluster; over memory both are the same one. */
const clusters: ReadonlyArray<
  readonly [name: string, start: (client?: object) => Effect.Effect<Pair, unknown, Scope.Scope>]
> = [
  ["memory", overMemory],
  ["redis (two instances)", (client) => Effect.flatMap(Redis.start(), (redis) => overRedis(redis, client))]
]

const credentials = (user: string): string | undefined => (user === "" ? undefined : token({ sub: user }))

// ── Who is connected ─────────────────────────────────────────────────────────

const CHANNELS = ["room:a", "room:b"] as const

/** A connection: of whom, on which instance, of which kind, in which channels; a plain socket is in the first only. */
interface Seat {
  readonly user: string
  readonly on: 0 | 1
  readonly isPlain: boolean
  readonly channels: ReadonlyArray<string>
}

const seat: FastCheck.Arbitrary<Seat> = FastCheck.record({
  user: FastCheck.constantFrom("ada", "ada", "bob", ""),
  on: FastCheck.constantFrom<0 | 1>(0, 1),
  isPlain: FastCheck.boolean(),
  channels: FastCheck.subarray([...CHANNELS], { minLength: 1 })
}).map((one) => (one.isPlain ? { ...one, channels: one.channels.slice(0, 1) } : one))

/** Both instances, both kinds, and others beside the user. */
const ALWAYS: ReadonlyArray<Seat> = [
  { user: "ada", on: 0, isPlain: false, channels: ["room:a", "room:b"] },
  { user: "ada", on: 1, isPlain: false, channels: ["room:a"] },
  { user: "ada", on: 1, isPlain: true, channels: ["room:a"] },
  { user: "", on: 0, isPlain: false, channels: ["room:a"] },
  { user: "", on: 1, isPlain: true, channels: ["room:a"] },
  { user: "bob", on: 1, isPlain: false, channels: ["room:a", "room:b"] }
]

const SEED = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 31))

const LAYOUTS = FastCheck.sample(FastCheck.array(seat, { minLength: 1, maxLength: 6 }), { seed: SEED, numRuns: 3 }).map(
  (more) => [...ALWAYS, ...more]
)

interface Connected extends Seat {
  readonly socket: Socket.Socket
  /** Empty for a plain socket, which is not told it. */
  readonly client: string
  /** What has come since `mark`, but for replies and its own joining. */
  readonly since: () => ReadonlyArray<Record<string, Json> | string>
  readonly mark: () => void
  /** Waits until everything that was sent to it before has come, or it is closed. */
  readonly settles: Effect.Effect<void, unknown>
}

const sit = (servers: Pair, one: Seat): Effect.Effect<Connected, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const server = servers[one.on]
    const authorization = credentials(one.user)
    let from = 0
    if (one.isPlain) {
      const socket = yield* Socket.open(
        `${server.ws}/channels/${one.channels[0]}`,
        authorization === undefined ? {} : { headers: { Authorization: `Bearer ${authorization}` } }
      )
      return {
        ...one,
        socket,
        client: "",
        since: () => socket.received.slice(from),
        mark: () => {
          from = socket.received.length
        },
        settles: Effect.suspend(() => {
          if (socket.isClosed()) return Effect.void
          const pong = Effect.async<void>((resume) => void socket.ws.once("pong", () => resume(Effect.void)))
          socket.ws.ping()
          return Effect.raceFirst(pong, Effect.ignore(socket.lost))
        })
      }
    }
    const { ask, connected, socket } = yield* raw(server, authorization === undefined ? {} : { token: authorization })
    for (const channel of one.channels) yield* ask("subscribe", { channel })
    return {
      ...one,
      socket,
      client: connected["client"],
      since: () =>
        socket.received
          .slice(from)
          .flatMap((frame) => frame.split("\n"))
          .map((line) => JSON.parse(line).push)
          .filter((push) => push !== undefined),
      mark: () => {
        from = socket.received.length
      },
      settles: Effect.suspend(() =>
        socket.isClosed() ? Effect.void : Effect.raceFirst(ask("ping", {}), Effect.ignore(socket.lost))
      )
    }
  })

/** What happens to one connection: pushes that come, in their order, and the code with which it is closed. */
interface Fate {
  readonly pushes: ReadonlyArray<object>
  readonly closed?: number
}

const NOTHING: Fate = { pushes: [] }

interface Operation {
  readonly name: string
  readonly make: (all: ReadonlyArray<Connected>) => Cluster.Operation
  /** With whom it is done; all of the user's, as it is not said. */
  readonly chooses?: (one: Connected, all: ReadonlyArray<Connected>) => boolean
  /** What happens to a connection with which it is done. */
  readonly fate: (one: Connected) => Fate
}

const protocolOf = (all: ReadonlyArray<Connected>, user: string): Connected => {
  const found = all.find((one) => one.user === user && !one.isPlain)
  if (found === undefined) throw new Error(`no connection of ${user}`)
  return found
}

const closedWith = (code: number) => (): Fate => ({ pushes: [], closed: code })

const GO = { code: 4001, reason: "go" }

const OPERATIONS: ReadonlyArray<Operation> = [
  {
    name: "subscribe",
    make: () => ({ type: "subscribe", user: "ada", channel: "room:new", data: '{"m":1}', info: '{"n":1}' }),
    fate: ({ isPlain }) => (isPlain ? NOTHING : { pushes: [{ channel: "room:new", subscribe: { data: { m: 1 } } }] })
  },
  {
    name: "subscribe one connection",
    make: (all) => ({ type: "subscribe", user: "ada", client: protocolOf(all, "ada").client, channel: "room:new" }),
    chooses: (one, all) => one === protocolOf(all, "ada"),
    fate: () => ({ pushes: [{ channel: "room:new", subscribe: {} }] })
  },
  {
    name: "unsubscribe",
    make: () => ({ type: "unsubscribe", user: "ada", channel: "room:b", code: 2000, reason: "out" }),
    fate: ({ channels, isPlain }) =>
      !channels.includes("room:b")
        ? NOTHING
        : isPlain
          ? { pushes: [], closed: 3503 }
          : { pushes: [{ channel: "room:b", unsubscribe: { code: 2000, reason: "out" } }] }
  },
  {
    name: "unsubscribe another user's connection",
    make: (all) => ({
      type: "unsubscribe",
      user: "ada",
      client: protocolOf(all, "bob").client,
      channel: "room:a",
      code: 2000,
      reason: "out"
    }),
    chooses: () => false,
    fate: () => NOTHING
  },
  {
    name: "refresh",
    make: () => ({ type: "refresh", user: "ada", expired: false, expiresAt: inSeconds(1000) }),
    fate: ({ isPlain }) =>
      isPlain ? NOTHING : { pushes: [{ refresh: { expires: true, ttl: expect.closeTo(1000, -1) } }] }
  },
  {
    name: "refresh, without an end",
    make: () => ({ type: "refresh", user: "ada", expired: false }),
    fate: ({ isPlain }) => (isPlain ? NOTHING : { pushes: [{ refresh: {} }] })
  },
  {
    name: "refresh, as expired",
    make: () => ({ type: "refresh", user: "ada", expired: true }),
    fate: closedWith(3005)
  },
  {
    name: "disconnect",
    make: () => ({ type: "disconnect", user: "ada", whitelist: [], ...GO }),
    fate: closedWith(4001)
  },
  {
    name: "disconnect one connection",
    make: (all) => ({
      type: "disconnect",
      user: "ada",
      client: protocolOf(all, "ada").client,
      whitelist: [],
      ...GO
    }),
    chooses: (one, all) => one === protocolOf(all, "ada"),
    fate: closedWith(4001)
  },
  {
    name: "disconnect with a whitelist",
    make: (all) => ({
      type: "disconnect",
      user: "ada",
      whitelist: [protocolOf(all, "ada").client, protocolOf(all, "bob").client, "another"],
      ...GO
    }),
    chooses: (one, all) => one !== protocolOf(all, "ada"),
    fate: closedWith(4001)
  },
  {
    name: "disconnect of a user without connections",
    make: () => ({ type: "disconnect", user: "eve", whitelist: [], ...GO }),
    chooses: () => false,
    fate: () => NOTHING
  }
]

const nameOf = ({ channels, isPlain, on, user }: Seat): string =>
  `${isPlain ? "plain socket" : "client"} of "${user}" in ${channels.join()} on ${on}`

/** Lets all come, performs it, and looks at what happens to each of them. */
const performs = (servers: Pair, asker: Server.Running, operation: Operation, layout: ReadonlyArray<Seat>) =>
  Effect.gen(function* () {
    const all = yield* Effect.forEach(layout, (one) => sit(servers, one), { concurrency: "unbounded" })
    yield* Effect.forEach(all, ({ settles }) => settles)
    for (const { mark } of all) mark()
    const chosen = all.filter((one) => one.user === "ada" && (operation.chooses?.(one, all) ?? true))
    const { name } = operation
    const outcome = yield* asker.cluster.perform(operation.make(all))
    expect({ SEED, name, ...outcome }).toEqual({ SEED, name, clients: chosen.length, isPartial: false })
    for (const one of all) {
      const fate = chosen.includes(one) ? operation.fate(one) : NOTHING
      const what = `${name}: ${nameOf(one)}; seed ${SEED}`
      const closed = fate.closed === undefined ? undefined : (yield* one.socket.closed).code
      yield* one.settles
      expect({ what, pushes: one.since(), closed, isClosed: one.socket.isClosed() }).toEqual({
        what,
        pushes: fate.pushes,
        closed: fate.closed,
        isClosed: fate.closed !== undefined
      })
    }
  })

for (const [name, cluster] of clusters) {
  describe(`what is done with a user over ${name}`, () => {
    live(`concerns the user's connections, on every instance, and nobody else's (SEED=${SEED})`, () =>
      Effect.gen(function* () {
        const servers = yield* cluster()
        const isEmpty = Effect.sync(() => servers.every(({ connections }) => connections.count() === 0))
        for (const [index, layout] of LAYOUTS.entries()) {
          for (const operation of OPERATIONS) {
            const asker = servers[index % 2] as Server.Running
            yield* Effect.scoped(performs(servers, asker, operation, layout))
            yield* eventually(isEmpty, (empty) => empty, "all have left")
          }
        }
      })
    )

    live(
      "a subscription made by the server is one: it gets publications, is in presence, and ends as it is told to",
      () =>
        Effect.gen(function* () {
          const servers = yield* cluster()
          const [a, b] = servers
          const one = yield* sit(servers, { user: "ada", on: 0, isPlain: false, channels: ["room:a"] })
          const two = yield* sit(servers, { user: "ada", on: 1, isPlain: false, channels: ["room:a"] })
          const other = yield* sit(servers, { user: "", on: 1, isPlain: false, channels: ["room:a"] })
          const subscribe = { type: "subscribe", user: "ada", channel: "room:new", info: '{"n":1}' } as const
          // Twice: it is in it already.
          for (let round = 0; round < 2; round++) {
            expect(yield* a.cluster.perform(subscribe)).toEqual({ clients: 2, isPartial: false })
          }
          const present = yield* b.presence.list("room:new", 10_000)
          expect(new Set(present.map(({ chanInfo, client, user }) => [client, user, chanInfo].join()))).toEqual(
            new Set([one, two].map(({ client }) => [client, "ada", '{"n":1}'].join()))
          )
          expect(yield* a.presence.stats("room:new")).toEqual({ clients: 2, users: 1 })
          yield* b.publisher.publish("room:new", "hello")
          for (const { socket } of [one, two]) yield* socket.gets('"data":"hello"')

          const { client } = one
          const unsubscribe = { type: "unsubscribe", user: "ada", channel: "room:new", code: 2000, reason: "" } as const
          expect(yield* b.cluster.perform({ ...unsubscribe, client })).toEqual({ clients: 1, isPartial: false })
          expect((yield* a.presence.list("room:new", 10_000)).map((info) => info.client)).toEqual([two.client])
          yield* a.publisher.publish("room:new", "again")
          yield* two.socket.gets('"data":"again"')
          yield* one.settles
          expect(one.socket.received.join()).not.toContain("again")
          // Again: there is nothing to end.
          expect(yield* b.cluster.perform({ ...unsubscribe, client })).toEqual({ clients: 1, isPartial: false })
          expect(yield* a.cluster.perform(unsubscribe)).toEqual({ clients: 2, isPartial: false })
          expect(yield* b.presence.stats("room:new")).toEqual({ clients: 0, users: 0 })
          yield* other.settles
          expect(other.since()).toEqual([])
        })
    )

    live("a refresh with `info` is seen by others, on every connection of the user", () =>
      Effect.gen(function* () {
        const servers = yield* cluster()
        const [a, b] = servers
        const all = yield* Effect.forEach(
          [
            { user: "ada", on: 0, isPlain: false, channels: ["room:a", "room:b"] },
            { user: "ada", on: 1, isPlain: true, channels: ["room:a"] },
            { user: "", on: 1, isPlain: false, channels: ["room:a"] }
          ] satisfies ReadonlyArray<Seat>,
          (one) => sit(servers, one)
        )
        expect(all.length).toBe(3)
        yield* b.cluster.perform({ type: "refresh", user: "ada", expired: false, info: '{"n":2}' })
        const infos = (channel: string) =>
          Effect.map(a.presence.list(channel, 10_000), (present) =>
            present.map(({ connInfo, user }) => `${user} ${connInfo}`).toSorted()
          )
        yield* eventually(infos("room:a"), (seen) => seen.filter((one) => one.includes("2")).length === 2, "is seen")
        expect(yield* infos("room:a")).toEqual([" undefined", 'ada {"n":2}', 'ada {"n":2}'])
        yield* eventually(infos("room:b"), ([seen]) => seen === 'ada {"n":2}', "is seen in the other channel")
      })
    )

    live("a message reaches the user's connections of the client protocol, and nobody else", () =>
      Effect.gen(function* () {
        const servers = yield* cluster()
        const all = yield* Effect.forEach(LAYOUTS[0] ?? [], (one) => sit(servers, one))
        for (const { mark } of all) mark()
        yield* servers[1].cluster.message("ada", '{"n":\n12345678901234567890}')
        for (const one of all) {
          const isFor = one.user === "ada" && !one.isPlain
          if (isFor) yield* one.socket.gets('{"push":{"message":{"data":{"n": 12345678901234567890}}}}')
        }
        // A second one, which comes after whatever has come of the first.
        yield* Effect.forEach(all, ({ settles }) => settles)
        expect(all.map((one) => [nameOf(one), one.since().length])).toEqual(
          all.map((one) => [nameOf(one), one.user === "ada" && !one.isPlain ? 1 : 0])
        )
      })
    )
  })

  describe(`what the instances tell of themselves over ${name}`, () => {
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
                "all are subscribed"
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
const MARGIN = 700

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
