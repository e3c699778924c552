/** The whole server: composes the layers, and picks the broker. */
import * as Etag from "@effect/platform/Etag"
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import type * as HttpApp from "@effect/platform/HttpApp"
import * as HttpMiddleware from "@effect/platform/HttpMiddleware"
import type * as HttpRouter from "@effect/platform/HttpRouter"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodeHttpPlatform from "@effect/platform-node/NodeHttpPlatform"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodePath from "@effect/platform-node/NodePath"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Predicate from "effect/Predicate"
import * as Runtime from "effect/Runtime"
import { createServer, type IncomingMessage, type Server as NodeServer } from "node:http"
import type { AddressInfo } from "node:net"
import * as Broker from "./Broker.ts"
import * as RedisBroker from "./Broker/Redis.ts"
import * as Clients from "./Clients.ts"
import * as Cluster from "./Cluster.ts"
import * as Connections from "./Connections.ts"
import * as Hooks from "./Hooks.ts"
import * as Api from "./http/Api.ts"
import * as Attachment from "./http/Attachment.ts"
import * as Authorization from "./http/Authorization.ts"
import * as Body from "./http/Body.ts"
import * as Docs from "./http/Docs.ts"
import * as Health from "./http/Health.ts"
import * as NotServed from "./http/NotServed.ts"
import * as Page from "./http/Page.ts"
import { destroyWaiting } from "./http/PutBack.ts"
import { ending } from "./http/Response.ts"
import * as ServerApi from "./http/ServerApi.ts"
import * as Hub from "./Hub.ts"
import * as Instance from "./Instance.ts"
import { clocks } from "./internal/clock.ts"
import { atMost } from "./internal/time.ts"
import * as Metrics from "./Metrics.ts"
import * as Presence from "./Presence.ts"
import * as RedisPresence from "./Presence/Redis.ts"
import * as Publisher from "./Publisher.ts"
import * as ServerConfig from "./ServerConfig.ts"
import * as Telemetry from "./Telemetry.ts"
import * as Tracing from "./Tracing.ts"
import * as Handshake from "./transport/Handshake.ts"
import * as Target from "./transport/Target.ts"
import * as Listening from "./transport/Listening.ts"
import * as Upgrade from "./transport/Upgrade.ts"
import { version } from "./version.ts"

/** The HTTP server on whose requests and upgrades Fanfare listens. Its owner listens on a port and closes it. */
export class HttpServer extends Context.Tag("fanfare/HttpServer")<HttpServer, NodeServer>() {}

/** The address cannot be listened on. */
export class ListenError extends Data.TaggedError("ListenError")<{
  readonly message: string
  readonly cause: unknown
}> {}

/** What a server offers to the program around it. */
export type Provided =
  | Publisher.Publisher
  | Broker.Broker
  | Cluster.Cluster
  | Connections.Connections
  | Metrics.Metrics
  | Presence.Presence

/** The HTTP server of `http_server.internal_port`; none where that is off. */
class InternalServer extends Context.Tag("fanfare/InternalServer")<InternalServer, NodeServer | undefined>() {}

/** What is served on an HTTP server. */
interface Site {
  /** Over HTTP. */
  readonly parts: ReadonlyArray<Api.Route["part"]>
  readonly hasSockets: boolean
  /** Whether the server is a program's, and so whatever is not served. */
  readonly isShared: boolean
}

const INTERNAL: Site["parts"] = ["server", "health", "docs"]

const everything: Site = { parts: ["page", ...INTERNAL], hasSockets: true, isShared: false }

/** The main server beside an internal one. */
const withoutInternal: Site = { ...everything, parts: ["page"] }

const internalOnly: Site = { parts: INTERNAL, hasSockets: false, isShared: false }

const attach = (site: Site, internal: NodeServer | undefined) =>
  Effect.gen(function* () {
    const server = yield* HttpServer
    const connections = yield* Connections.Connections
    const metrics = yield* Metrics.Metrics
    const app: HttpApp.Default<unknown, HttpRouter.HttpRouter.DefaultServices> = yield* HttpApiBuilder.httpApp
    const upgrade = yield* Upgrade.make
    const isTraced = yield* Tracing.isOn
    const config = yield* ServerConfig.ServerConfig
    const { http_server } = config
    const below = (url: string | undefined): string | undefined => Target.below(http_server.handler_prefix, url ?? "")
    const isOfMethod = ({ headers, url }: HttpServerRequest.HttpServerRequest): boolean =>
      Api.methodOf(below(url) ?? "") !== undefined && Authorization.hasKey(config, headers)

    const serve = ({ hasSockets, isShared, parts }: Site, on: NodeServer) =>
      Effect.gen(function* () {
        const notServed = NotServed.make(http_server.handler_prefix, metrics, hasSockets)
        const routeOf = (target: string | undefined): Api.Route | undefined => {
          const route = target === undefined ? undefined : Api.routeOf(target)
          return route !== undefined && parts.includes(route.part) ? route : undefined
        }
        const served = Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => {
          const url = below(request.url)
          const route = routeOf(url)
          if (url === undefined || route === undefined) return notServed(request)
          const routed = Effect.catchIf(app, Predicate.isTagged("RouteNotFound"), () => notServed(request, route.allow))
          return url === request.url
            ? routed
            : Effect.provideService(routed, HttpServerRequest.HttpServerRequest, request.modify({ url }))
        })
        const leaving = isShared ? served : Body.closingWhile(() => connections.phase() !== "Open", served)
        // Probes and scrapes would be most of the traces; and a stranger must not decide what is recorded.
        const handle = yield* NodeHttpServer.makeHandler(Body.leavingUnread(leaving)).pipe(
          HttpMiddleware.withTracerDisabledWhenEffect((request) => !isTraced || !isOfMethod(request)),
          Effect.provideService(
            HttpMiddleware.SpanNameGenerator,
            ({ method, url }) => `${method} /api/${Api.methodOf(below(url) ?? "")}`
          )
        )
        const socketOf = (request: IncomingMessage) => Target.kindOf(below(request.url) ?? "")
        yield* Attachment.attach(on, {
          takesRequest: (request) => {
            if (!isShared || routeOf(below(request.url)) !== undefined) return true
            const kind = socketOf(request)
            // A program may have pages at /channels/….
            return kind === "protocol" || (kind === "plain" && Handshake.isMeant(request))
          },
          // Without sockets, what offers an upgrade is answered as the request that it is.
          takesUpgrade: (request) =>
            isShared ? socketOf(request) !== undefined : hasSockets || routeOf(below(request.url)) === undefined,
          request: (request, response) => handle(request, ending(request, response)),
          upgrade: hasSockets
            ? upgrade.accept
            : (request, socket) => upgrade.refuse(request, socket, NotServed.NOT_HERE)
        })
      })

    yield* serve(site, server)
    if (internal !== undefined) yield* serve(internalOnly, internal)
  })

/** On the server of a program, beside what is its own there. */
const attachBeside = Effect.gen(function* () {
  const { http_api, http_server } = yield* ServerConfig.ServerConfig
  if (http_server.internal_port !== 0) {
    yield* Effect.logWarning(
      "http_server.internal_port: not used by an embedded server, which serves everything on its own"
    )
  }
  const parts: Site["parts"] = http_api.key === undefined ? ["health"] : INTERNAL
  yield* attach({ parts, hasSockets: true, isShared: true }, undefined)
  const connections = yield* Connections.Connections
  // Runs first when the scope closes: while clients leave, health is still answered.
  yield* Effect.addFinalizer(() => connections.drain)
})

const attachStandalone = Effect.gen(function* () {
  const server = yield* HttpServer
  const internal = yield* InternalServer
  const connections = yield* Connections.Connections
  const { shutdown } = yield* ServerConfig.ServerConfig
  yield* attach(internal === undefined ? everything : withoutInternal, internal)
  // Once balancers have had the time to notice. What comes after that is told to close the connection.
  const closeIdle = Effect.sync(() => {
    server.closeIdleConnections()
    internal?.closeIdleConnections()
  }).pipe(Effect.delay(shutdown.delay))
  yield* Effect.addFinalizer(() => Effect.all([connections.drain, closeIdle], { concurrency: 2, discard: true }))
})

/** Gives what attaches to the HTTP server where that listens; `host` where the server does so by itself. */
const listeningOn = <A, E, R>(attached: Effect.Effect<A, E, R>, host?: string) =>
  Effect.provideServiceEffect(
    attached,
    Listening.Listening,
    Effect.flatMap(HttpServer, (server) => Listening.make(server, host))
  )

/** On the server of a program, which listens where it likes. */
const embedded = listeningOn(attachBeside)

/** On a server that listens on the option `host`. */
const standalone = Effect.flatMap(ServerConfig.ServerConfig, ({ host }) => listeningOn(attachStandalone, host))

const api = Layer.mergeAll(
  HttpApiBuilder.api(Api.Api),
  HttpApiBuilder.Router.Live,
  HttpApiBuilder.Middleware.layer
).pipe(
  Layer.provide(
    Layer.mergeAll(Health.layer, ServerApi.layer.pipe(Layer.provide(Authorization.layer)), Docs.layer, Page.layer)
  )
)

// NodeHttpServer.layerContext would open the terminal too, and with it stdin.
const platform = Layer.mergeAll(NodeHttpPlatform.layer, Etag.layerWeak, NodeFileSystem.layer, NodePath.layer)

/** What connects the instances: publications, and who is where. */
type Shared = Broker.Broker | Presence.Presence

/** Everything but the HTTP servers, and the configuration. */
const over = <E0, R0, E, R>(attached: Effect.Effect<void, E0, R0>, shared: Layer.Layer<Shared, E, R>) =>
  Layer.scopedDiscard(attached).pipe(
    Layer.provide(Layer.mergeAll(api, platform)),
    Layer.provideMerge(Layer.mergeAll(Connections.layer, Publisher.layer)),
    Layer.provideMerge(Cluster.layer),
    Layer.provide(Layer.mergeAll(Hub.layer, Clients.layer, Instance.layer)),
    Layer.provideMerge(shared),
    Layer.provideMerge(Metrics.layer),
    Layer.provide(Telemetry.layer.pipe(Layer.provide(Instance.layer)))
  )

/** The server over a broker of one's own; with more than one instance, `presence` has to be shared as well. */
export const layerWithBroker = <E, R>(
  broker: Layer.Layer<Broker.Broker, E, R | Metrics.Metrics>,
  presence: Layer.Layer<Presence.Presence, E, R | Metrics.Metrics> = Presence.layerMemory
): Layer.Layer<
  Provided,
  E | ServerConfig.ConfigError,
  Exclude<R, Metrics.Metrics> | HttpServer | Hooks.Hooks | ServerConfig.ServerConfig
> => over(embedded, Layer.merge(broker, presence))

/** Redis where `redis_url` is set, else in process. */
const layerShared: Layer.Layer<Shared, never, ServerConfig.ServerConfig | Metrics.Metrics> = Layer.unwrapEffect(
  Effect.map(
    ServerConfig.ServerConfig,
    (config): Layer.Layer<Shared, never, ServerConfig.ServerConfig | Metrics.Metrics> =>
      config.redis_url === undefined
        ? Layer.merge(Broker.layerMemory, Presence.layerMemory)
        : Layer.provideMerge(RedisPresence.layer, RedisBroker.layer(config.redis_url))
  )
)

/**
 * Fanfare inside a program: on an HTTP server of the program's, beside its own
 * routes and upgrades. It takes what it serves, below
 * `http_server.handler_prefix`, and nothing else: WebSocket handshakes on
 * `/connection/websocket` and `/channels/{channel}`, requests to
 * `/health/live`, `/health/ready` and `/metrics`, and with an `http_api.key` to
 * the methods of the server API, `/openapi.json` and `/docs`. It does not
 * matter who listens on the HTTP server first, or how often. Closing the scope
 * drains it and takes it off; the HTTP server stays as it is.
 */
export const layer: Layer.Layer<
  Provided,
  ServerConfig.ConfigError,
  HttpServer | Hooks.Hooks | ServerConfig.ServerConfig
> = over(embedded, layerShared)

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
  }).pipe(
    atMost(CLOSE_TIMEOUT),
    Effect.zipRight(
      Effect.sync(() => {
        server.closeAllConnections()
        destroyWaiting(server)
      })
    )
  )

const makeServer = (keepAlive: Duration.Duration): NodeServer =>
  createServer({
    keepAliveTimeout: Duration.toMillis(keepAlive),
    headersTimeout: Duration.toMillis(HEADERS_TIMEOUT),
    requestTimeout: Duration.toMillis(REQUEST_TIMEOUT)
  })

const layerHttpServers: Layer.Layer<HttpServer | InternalServer, never, ServerConfig.ServerConfig> =
  Layer.scopedContext(
    Effect.gen(function* () {
      const { http_server } = yield* ServerConfig.ServerConfig
      const acquire = Effect.acquireRelease(
        Effect.sync(() => makeServer(http_server.keep_alive_timeout)),
        closeServer
      )
      const servers = Effect.all([acquire, http_server.internal_port === 0 ? Effect.void : acquire])
      // Both close at the same time: what has to be waited for is waited for once.
      const [main, internal] = yield* Effect.parallelFinalizers(servers)
      return Context.make(HttpServer, main).pipe(Context.add(InternalServer, internal ?? undefined))
    })
  )

/** Connections that the system does not hand over come in crowds: so much time between two lines about them. */
const NOT_ACCEPTED_INTERVAL = Duration.seconds(10)

/**
 * A listener for what goes wrong with a server that listens: a connection that the
 * system could not hand over (ENOBUFS, a firewall's EPERM). It costs that
 * connection; without a listener it would cost the process.
 */
const notAccepted = (address: string): Effect.Effect<(cause: Error) => void> =>
  Effect.gen(function* () {
    const { monotonic } = yield* clocks
    const runFork = Runtime.runFork(yield* Effect.runtime<never>())
    let saidAt = -Infinity
    return (cause) => {
      const now = monotonic()
      if (now - saidAt < Duration.toMillis(NOT_ACCEPTED_INTERVAL)) return
      saidAt = now
      runFork(Effect.logWarning(`a connection to ${address} was not accepted: ${cause.message}`))
    }
  })

/** Listens; a scope's end does not undo it, closing the server does. */
const listen = (server: NodeServer, host: string, port: number): Effect.Effect<AddressInfo, ListenError> =>
  Effect.flatMap(notAccepted(`${host}:${port}`), (onceListening) =>
    Effect.async((resume) => {
      const onError = (cause: Error): void =>
        resume(Effect.fail(new ListenError({ message: `cannot listen on ${host}:${port}: ${cause.message}`, cause })))
      server.once("error", onError)
      server.listen(port, host, () => {
        server.off("error", onError)
        server.on("error", onceListening)
        resume(Effect.succeed(server.address() as AddressInfo))
      })
    })
  )

/** The address that a standalone server listens on. */
export class Address extends Context.Tag("fanfare/Address")<Address, AddressInfo>() {}

const layerListening = Layer.effect(
  Address,
  Effect.gen(function* () {
    const { host, http_server, port } = yield* ServerConfig.ServerConfig
    const internal = yield* InternalServer
    // First, so that nobody connects to a server that then does not start.
    if (internal !== undefined) {
      yield* listen(internal, http_server.internal_host ?? host, http_server.internal_port)
    }
    return yield* listen(yield* HttpServer, host, port)
  })
)

/**
 * A server of its own, listening on `host` and `port`, with the page at `/`;
 * with `http_server.internal_port`, what is not for clients is served there
 * alone. Closing the scope drains it and closes its HTTP servers.
 */
export const layerStandalone: Layer.Layer<
  Provided | Address,
  ServerConfig.ConfigError | ListenError,
  Hooks.Hooks | ServerConfig.ServerConfig
> = layerListening.pipe(Layer.provideMerge(over(standalone, layerShared)), Layer.provide(layerHttpServers))

/** The URL of an address that is listened on, for people: `localhost` where it is 127.0.0.1. */
const urlOf = ({ address, family, port }: AddressInfo): string =>
  `http://${family === "IPv6" ? `[${address}]` : address === "127.0.0.1" ? "localhost" : address}:${port}`

/** Runs a server until interrupted, for programs that are nothing else. Logs the address once it listens. */
export const launch: Effect.Effect<
  never,
  ServerConfig.ConfigError | ListenError,
  Hooks.Hooks | ServerConfig.ServerConfig
> = Layer.launch(
  Layer.effectDiscard(
    Effect.flatMap(Address, (address) => Effect.logInfo(`fanfare ${version} listening on ${urlOf(address)}`))
  ).pipe(Layer.provide(layerStandalone))
)
