/** Fanfare in the test's process, built from the same layers as the program. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import type * as Scope from "effect/Scope"
import * as Broker from "../../src/Broker.ts"
import * as Cluster from "../../src/Cluster.ts"
import * as Connections from "../../src/Connections.ts"
import * as Hooks from "../../src/Hooks.ts"
import * as Metrics from "../../src/Metrics.ts"
import * as Presence from "../../src/Presence.ts"
import * as Publisher from "../../src/Publisher.ts"
import * as Server from "../../src/Server.ts"
import * as ServerConfig from "../../src/ServerConfig.ts"
import { eventually } from "./wait.ts"

export interface Running {
  readonly port: number
  /** `http://127.0.0.1:…` */
  readonly http: string
  /** `ws://127.0.0.1:…` */
  readonly ws: string
  readonly publisher: Context.Tag.Service<Publisher.Publisher>
  readonly broker: Context.Tag.Service<Broker.Broker>
  readonly cluster: Context.Tag.Service<Cluster.Cluster>
  readonly connections: Context.Tag.Service<Connections.Connections>
  readonly presence: Context.Tag.Service<Presence.Presence>
  readonly metrics: Context.Tag.Service<Metrics.Metrics>
  /** What was logged so far, a line each. */
  readonly logs: ReadonlyArray<string>
}

export interface Options {
  readonly config?: ServerConfig.Input
  readonly hooks?: Partial<Context.Tag.Service<Hooks.Hooks>>
  /** Decides in place of the configuration, and in the step in which it is asked; then `hooks` are not. */
  readonly decides?: Partial<Context.Tag.Service<Hooks.Hooks>>
  /** What the server runs on, such as another clock. */
  readonly layer?: Layer.Layer<never>
}

const inPlace = (hooks: Partial<Context.Tag.Service<Hooks.Hooks>>) =>
  Layer.effect(
    Hooks.Hooks,
    Effect.map(Hooks.Hooks, (base) => Hooks.Hooks.of({ ...base, ...hooks }))
  ).pipe(Layer.provide(Hooks.layerConfig))

/** Starts a server on a free port and waits until its broker is live; it is drained when the scope closes. */
export const start = (options: Options = {}): Effect.Effect<Running, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const logs: Array<string> = []
    const logger = Logger.make(({ logLevel, message }) => {
      logs.push(`${logLevel.label} ${Array.isArray(message) ? message.join(" ") : String(message)}`)
    })
    const layer = Server.layerStandalone.pipe(
      Layer.provide(options.decides === undefined ? Hooks.layer(options.hooks ?? {}) : inPlace(options.decides)),
      Layer.provide(ServerConfig.layer({ port: 0, ...options.config })),
      Layer.provide(
        Layer.mergeAll(
          Logger.replace(Logger.defaultLogger, logger),
          Logger.minimumLogLevel(LogLevel.Debug),
          options.layer ?? Layer.empty
        )
      )
    )
    const context = yield* Layer.build(layer)
    const { port } = Context.get(context, Server.Address)
    const broker = Context.get(context, Broker.Broker)
    yield* eventually(Broker.isLive(broker), (isLive) => isLive, "the broker is live")
    return {
      port,
      http: `http://127.0.0.1:${port}`,
      ws: `ws://127.0.0.1:${port}`,
      publisher: Context.get(context, Publisher.Publisher),
      broker,
      cluster: Context.get(context, Cluster.Cluster),
      connections: Context.get(context, Connections.Connections),
      presence: Context.get(context, Presence.Presence),
      metrics: Context.get(context, Metrics.Metrics),
      logs
    }
  })
