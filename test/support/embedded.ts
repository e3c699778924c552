/** Fanfare on an HTTP server of a program's own, in the test's process. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Scope from "effect/Scope"
import { createServer, type RequestListener, type Server as NodeServer } from "node:http"
import type { AddressInfo } from "node:net"
import * as Hooks from "../../src/Hooks.ts"
import * as Metrics from "../../src/Metrics.ts"
import * as Publisher from "../../src/Publisher.ts"
import * as Server from "../../src/Server.ts"
import * as ServerConfig from "../../src/ServerConfig.ts"

export interface Options {
  readonly hooks?: Partial<Context.Tag.Service<Hooks.Hooks>>
  readonly config?: ServerConfig.Input
}

/** Has a server listen on a free port; it is closed when the scope closes. */
export const listen = <S extends NodeServer>(server: S): Effect.Effect<S, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.async<S>((resume) => {
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    () =>
      Effect.async<void>((resume) => {
        server.close(() => resume(Effect.void))
        server.closeAllConnections()
      })
  )

/** An HTTP server of the program's own that listens. */
export const web = (listener?: RequestListener): Effect.Effect<NodeServer, never, Scope.Scope> =>
  Effect.suspend(() => listen(listener === undefined ? createServer() : createServer(listener)))

export const portOf = (server: NodeServer): number => (server.address() as AddressInfo).port

/** Builds Fanfare on it, in a scope of its own that `close` closes. */
export const embed = (server: NodeServer, { config = {}, hooks = {} }: Options = {}) =>
  Effect.gen(function* () {
    const scope = yield* Effect.acquireRelease(Scope.make(), (owned) => Scope.close(owned, Exit.void))
    const logs: Array<string> = []
    const logger = Logger.make(({ logLevel, message }) => {
      logs.push(`${logLevel.label} ${Array.isArray(message) ? message.join(" ") : String(message)}`)
    })
    const layer = Server.layer.pipe(
      Layer.provide([Hooks.layer(hooks), Layer.succeed(Server.HttpServer, server)]),
      Layer.provide(ServerConfig.layer(config)),
      Layer.provide([Logger.replace(Logger.defaultLogger, logger), Logger.minimumLogLevel(LogLevel.Debug)])
    )
    const context = yield* Layer.buildWithScope(layer, scope)
    return {
      port: portOf(server),
      ws: `ws://127.0.0.1:${portOf(server)}`,
      http: `http://127.0.0.1:${portOf(server)}`,
      publisher: Context.get(context, Publisher.Publisher),
      metrics: Context.get(context, Metrics.Metrics),
      /** What was logged so far, a line each. */
      logs,
      close: Scope.close(scope, Exit.void)
    }
  })
