/** Brokers for the port's suite: several instances that talk to each other, over each adapter. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Broker from "../../src/Broker.ts"
import * as RedisBroker from "../../src/Broker/Redis.ts"
import * as Metrics from "../../src/Metrics.ts"
import type { Publication } from "../../src/protocol/Publication.ts"
import * as ServerConfig from "../../src/ServerConfig.ts"
import * as Redis from "./redis.ts"
import { eventually, type NeverHappened, Watched } from "./wait.ts"

export interface Instance {
  readonly broker: Context.Tag.Service<Broker.Broker>
  /** What the sink got, in order. */
  readonly heard: ReadonlyArray<readonly [channel: string, publication: Publication]>
  /** Waits until so many were heard. */
  readonly hears: (count: number) => Effect.Effect<void, NeverHappened>
  /** Makes the sink full, or gives it room. */
  readonly setFull: (full: boolean) => Effect.Effect<void>
}

/** One instance: a broker and a sink that keeps what it gets. */
export const instance = (
  layer: Layer.Layer<Broker.Broker, never, ServerConfig.ServerConfig | Metrics.Metrics>,
  config: ServerConfig.Input = {}
): Effect.Effect<Instance, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const context = yield* Layer.build(
      layer.pipe(Layer.provide(Metrics.layer), Layer.provide(ServerConfig.layer(config)))
    )
    const broker = Context.get(context, Broker.Broker)
    const watched = new Watched()
    const heard: Array<readonly [string, Publication]> = []
    const room = yield* Effect.makeLatch(true)
    let full = false
    yield* broker.attach({
      offer: (channel, publication) => {
        heard.push([channel, publication])
        watched.changed()
      },
      isFull: () => full,
      writable: room.await,
      resync: Effect.void,
      undecodable: () => heard.push(["undecodable", { data: "", json: false }])
    })
    yield* eventually(Broker.isLive(broker), (isLive) => isLive, "the broker is live")
    return {
      broker,
      heard,
      hears: (count) =>
        watched.until(
          () => heard.length >= count,
          () => `${count} heard; ${heard.length} were`
        ),
      setFull: (next) =>
        Effect.suspend(() => {
          full = next
          return next ? room.close : room.open
        })
    }
  })

/** An adapter under test: makes the instances of one cluster. `memory` has one. */
export interface Adapter {
  readonly name: string
  readonly cluster: (instances: number) => Effect.Effect<ReadonlyArray<Instance>, unknown, Scope.Scope>
}

export const adapters: ReadonlyArray<Adapter> = [
  {
    name: "Broker.layerMemory",
    cluster: (instances) =>
      Effect.map(instance(Broker.layerMemory), (one) => Array.from({ length: instances }, () => one))
  },
  {
    name: "Broker/Redis",
    cluster: (instances) =>
      Effect.gen(function* () {
        const redis = yield* Redis.start()
        return yield* Effect.all(
          Array.from({ length: instances }, () => instance(RedisBroker.layer(Redacted.make(redis.url))))
        )
      })
  }
]
