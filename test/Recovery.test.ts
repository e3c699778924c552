/**
 * Recovery against a model: whatever happens to a channel and to a client, the
 * client's log is exactly the stream's, or it was told that it is not.
 *
 * A failure is printed as the shortest script that fails, with the seed;
 * `FANFARE_SEED` repeats a run.
 */
import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as RedisStreams from "../src/Broker/RedisStreams.ts"
import { settable } from "./support/clock.ts"
import { live } from "./support/it.ts"
import { Reader } from "./support/reader.ts"
import * as Redis from "./support/redis.ts"
import * as Server from "./support/server.ts"
import { eventually } from "./support/wait.ts"
import { type Way, ways } from "./support/ways.ts"

const RUNS = 300
/** With a tracer on, or hooks that yield. */
const RUNS_OTHERWISE = 40
const SIZE = 5
const TTL = 60_000
const META_TTL = 3_600_000

const config = {
  channel: {
    namespaces: [
      {
        name: "exact",
        history_size: SIZE,
        history_ttl: `${TTL}ms`,
        history_meta_ttl: `${META_TTL}ms`,
        force_recovery: true,
        allow_subscribe_for_client: true,
        allow_subscribe_for_anonymous: true
      }
    ]
  },
  // A clock that jumps must not be taken for a missing pong.
  client: { channel_position_check_delay: "50ms", ping_interval: "1000h" },
  http_api: { key: "key" }
}

/** What a broker's streams go through, beside publications. */
interface World {
  readonly servers: ReadonlyArray<Server.Running>
  /** The publications of a channel expire. */
  readonly expire: (channel: string) => Effect.Effect<void, unknown>
  /** The broker loses a stream altogether. */
  readonly lose: (channel: string) => Effect.Effect<void, unknown>
}

type MakeWorld = (options: Way["options"]) => Effect.Effect<World, unknown, Scope.Scope>

const memoryWorld: MakeWorld = ({ layer = Layer.empty, ...options }) =>
  Effect.gen(function* () {
    const clock = settable()
    const server = yield* Server.start({ ...options, config, layer: Layer.merge(layer, clock.layer) })
    const jump = clock.pass
    return { servers: [server, server], expire: () => jump(TTL + 1), lose: () => jump(META_TTL + 1) }
  })

const redisWorld: MakeWorld = (options) =>
  Effect.gen(function* () {
    const redis = yield* Redis.start()
    const servers = yield* Effect.all(
      [1, 2].map(() => Server.start({ ...options, config: { ...config, redis_url: redis.url } }))
    )
    const keys = RedisStreams.keys("fanfare")
    const client = yield* Redis.client(redis)
    return {
      servers,
      expire: (channel) =>
        Effect.zipRight(
          Effect.promise(() => client.pexpire(keys.stream(channel), 1)),
          eventually(
            Effect.promise(() => client.exists(keys.stream(channel))),
            (exists) => exists === 0,
            "the stream expires"
          )
        ),
      lose: (channel) => Effect.promise(() => client.del(keys.stream(channel), keys.meta(channel)))
    }
  })

/** What the stream is, and what of it a client that left at a position can still get. */
interface Model {
  generation: number
  top: number
  /** The lowest offset that is kept. */
  first: number
  connected: boolean
  /** Where the client is; `undefined`: it was never subscribed. */
  client: { readonly generation: number; readonly offset: number } | undefined
}

/** One channel and its client, for one run. */
class Run {
  readonly world: World
  readonly reader: Reader
  /** All data ever published in this generation, by offset. */
  published: Array<number> = []
  /** The offset at which the reader's log began. */
  begun = 0
  #next = 0
  readonly #channel: string

  constructor(world: World, channel: string) {
    this.world = world
    this.#channel = channel
    this.reader = new Reader(channel)
  }

  get channel(): string {
    return this.#channel
  }

  /** Publishes through one server after the other; every offset must be the next. */
  publish(count: number) {
    return Effect.gen(this, function* () {
      for (let index = 0; index < count; index++) {
        const data = this.#next++
        const { servers } = this.world
        const position = yield* (servers[data % servers.length] as Server.Running).publisher.publish(
          this.#channel,
          data
        )
        this.published.push(data)
        expect(position?.offset).toBe(this.published.length)
      }
    })
  }

  /** Waits until the client has all, and compares. */
  get check() {
    return Effect.gen(this, function* () {
      yield* this.reader.until(() => this.reader.position?.offset === this.published.length, "the client has all")
      expect(this.reader.violations).toEqual([])
      expect(this.reader.log).toEqual(this.published.slice(this.begun))
    })
  }
}

type Step = FastCheck.AsyncCommand<Model, Run>

const step = (
  name: string,
  check: (model: Model) => boolean,
  run: (model: Model, real: Run) => Effect.Effect<void, unknown>
): Step => ({
  check,
  run: (model, real) =>
    Effect.runPromise(
      Effect.zipRight(
        run(model, real),
        Effect.suspend(() => (model.connected ? real.check : Effect.void))
      )
    ),
  toString: () => name
})

const published = (model: Model, count: number): void => {
  model.top += count
  model.first = Math.max(model.first, model.top - SIZE + 1)
  if (model.connected) model.client = { generation: model.generation, offset: model.top }
}

const publish = (count: number): Step =>
  step(
    `publish(${count})`,
    () => true,
    (model, real) => Effect.map(real.publish(count), () => published(model, count))
  )

const disconnect: Step = step(
  "disconnect",
  (model) => model.connected,
  (model, real) =>
    Effect.map(real.reader.disconnect, () => {
      model.connected = false
    })
)

/** The client is back: what it was told must be what the model says. `count` are published meanwhile. */
const reconnect = (server: number, count: number): Step =>
  step(
    `reconnect(${server}${count === 0 ? "" : `, while ${count} are published`})`,
    (model) => !model.connected,
    (model, real) =>
      Effect.gen(function* () {
        const before = { ...model }
        const [reply] = yield* Effect.all(
          [real.reader.connect((real.world.servers[server] as Server.Running).ws), real.publish(count)],
          { concurrency: "unbounded" }
        )
        published(model, count)
        const isComplete = ({ client, first, generation, top }: Model): boolean =>
          client?.generation === generation && (client.offset >= first - 1 || client.offset === top)
        expect(reply.was_recovering ?? false).toBe(before.client !== undefined)
        // What is published meanwhile may push out what it needs before it is read, or after.
        if (before.client !== undefined && isComplete(before) === isComplete({ ...model, client: before.client })) {
          expect(reply.recovered ?? false).toBe(isComplete(before))
        }
        if (reply.recovered !== true) real.begun = reply.offset ?? 0
        model.connected = true
        model.client = { generation: model.generation, offset: model.top }
      })
  )

const expire: Step = step(
  "expire",
  () => true,
  (model, real) =>
    Effect.map(real.world.expire(real.channel), () => {
      model.first = model.top + 1
    })
)

const remove: Step = step(
  "history_remove",
  () => true,
  (model, real) =>
    Effect.gen(function* () {
      const [server] = real.world.servers
      const response = yield* Effect.promise(() =>
        fetch(`${server?.http}/api/history_remove`, {
          method: "POST",
          headers: { "X-API-Key": "key" },
          body: JSON.stringify({ channel: real.channel })
        }).then((answer) => answer.text())
      )
      expect(response).toBe('{"result":{}}')
      model.first = model.top + 1
    })
)

/** The stream is lost. A client that is there is told within the period of the position check, and begins anew. */
const lose: Step = step(
  "lose",
  () => true,
  (model, real) =>
    Effect.gen(function* () {
      yield* real.world.lose(real.channel)
      real.published = []
      model.generation++
      model.top = 0
      model.first = 1
      if (!model.connected) return
      const { reader } = real
      yield* reader.until(() => !reader.isSubscribed, "the client is told")
      expect(reader.ended.at(-1)).toBe(2500)
      expect((yield* reader.subscribe()).recovered ?? false).toBe(false)
      real.begun = 0
      model.client = { generation: model.generation, offset: 0 }
    })
)

const script = FastCheck.commands(
  [
    FastCheck.integer({ min: 1, max: SIZE + 3 }).map(publish),
    FastCheck.constant(disconnect),
    FastCheck.tuple(FastCheck.integer({ min: 0, max: 1 }), FastCheck.constantFrom(0, 0, 1, 4, 9)).map(
      ([server, count]) => reconnect(server, count)
    ),
    FastCheck.constant(expire),
    FastCheck.constant(remove),
    FastCheck.constant(lose)
  ],
  { maxCommands: 24 }
)

const seed = Number(process.env["FANFARE_SEED"] ?? Date.now() % 2 ** 31)

describe("recovery is exact", () => {
  for (const [name, makeWorld] of [
    ["Broker.layerMemory", memoryWorld],
    ["Broker/Redis, two instances", redisWorld]
  ] as const) {
    for (const [how, way] of ways) {
      const runs = how === "as it comes" ? RUNS : RUNS_OTHERWISE
      live(
        `over ${name}, ${how}: ${runs} scripts of publish, disconnect, reconnect, trim, expiry, loss and removal`,
        () =>
          Effect.gen(function* () {
            const { options, used } = yield* way
            const world = yield* makeWorld(options)
            process.stdout.write(`recovery over ${name}, ${how}: seed ${seed}\n`)
            let count = 0
            const property = FastCheck.asyncProperty(script, async (commands) => {
              const real = new Run(world, `exact:${count++}`)
              const model: Model = { generation: 0, top: 0, first: 1, connected: false, client: undefined }
              try {
                await FastCheck.asyncModelRun(() => ({ model, real }), commands)
              } finally {
                await Effect.runPromise(real.reader.disconnect)
              }
            })
            yield* Effect.promise(() => FastCheck.assert(property, { numRuns: runs, seed }))
            expect(used()).toBeGreaterThan(0)
          }),
        240_000
      )
    }
  }
})
