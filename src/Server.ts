/** The whole server: composes the layers, and picks the broker. */
import * as Etag from "@effect/platform/Etag"
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodeHttpPlatform from "@effect/platform-node/NodeHttpPlatform"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodePath from "@effect/platform-node/NodePath"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Buffer } from "node:buffer"
import { createServer, type Server as NodeServer, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import type { Duplex } from "node:stream"
import * as Broker from "./Broker.ts"
import * as RedisBroker from "./Broker/Redis.ts"
import * as Connections from "./Connections.ts"
import * as Hooks from "./Hooks.ts"
import * as Api from "./http/Api.ts"
import * as Health from "./http/Health.ts"
import { intercept } from "./http/Listeners.ts"
import * as Page from "./http/Page.ts"
import * as ServerApi from "./http/ServerApi.ts"
import * as Hub from "./Hub.ts"
import { atMost } from "./internal/time.ts"
import * as Metrics from "./Metrics.ts"
import * as Publisher from "./Publisher.ts"
import * as ServerConfig from "./ServerConfig.ts"
import * as Upgrade from "./transport/Upgrade.ts"

/** The HTTP server on whose requests and upgrades Fanfare listens. Its owner listens on a port and closes it. */
export class HttpServer extends Context.Tag("fanfare/HttpServer")<HttpServer, NodeServer>() {}

/** The address cannot be listened on. */
export class ListenError extends Data.TaggedError("ListenError")<{
  readonly message: string
  readonly cause: unknown
}> {}

/** What a server offers to the program around it. */
export type Provided = Publisher.Publisher | Broker.Broker | Connections.Connections | Metrics.Metrics

type Claim = "own paths" | "everything"

const attach = (claim: Claim) =>
  Effect.gen(function* () {
    const server = yield* HttpServer
    const connections = yield* Connections.Connections
    const app = yield* HttpApiBuilder.httpApp
    const handle = yield* NodeHttpServer.makeHandler(app)
    const upgrade = yield* Upgrade.make

    const othersUpgrade = server.listenerCount("upgrade") > 0

    yield* intercept(server, "request", (request, response: ServerResponse) => {
      if (claim === "own paths" && !Api.owns(request.url ?? "")) return false
      handle(request, response)
      return true
    })
    yield* intercept(server, "upgrade", (request, socket: Duplex, head: Buffer) => {
      if (Upgrade.owns(request.url ?? "")) {
        upgrade(request, socket, head)
        return true
      }
      // With an upgrade listener of any kind, Node closes no socket by itself any more.
      if (!othersUpgrade && server.listenerCount("upgrade") === 1) Upgrade.answer(socket, 404, "not found")
      return false
    })
    // Runs first when the scope closes: while clients leave, health is still answered.
    yield* Effect.addFinalizer(() => connections.drain)
  })

const api = Layer.mergeAll(
  HttpApiBuilder.api(Api.Api),
  HttpApiBuilder.Router.Live,
  HttpApiBuilder.Middleware.layer
).pipe(Layer.provide(Layer.mergeAll(Health.layer, ServerApi.layer, Page.layer)))

// NodeHttpServer.layerContext would open the terminal too, and with it stdin.
const platform = Layer.mergeAll(NodeHttpPlatform.layer, Etag.layerWeak, NodeFileSystem.layer, NodePath.layer)

const layerAttached = (claim: Claim) =>
  Layer.scopedDiscard(attach(claim)).pipe(
    Layer.provide(Layer.mergeAll(api, platform)),
    Layer.provideMerge(Layer.mergeAll(Connections.layer, Publisher.layer)),
    Layer.provide(Hub.layer)
  )

const over = <E, R>(claim: Claim, broker: Layer.Layer<Broker.Broker, E, R>) =>
  layerAttached(claim).pipe(Layer.provideMerge(broker), Layer.provideMerge(Metrics.layer))

/** The server over a broker of one's own. */
export const layerWithBroker = <E, R>(
  broker: Layer.Layer<Broker.Broker, E, R | Metrics.Metrics>
): Layer.Layer<
  Provided,
  E | ServerConfig.ConfigError,
  Exclude<R, Metrics.Metrics> | HttpServer | Hooks.Hooks | ServerConfig.ServerConfig
> => over("own paths", broker)

/** Redis where `redis_url` is set, else in process. */
const layerBroker: Layer.Layer<Broker.Broker, never, ServerConfig.ServerConfig | Metrics.Metrics> = Layer.unwrapEffect(
  Effect.map(ServerConfig.ServerConfig, (config) =>
    config.redis_url === undefined ? Broker.layerMemory : RedisBroker.layer(config.redis_url)
  )
)

/**
 * Fanfare inside a program: on an HTTP server of the program's, beside its own
 * routes and upgrades. It claims `/connection/websocket`, `/channels/…`,
 * `/api/…`, `/health/…` and `/metrics`. Closing the scope drains it and takes
 * its listeners off; the HTTP server stays.
 */
export const layer: Layer.Layer<
  Provided,
  ServerConfig.ConfigError,
  HttpServer | Hooks.Hooks | ServerConfig.ServerConfig
> = layerWithBroker(layerBroker)

/** What an HTTP client has to send its headers. */
const HEADERS_TIMEOUT = Duration.seconds(10)
/** What an HTTP client has to send its whole request. */
const REQUEST_TIMEOUT = Duration.seconds(30)
/** What requests that are under way have to finish once the server closes. */
const CLOSE_TIMEOUT = Duration.seconds(2)

const closeServer = (server: NodeServer): Effect.Effect<void> =>
  Effect.async<void>((resume) => {
    server.close(() => resume(Effect.void))
    server.closeIdleConnections()
  }).pipe(atMost(CLOSE_TIMEOUT), Effect.zipRight(Effect.sync(() => server.closeAllConnections())))

const layerHttpServer: Layer.Layer<HttpServer> = Layer.scoped(
  HttpServer,
  Effect.acquireRelease(
    Effect.sync(() =>
      createServer({
        headersTimeout: Duration.toMillis(HEADERS_TIMEOUT),
        requestTimeout: Duration.toMillis(REQUEST_TIMEOUT)
      })
    ),
    closeServer
  )
)

/** Listens; a scope's end does not undo it, closing the server does. */
const listen = (server: NodeServer, host: string, port: number): Effect.Effect<AddressInfo, ListenError> =>
  Effect.async((resume) => {
    const onError = (cause: Error): void =>
      resume(Effect.fail(new ListenError({ message: `cannot listen on ${host}:${port}: ${cause.message}`, cause })))
    server.once("error", onError)
    server.listen(port, host, () => {
      server.off("error", onError)
      resume(Effect.succeed(server.address() as AddressInfo))
    })
  })

/** The address that a standalone server listens on. */
export class Address extends Context.Tag("fanfare/Address")<Address, AddressInfo>() {}

const layerListening = Layer.effect(
  Address,
  Effect.gen(function* () {
    const { host, port } = yield* ServerConfig.ServerConfig
    return yield* listen(yield* HttpServer, host, port)
  })
)

/**
 * A server of its own, listening on `host` and `port`, with the page at `/`.
 * Closing the scope drains it and closes its HTTP server.
 */
export const layerStandalone: Layer.Layer<
  Provided | Address,
  ServerConfig.ConfigError | ListenError,
  Hooks.Hooks | ServerConfig.ServerConfig
> = layerListening.pipe(Layer.provideMerge(over("everything", layerBroker)), Layer.provide(layerHttpServer))

/** Runs a server until interrupted, for programs that are nothing else. */
export const launch = Layer.launch(layerStandalone)
