import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Cluster from "../src/Cluster.ts"
import { live } from "./support/it.ts"
import { clusters, type Connected, GO, LAYOUTS, nameOf, type Pair, type Seat, SEED, sit } from "./support/seats.ts"
import type * as Server from "./support/server.ts"
import { inSeconds } from "./support/tokens.ts"
import { eventually } from "./support/wait.ts"

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
}
