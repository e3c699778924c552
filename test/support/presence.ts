/** Presence for the port's suite: several instances that see each other, over each adapter. */
import { expect } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as Broker from "../../src/Broker.ts"
import { Link } from "../../src/Broker/Link.ts"
import * as RedisBroker from "../../src/Broker/Redis.ts"
import * as RedisStreams from "../../src/Broker/RedisStreams.ts"
import * as Metrics from "../../src/Metrics.ts"
import * as Presence from "../../src/Presence.ts"
import * as RedisPresence from "../../src/Presence/Redis.ts"
import type { ClientInfo } from "../../src/protocol/Publication.ts"
import * as ServerConfig from "../../src/ServerConfig.ts"
import * as Redis from "./redis.ts"
import { eventually } from "./wait.ts"

export interface Instance {
  readonly presence: Context.Tag.Service<Presence.Presence>
}

export interface RedisInstance extends Instance {
  readonly broker: Context.Tag.Service<Broker.Broker>
  readonly metrics: Context.Tag.Service<Metrics.Metrics>
  /** Ends it as a crash does: nothing that it has entered is taken out. */
  readonly crash: Effect.Effect<void>
}

export type Run = Context.Tag.Service<Link>["run"]

export interface Options {
  /** `client.presence_update_interval`; a minute, so that nothing happens by itself. */
  readonly interval?: string
  /** What stands between presence and the link. */
  readonly through?: (run: Run) => Run
}

export const becomes = (broker: Context.Tag.Service<Broker.Broker>, state: Broker.BrokerState["_tag"]) =>
  eventually(broker.state, ({ _tag }) => _tag === state, `the broker is ${state}`)

/** One instance over a Redis; it is live. */
export const instance = (
  redis: Pick<Redis.Redis, "port">,
  { interval = "1m", through = (run) => run }: Options = {}
): Effect.Effect<RedisInstance, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const scope = yield* Scope.fork(yield* Effect.scope, { _tag: "Sequential" } as never)
    const link = Layer.map(RedisBroker.layer(Redacted.make(`redis://127.0.0.1:${redis.port}`)), (context) => {
      const own = Context.get(context, Link)
      return Context.add(context, Link, Link.of({ ...own, run: through(own.run) }))
    })
    const layer = RedisPresence.layer.pipe(
      Layer.provideMerge(link),
      Layer.provideMerge(Metrics.layer),
      Layer.provide(ServerConfig.layer({ client: { presence_update_interval: interval } }))
    )
    const context = yield* Layer.buildWithScope(layer, scope)
    const broker = Context.get(context, Broker.Broker)
    yield* becomes(broker, "Live")
    return {
      broker,
      presence: Context.get(context, Presence.Presence),
      metrics: Context.get(context, Metrics.Metrics),
      crash: Scope.close(scope, Exit.void)
    }
  })

/** An adapter under test: two instances that see each other; over memory both are the same one. */
export interface Adapter {
  readonly name: string
  readonly two: Effect.Effect<readonly [Instance, Instance], unknown, Scope.Scope>
}

export const adapters: ReadonlyArray<Adapter> = [
  {
    name: "Presence.layerMemory",
    two: Effect.map(Layer.build(Presence.layerMemory), (context) => {
      const one = { presence: Context.get(context, Presence.Presence) }
      return [one, one] as const
    })
  },
  {
    name: "Presence/Redis",
    two: Effect.gen(function* () {
      const redis = yield* Redis.start()
      return [yield* instance(redis), yield* instance(redis)] as const
    })
  }
]

export const info = (client: string, user = "", rest: Partial<ClientInfo> = {}): ClientInfo => ({
  client,
  user,
  ...rest
})

/** Who is in a channel, in the order of their clients. */
export const present = ({ presence }: Instance, channel: string) =>
  Effect.map(presence.list(channel, 2 ** 30), (all) =>
    all.toSorted((x, y) => (x.client < y.client ? -1 : x.client > y.client ? 1 : 0))
  )

/** The clients of these. */
export const clientsOf = (one: Instance, channel: string) =>
  Effect.map(present(one, channel), (all) => all.map(({ client }) => client))

export const keys = RedisStreams.keys("fanfare")

/** What Redis has of a channel: expired entries too. */
export const stored = (redis: Pick<Redis.Redis, "use">, channel: string) =>
  redis.use(async (client) => {
    const [entries, expiries, users] = keys.presence(channel)
    const scores = await client.zrange(expiries, 0, "-1", "WITHSCORES")
    return {
      entries: new Map(Object.entries(await client.hgetall(entries))),
      expiries: new Map(scores.flatMap((who, index) => (index % 2 === 0 ? [[who, Number(scores[index + 1])]] : []))),
      users: new Map(Object.entries(await client.hgetall(users)).map(([user, count]) => [user, Number(count)]))
    }
  })

/** Whether the three keys of a channel say the same: `undefined`, or what is wrong. */
export const contradiction = (redis: Pick<Redis.Redis, "use">, channel: string) =>
  Effect.map(stored(redis, channel), ({ entries, expiries, users }) => {
    const counted = new Map<string, number>()
    for (const entry of entries.values()) {
      const user = entry.slice(entry.indexOf("\n") + 1)
      counted.set(user, (counted.get(user) ?? 0) + 1)
    }
    const text = (of: Iterable<readonly [string, number]>): string => JSON.stringify(Array.from(of).toSorted())
    const clients = (of: Iterable<string>): string => JSON.stringify(Array.from(of).toSorted())
    if (clients(entries.keys()) !== clients(expiries.keys())) {
      return `entries of ${clients(entries.keys())}, expiries of ${clients(expiries.keys())}`
    }
    return text(counted) === text(users) ? undefined : `entries of ${text(counted)}, counted ${text(users)}`
  })

/** Waits until an entry has been renewed so many times. */
export const renewed = (redis: Pick<Redis.Redis, "use">, channel: string, client: string, times: number) => {
  const expiry = Effect.map(
    redis.use((one) => one.zscore(keys.presence(channel)[1], client)),
    Number
  )
  return Effect.gen(function* () {
    for (let time = 0; time < times; time++) {
      const before = yield* expiry
      yield* eventually(expiry, (now) => now > before, `"${client}" is renewed for the ${time + 1}. time`)
    }
  })
}

/** Waits until Redis has no key at all; asks for none of them, which would take out what has expired. */
export const empty = (redis: Pick<Redis.Redis, "use">) =>
  eventually(
    redis.use((client) => client.dbsize()),
    (size) => size === 0,
    "no key is left"
  )

/** Enters clients `prefix0…` of a user. */
export const addMany = ({ presence }: Instance, channel: string, prefix: string, count: number, user = prefix) =>
  Effect.forEach(
    Array.from({ length: count }, (_, index) => info(`${prefix}${index}`, user)),
    (one) => presence.add(channel, one),
    { concurrency: 64, discard: true }
  )

export const statsBecome = (one: Instance, channel: string, clients: number, users: number) =>
  eventually(
    one.presence.stats(channel),
    (now) => now.clients === clients && now.users === users,
    `${clients} clients of ${users} users in "${channel}"`
  )

export const isConsistent = (redis: Pick<Redis.Redis, "use">, channel: string) =>
  Effect.map(contradiction(redis, channel), (what) => expect(what).toBe(undefined))

/** How long the entry that lives longest has yet to live, in milliseconds of Redis' clock. */
export const remaining = (redis: Pick<Redis.Redis, "use">, channel: string) =>
  redis.use(async (client) => {
    const [, last] = await client.zrange(keys.presence(channel)[1], "-1", "-1", "WITHSCORES")
    const [seconds = 0, micros = 0] = await client.time()
    return Number(last) - (Number(seconds) * 1000 + Number(micros) / 1000)
  })
