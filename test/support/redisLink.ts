/** The broker of an instance over a Redis that may not be fit for one: its state, its log, its metrics. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Broker from "../../src/Broker.ts"
import * as RedisBroker from "../../src/Broker/Redis.ts"
import * as Metrics from "../../src/Metrics.ts"
import * as ServerConfig from "../../src/ServerConfig.ts"
import type * as Redis from "./redis.ts"
import { eventually, type NeverHappened } from "./wait.ts"

export interface Instance {
  readonly broker: Context.Tag.Service<Broker.Broker>
  readonly metrics: Context.Tag.Service<Metrics.Metrics>
  /** What was logged so far, a line each, from the level debug on. */
  readonly logs: ReadonlyArray<string>
  /** The lines of a level. */
  readonly lines: (level: "DEBUG" | "INFO" | "WARN" | "ERROR") => ReadonlyArray<string>
  /** How often what was missed was read. */
  readonly resyncs: () => number
  /** The data of what was heard. */
  readonly heard: ReadonlyArray<string>
  readonly becomes: (state: Broker.BrokerState["_tag"]) => Effect.Effect<Broker.BrokerState, NeverHappened>
  /** Waits until the link is degraded for a reason; returns it. */
  readonly fails: (reason: RegExp) => Effect.Effect<string, NeverHappened>
  /** Waits until Redis has refused so many commands of a kind. */
  readonly refuses: (kind: string, count: number) => Effect.Effect<void, NeverHappened>
}

export const start = (url: string, config: ServerConfig.Input = {}): Effect.Effect<Instance, never, Scope.Scope> =>
  Effect.gen(function* () {
    const logs: Array<string> = []
    const logger = Logger.make(({ logLevel, message }) => {
      logs.push(`${logLevel.label} ${Array.isArray(message) ? message.join(" ") : String(message)}`)
    })
    const context = yield* Layer.build(
      RedisBroker.layer(Redacted.make(url)).pipe(
        Layer.provideMerge(Metrics.layer),
        Layer.provide(Layer.orDie(ServerConfig.layer(config))),
        Layer.provide(Layer.merge(Logger.replace(Logger.defaultLogger, logger), Logger.minimumLogLevel(LogLevel.Debug)))
      )
    )
    const broker = Context.get(context, Broker.Broker)
    const metrics = Context.get(context, Metrics.Metrics)
    const heard: Array<string> = []
    let resyncs = 0
    yield* broker.attach({
      offer: (_, { data }) => void heard.push(data),
      isFull: () => false,
      writable: Effect.void,
      resync: Effect.sync(() => {
        resyncs++
      }),
      undecodable: () => undefined
    })
    return {
      broker,
      metrics,
      logs,
      lines: (level) => logs.filter((line) => line.startsWith(`${level} `)),
      resyncs: () => resyncs,
      heard,
      becomes: (tag) => eventually(broker.state.get, ({ _tag }) => _tag === tag, `the broker is ${tag}`),
      fails: (reason) =>
        Effect.map(
          eventually(
            broker.state.get,
            (state) => state._tag === "Degraded" && reason.test(state.cause),
            `the link fails: ${reason}`
          ),
          (state) => (state._tag === "Degraded" ? state.cause : "")
        ),
      refuses: (kind, count) =>
        Effect.asVoid(
          eventually(
            Effect.sync(() => metrics.brokerRefusals(kind).value),
            (value) => value >= count,
            `${count} refusals: ${kind}`
          )
        )
    }
  })

/** Makes `replica` a replica of `master`, and waits until it has all of it. */
export const follow = (replica: Redis.Redis, master: Redis.Redis): Effect.Effect<void, NeverHappened> =>
  Effect.gen(function* () {
    yield* replica.use((client) => client.replicaof("127.0.0.1", master.port))
    yield* eventually(
      replica.use((client) => client.info("replication")),
      (info) => info.includes("master_link_status:up"),
      "the replica has synchronised"
    )
  })

/** The connections of instances to a Redis, by the names that they give; `use` runs a command there. */
export const connections = ({ use }: Pick<Redis.Redis, "use">): Effect.Effect<ReadonlyArray<string>> =>
  Effect.map(
    use((client) => client.client("LIST")),
    (list) =>
      Array.from(String(list).matchAll(/id=(\d+) .*name=(fanfare-\w+)/g), ([, id, name]) => `${name} ${id}`).toSorted()
  )
