/**
 * From an HTTP upgrade request to a running connection. Everything that can be
 * refused is refused before the handshake, with a status, a line of text and a
 * line in the log that says what would permit it; a plain socket is subscribed
 * before its handshake is completed, so that an open socket misses nothing.
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as FiberSet from "effect/FiberSet"
import { constVoid } from "effect/Function"
import type * as Scope from "effect/Scope"
import type { Buffer } from "node:buffer"
import { randomUUID } from "node:crypto"
import type { IncomingMessage } from "node:http"
import type { Duplex } from "node:stream"
import * as Broker from "../Broker.ts"
import * as Clients from "../Clients.ts"
import type * as Connection from "../Connection.ts"
import * as Connections from "../Connections.ts"
import * as Hooks from "../Hooks.ts"
import * as Hub from "../Hub.ts"
import * as Instance from "../Instance.ts"
import { clocks } from "../internal/clock.ts"
import { within } from "../internal/time.ts"
import * as Metrics from "../Metrics.ts"
import * as Namespace from "../Namespace.ts"
import * as Codes from "../protocol/Codes.ts"
import * as Presence from "../Presence.ts"
import type { ClientInfo } from "../protocol/Publication.ts"
import * as Publisher from "../Publisher.ts"
import * as ServerConfig from "../ServerConfig.ts"
import { commandSpan, named } from "../Session.ts"
import * as Plain from "../Session/Plain.ts"
import * as Protocol from "../Session/Protocol.ts"
import * as Tracing from "../Tracing.ts"
import * as Listening from "./Listening.ts"
import * as Origin from "./Origin.ts"
import * as Proxy from "./Proxy.ts"
import { answer, badQuery, brokerRefusal, type Refusal, refusalOf, RETRY_AFTER_SECONDS } from "./Refusal.ts"
import * as Target from "./Target.ts"
import * as Transport from "./WebSocket.ts"

/** The subprotocol of clients that speak the client protocol in its other encoding. */
const PROTOBUF = "centrifuge-protobuf"

/** What a plain socket asks for in its query. */
interface PlainRequest {
  readonly about: Plain.About
  /** The last so many publications, first. */
  readonly last: number
}

/** Reads of presence for clients at a time: each may be as long as `client.reply_max_size`. */
const PRESENCE_READS = 8

const bearer = (request: IncomingMessage): string =>
  /^bearer (.+)$/i.exec(request.headers.authorization ?? "")?.[1] ?? ""

/** Has an effect log which upgrade it is about. */
const about = (client: string, asked: Target.Target): (<A, E>(effect: Effect.Effect<A, E>) => Effect.Effect<A, E>) =>
  Effect.annotateLogs(asked._tag === "Plain" ? { client, channel: asked.channel } : { client })

/** What is done with upgrades. */
export interface Upgrade {
  /** Makes a connection of one, or refuses it. */
  readonly accept: (request: IncomingMessage, socket: Duplex, head: Buffer) => void
  /** Answers one whose path is known to be wrong. */
  readonly refuse: (request: IncomingMessage, socket: Duplex, message: string) => void
}

/**
 * Connections run in the scope: when it closes, those that a drain has left are
 * terminated.
 */
export const make: Effect.Effect<
  Upgrade,
  ServerConfig.ConfigError,
  | Scope.Scope
  | Broker.Broker
  | Clients.Clients
  | Connections.Connections
  | Hooks.Hooks
  | Hub.Hub
  | Instance.Instance
  | Listening.Listening
  | Metrics.Metrics
  | Presence.Presence
  | Publisher.Publisher
  | ServerConfig.ServerConfig
> = Effect.gen(function* () {
  const config = yield* ServerConfig.ServerConfig
  const metrics = yield* Metrics.Metrics
  const hooks = yield* Hooks.Hooks
  const hub = yield* Hub.Hub
  const publisher = yield* Publisher.Publisher
  const connections = yield* Connections.Connections
  const presence = yield* Presence.Presence
  const reads = yield* Effect.makeSemaphore(PRESENCE_READS)
  const services = {
    broker: yield* Broker.Broker,
    clients: yield* Clients.Clients,
    clock: yield* clocks,
    config,
    hooks,
    hub,
    metrics,
    presence: {
      ...presence,
      list: (channel: string, maxBytes: number) => reads.withPermits(1)(presence.list(channel, maxBytes))
    },
    publisher
  }
  const { id: node } = yield* Instance.Instance
  const protocol = Protocol.make(services, node)
  const servers = Transport.makeServers(config.websocket.message_size_limit)
  const checkOrigin = Origin.make(config.client.allowed_origins)
  const boundOf = yield* Listening.Listening
  const needsAddress = Hooks.needsAddress(hooks)
  const { trusted, invalid } = Proxy.parse(config.http_server.trusted_proxies)
  if (invalid.length > 0) {
    return yield* new ServerConfig.ConfigError({
      message: `http_server.trusted_proxies: ${JSON.stringify(invalid[0])} is not valid: expected an address or a CIDR range such as 10.0.0.0/8`
    })
  }
  const runFork = yield* FiberSet.makeRuntime<never>()
  // A connection begins uninterruptible. From a region that is so it need not say it, which would be kept as long as it lives.
  const runUninterruptible = yield* Effect.uninterruptible(FiberSet.makeRuntime<never>())
  // Plain sockets that wait for a decision: they count for the connection limit, or a
  // burst would pass it. A client of the client protocol waits for nothing: it is a
  // connection, or is not, before anything else is looked at.
  let handshakes = 0
  /** Those among them that a connection has taken over. */
  const admitted = new Set<Duplex>()

  const closed: Refusal = { status: 503, reason: "draining", message: "shutting down", retryAfter: RETRY_AFTER_SECONDS }

  const checkRequest = (
    request: IncomingMessage,
    host: string | undefined,
    asked: Target.Target
  ): Refusal | undefined => {
    // Nothing is there to protect, and other reasons would hide this one.
    if (asked._tag === "Unknown") return { status: 404, reason: "path", message: "not found", detail: asked.detail }
    // It would send binary frames, be closed, and come back for ever.
    if (request.headers["sec-websocket-protocol"]?.includes(PROTOBUF) === true) {
      return { status: 400, reason: "handshake", message: `${PROTOBUF} is not spoken: use the JSON protocol` }
    }
    const foreign = checkOrigin({ origin: request.headers.origin, host }, boundOf(request.socket))
    if (foreign !== undefined)
      return { status: 403, reason: foreign.reason, message: "forbidden", detail: foreign.detail }
    if (connections.phase() === "Closed") return closed
    if (connections.count() + handshakes >= config.client.connection_limit) {
      return {
        status: 503,
        reason: "connection_limit",
        message: "too many connections",
        detail: `client.connection_limit is ${config.client.connection_limit}`,
        retryAfter: RETRY_AFTER_SECONDS
      }
    }
    return asked._tag === "Malformed" ? { status: 400, reason: "path", message: asked.detail } : undefined
  }

  /** Who may have a plain socket of which channel. */
  const decidePlain = (
    id: string,
    request: IncomingMessage,
    address: string,
    asked: Extract<Target.Target, { _tag: "Plain" }>
  ): Effect.Effect<PlainRequest, Refusal> =>
    Effect.gen(function* () {
      const channel = yield* Either.mapLeft(ServerConfig.parseChannel(config, asked.channel), (message): Refusal => ({
        status: 400,
        reason: "channel",
        message
      }))
      const echo = asked.parameters.get("echo")
      if (echo !== null && echo !== "0" && echo !== "1") return yield* badQuery("?echo: expected 0 or 1")
      const last = asked.parameters.get("history")
      const retention = Namespace.retention(config.channel, channel)
      const most = config.client.history_max_publication_limit
      if (last !== null && !(/^\d{1,9}$/.test(last) && Number(last) <= most)) {
        return yield* badQuery(`?history: expected a number from 0 to ${most}`)
      }
      const accepted = yield* Effect.mapError(
        hooks.onConnect({
          client: id,
          kind: "plain",
          token: bearer(request),
          data: undefined,
          headers: request.headers,
          address
        }),
        refusalOf
      )
      const client: ClientInfo =
        accepted.info === undefined
          ? { client: id, user: accepted.user }
          : { client: id, user: accepted.user, connInfo: accepted.info }
      const granted =
        (yield* Effect.mapError(hooks.onSubscribe({ client, channel, token: "", data: undefined }), refusalOf)) ?? {}
      if (last !== null) {
        if (retention === undefined) return yield* badQuery("?history: the channel has none")
        yield* Effect.mapError(hooks.onHistory({ client, channel, subscribed: true }), refusalOf)
      }
      const ends = [accepted.expiresAt, granted.expiresAt].filter((end) => end !== undefined)
      return {
        about: {
          client,
          channel,
          hasHistory: retention !== undefined,
          expiresAt: ends.length === 0 ? undefined : Math.min(...ends),
          granted: echo === "0" ? { ...granted, echo: false } : granted
        },
        last: Number(last)
      }
    })

  const refuse = (request: IncomingMessage, socket: Duplex, refusal: Refusal): Effect.Effect<void> =>
    Effect.suspend(() => {
      metrics.refused[refusal.reason].add()
      answer(socket, refusal.status, refusal.message, refusal.retryAfter)
      const detail = refusal.detail === undefined ? refusal.message : `${refusal.message}: ${refusal.detail}`
      return Effect.logInfo(`refused upgrade ${request.url} with ${refusal.status}: ${detail}`)
    })

  /** The library has answered it. */
  const malformed = ({ headers, url }: IncomingMessage): Effect.Effect<void> =>
    Effect.suspend(() => {
      metrics.refused.handshake.add()
      const { "sec-websocket-key": key, "sec-websocket-version": version } = headers
      return Effect.logInfo(
        `refused upgrade ${url}: the handshake is malformed: Sec-WebSocket-Key ${JSON.stringify(key)}, Sec-WebSocket-Version ${JSON.stringify(version)}`
      )
    })

  const failed = (request: IncomingMessage, socket: Duplex, defect: unknown): Effect.Effect<void> =>
    Effect.suspend(() => {
      metrics.refused.error.add()
      answer(socket, 500, "internal server error")
      return Effect.logError(`upgrade ${request.url} failed`, defect)
    })

  /** Completes the handshake; the library answers a malformed one itself. */
  const handshake = (
    connection: Connection.Connection,
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer
  ): Either.Either<Connection.Socket, Refusal | "answered"> => {
    if (connections.phase() === "Closed") return Either.left(closed)
    let bound: Connection.Socket | undefined
    servers[connection.encoding].handleUpgrade(request, socket, head, (ws) => {
      bound = Transport.bind(ws, socket, connection)
    })
    return bound === undefined ? Either.left("answered") : Either.right(bound)
  }

  /**
   * A client of the client protocol: asked nothing before it is connected, so
   * that nothing has to be waited for. All of it is the first step of the
   * connection's fiber.
   */
  const upgradeClient = (
    id: string,
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
    address: string
  ): Effect.Effect<void> =>
    Effect.flatMap(connections.make(id, "protocol"), (connection) => {
      const begun = Either.try(() => {
        const session = protocol(connection, { headers: request.headers, address })
        return Either.map(handshake(connection, request, socket, head), (bound) =>
          connections.serve(connection, bound, session)
        )
      })
      if (Either.isLeft(begun)) return about(id, Target.PROTOCOL)(failed(request, socket, begun.left))
      if (Either.isRight(begun.right)) return begun.right.right
      const why = begun.right.left
      return about(id, Target.PROTOCOL)(why === "answered" ? malformed(request) : refuse(request, socket, why))
    })

  /** A plain socket. */
  const upgradePlain = (
    id: string,
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
    address: string,
    asked: Extract<Target.Target, { _tag: "Plain" }>
  ): Effect.Effect<void, Refusal> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.gen(function* () {
        const connection = yield* connections.make(id, "plain")
        const decided = decidePlain(id, request, address, asked).pipe(
          within(config.client.stale_close_delay, (): Refusal => ({
            status: 503,
            reason: "handshake",
            message: "no decision in time"
          })),
          restore
        )
        // From the decision on nothing is interrupted: the subscription has an owner at
        // every moment. The broker's deadline bounds the wait.
        const admitting = Effect.flatMap(decided, ({ about, last }) => {
          const session = Plain.make(services, connection, about)
          return hub.prepare(asked.channel, last === 0 ? undefined : { last }).pipe(
            Effect.flatMap(session.join),
            Effect.scoped,
            Effect.mapError((error) => brokerRefusal(error.message)),
            Effect.as(session)
          )
        })
        const session = yield* Tracing.span("command.connect", () =>
          commandSpan({ client: id, user: "" }, named(config, asked.channel))
        )(admitting)
        const shaken = handshake(connection, request, socket, head)
        if (Either.isRight(shaken)) {
          admitted.add(socket)
          runUninterruptible(connections.serve(connection, shaken.right, session))
          return
        }
        yield* session.close(Codes.connectionClosed)
        if (shaken.left !== "answered") return yield* Effect.fail(shaken.left)
        yield* malformed(request)
      })
    )

  const accept = (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
    // Shared: one that is made here would keep the request for as long as the socket lives.
    socket.on("error", constVoid)
    const id = randomUUID()
    const asked = Target.parse(config.http_server.handler_prefix, request.url ?? "")
    // Plain code, and effects only where something has to be logged: all of it as
    // effects took as long as the handshake.
    const checked = Either.try(() => {
      const { address, host } = Proxy.client(request, trusted, needsAddress)
      return { address, refused: checkRequest(request, host, asked) }
    })
    if (Either.isLeft(checked)) {
      runUninterruptible(about(id, asked)(failed(request, socket, checked.left)))
      return
    }
    const { address, refused } = checked.right
    if (refused !== undefined) {
      runUninterruptible(about(id, asked)(refuse(request, socket, refused)))
      return
    }
    if (asked._tag !== "Plain") {
      runUninterruptible(upgradeClient(id, request, socket, head, address))
      return
    }
    handshakes++
    runFork(
      upgradePlain(id, request, socket, head, address, asked).pipe(
        Effect.catchAll((refusal) => refuse(request, socket, refusal)),
        Effect.catchAllDefect((defect) => failed(request, socket, defect)),
        // A shutdown in the middle of the decision; one that was let in is its connection's.
        Effect.onInterrupt(() =>
          Effect.suspend(() => (admitted.has(socket) ? Effect.void : refuse(request, socket, closed)))
        ),
        Effect.ensuring(
          Effect.sync(() => {
            handshakes--
            admitted.delete(socket)
          })
        ),
        about(id, asked)
      )
    )
  }

  return {
    accept,
    refuse: (request, socket, message) => {
      socket.on("error", constVoid)
      runUninterruptible(refuse(request, socket, { status: 404, reason: "path", message }))
    }
  }
})
