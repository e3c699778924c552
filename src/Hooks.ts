/**
 * Every decision about a connection: who may connect, subscribe, publish, call.
 * This is the seam for applications: `layerConfig` decides by the
 * configuration, `layer` adds decisions of one's own to it, and a layer of the
 * tag replaces all of them.
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Auth from "./Auth.ts"
import * as Channel from "./Channel.ts"
import { value } from "./internal/exit.ts"
import * as Namespace from "./Namespace.ts"
import * as Permissions from "./Permissions.ts"
import * as Codes from "./protocol/Codes.ts"
import type { ClientInfo } from "./protocol/Publication.ts"
import * as ServerConfig from "./ServerConfig.ts"

/**
 * A decision against it. The client sees `code` and `message`: as an error
 * reply, or, with `disconnect`, as the code (3000 to 4999) and the reason with
 * which its socket is closed. `detail` is for the log: why, and what would
 * permit it. Codes of one's own: 400 to 1999 in replies, 4000 to 4999 in
 * disconnects (4500 and above: the client stays away).
 */
export class Rejected extends Data.TaggedError("Rejected")<{
  readonly code: number
  readonly message: string
  readonly temporary?: boolean
  readonly disconnect?: boolean
  readonly detail?: string
}> {}

/** A client that wants to connect. */
export interface ConnectRequest {
  /** The id of the connection. */
  readonly client: string
  readonly kind: "protocol" | "plain"
  /** Empty where the client sent none. */
  readonly token: string
  /** Raw JSON that the client sent with `connect`. */
  readonly data: string | undefined
  /** Headers of the HTTP request, with lower-case names. */
  readonly headers: Readonly<Record<string, string | ReadonlyArray<string> | undefined>>
  /** The address of the client, as far as it can be trusted. */
  readonly address: string
}

/** What a subscription has beside what its namespace gives it. */
export interface Granted {
  /** Raw JSON, shown to others as `chan_info`. */
  readonly info?: string
  /** Raw JSON for the client, in the reply to `subscribe`. */
  readonly data?: string
  /** Unix time in seconds. A subscription that is not refreshed by then is ended with 2501, or with 3006 where the server has made it. */
  readonly expiresAt?: number
  /** `false`: it does not get what this connection itself publishes. */
  readonly echo?: boolean
}

/** A subscription that the server makes. */
export interface ServerSubscription extends Granted {
  readonly channel: string
}

/** How long something holds from now on, and what is shown of its owner. */
export interface Refreshed {
  /** Unix time in seconds; without it, it does not expire any more. */
  readonly expiresAt?: number
  /** Raw JSON; without it what was shown before stays. */
  readonly info?: string
}

/** What a client that may connect is. */
export interface Accepted {
  /** Empty: anonymous. */
  readonly user: string
  /** Raw JSON, shown to others as `conn_info`. */
  readonly info?: string
  /** Unix time in seconds. A connection that is not refreshed in `client.expired_close_delay` after it is closed with 3005. */
  readonly expiresAt?: number
  /** Raw JSON for the reply to `connect`. */
  readonly data?: string
  /**
   * Channels that it is subscribed to by the server, whatever the namespaces
   * permit to clients. Not for plain sockets.
   */
  readonly channels?: ReadonlyArray<string | ServerSubscription>
}

/** A client whose connection expires, and that has a new token. */
export interface RefreshRequest {
  readonly client: ClientInfo
  readonly token: string
}

/** The same of a subscription. */
export interface SubRefreshRequest extends RefreshRequest {
  readonly channel: string
}

/** A client that wants to subscribe. */
export interface SubscribeRequest {
  readonly client: ClientInfo
  readonly channel: string
  readonly token: string
  readonly data: string | undefined
}

/** A client that wants to publish. */
export interface PublishRequest {
  readonly client: ClientInfo
  readonly channel: string
  /** The payload as the client sent it: JSON text, or on the plain socket any text. */
  readonly data: string
  /** Whether the client is subscribed to the channel. */
  readonly subscribed: boolean
}

/** A client that wants to read the history of a channel, or to recover what it missed there. */
export interface HistoryRequest {
  readonly client: ClientInfo
  readonly channel: string
  /** Whether the client is subscribed to the channel, or about to be. */
  readonly subscribed: boolean
}

/** A client that wants to know who is in a channel. */
export interface PresenceRequest {
  readonly client: ClientInfo
  readonly channel: string
  /** Whether the client is subscribed to the channel, or about to be. */
  readonly subscribed: boolean
}

/** A client that sends something to the application, without an answer. */
export interface MessageRequest {
  readonly client: ClientInfo
  /** Raw JSON. */
  readonly data: string
}

/** A procedure that is called. */
export interface RpcRequest {
  /** `undefined`: the server API calls it. */
  readonly client: ClientInfo | undefined
  readonly method: string
  /** Raw JSON. */
  readonly data: string | undefined
}

/** Decisions about connections. They may take their time: only the connection's own commands on that channel wait. */
export class Hooks extends Context.Tag("fanfare/Hooks")<
  Hooks,
  {
    /** May the client connect, and who is it? */
    readonly onConnect: (request: ConnectRequest) => Effect.Effect<Accepted, Rejected>
    /**
     * May the connection go on, and for how long? Rejected as an error it stays
     * as it is; to end it, reject with `disconnect`.
     */
    readonly onRefresh: (request: RefreshRequest) => Effect.Effect<Refreshed, Rejected>
    /** May the client subscribe, and with what? */
    readonly onSubscribe: (request: SubscribeRequest) => Effect.Effect<Granted | void, Rejected>
    /** May the subscription go on, and for how long? */
    readonly onSubRefresh: (request: SubRefreshRequest) => Effect.Effect<Refreshed, Rejected>
    /** May the client publish this? Runs before the broker has it: the place to save a record. */
    readonly onPublish: (request: PublishRequest) => Effect.Effect<void, Rejected>
    /**
     * May the client read the channel's history? Asked for the command
     * `history`, for `?history` of a plain socket, and where a client asks for
     * positioning or recovery that the namespace does not force.
     */
    readonly onHistory: (request: HistoryRequest) => Effect.Effect<void, Rejected>
    /**
     * May the client know who is in the channel? Asked for the commands
     * `presence` and `presence_stats`, and where a client asks for joins and
     * leaves that the namespace does not force.
     */
    readonly onPresence: (request: PresenceRequest) => Effect.Effect<void, Rejected>
    /** Takes what a client sends with `send`; rejected, the client is disconnected: it has no other way to be told. */
    readonly onMessage: (request: MessageRequest) => Effect.Effect<void, Rejected>
    /** Answers a call with raw JSON. */
    readonly onRpc: (request: RpcRequest) => Effect.Effect<string, Rejected>
    /** The client has left, with the close code of its socket. */
    readonly onDisconnect: (client: ClientInfo, disconnect: Codes.Disconnect) => Effect.Effect<void>
  }
>() {}

/**
 * Asks a hook in this step. What it has decided at once is an `Exit`, anything
 * else the rest of its deliberation; that it throws is a defect.
 */
export const ask = <A>(hook: () => Effect.Effect<A, Rejected>): Effect.Effect<A, Rejected> =>
  Either.getOrElse(Either.try(hook), (defect) => Effect.die(defect))

const rejected = (error: Codes.ErrorCode, detail: string): Rejected => new Rejected({ ...error, detail })

const ended = ({ code, reason }: Codes.Disconnect, detail: string): Rejected =>
  new Rejected({ code, message: reason, disconnect: true, detail })

const optional = <K extends string, A>(key: K, value: A | undefined): { readonly [P in K]?: A } =>
  (value === undefined ? {} : { [key]: value }) as { readonly [P in K]?: A }

const refreshedBy = ({ expiresAt, info }: Auth.ConnectionClaims | Auth.SubscriptionClaims): Refreshed => ({
  ...optional("expiresAt", expiresAt),
  ...optional("info", info)
})

/** Those `onConnect` that do not look at the address. */
const withoutAddress = new WeakSet<Context.Tag.Service<Hooks>["onConnect"]>()

/**
 * Whether a client's address has to be known. To ask the kernel for it takes 6 %
 * of what a client that comes back costs, and once it has gone nobody can.
 */
export const needsAddress = ({ onConnect }: Context.Tag.Service<Hooks>): boolean => !withoutAddress.has(onConnect)

const fromConfig = (config: ServerConfig.Config, auth: Context.Tag.Service<Auth.Auth>): Context.Tag.Service<Hooks> => {
  const channels = config.channel
  const where = (channel: string): string => {
    const name = Channel.namespace(channel)
    return name === undefined ? "channel.without_namespace" : `namespace "${name}"`
  }

  const unknown = (channel: string): Effect.Effect<never, Rejected> =>
    Effect.fail(
      rejected(
        Codes.unknownChannel,
        `no namespace "${Channel.namespace(channel)}"; known: ${Namespace.known(channels)}`
      )
    )

  /** Permits what the namespace permits; a refusal names the options that are missing. */
  const permit =
    (right: Permissions.Right) =>
    ({
      channel,
      client,
      subscribed = false
    }: {
      readonly channel: string
      readonly client: ClientInfo
      readonly subscribed?: boolean
    }): Effect.Effect<void, Rejected> => {
      const namespace = Namespace.find(channels, channel)
      if (namespace === undefined) return unknown(channel)
      const missing = Permissions.missing(namespace, right, {
        isAnonymous: client.user === "",
        isSubscribed: subscribed
      })
      // What is decided already is said as such: then it can be had without a fiber.
      return missing.length === 0
        ? Effect.void
        : Effect.fail(rejected(Codes.permissionDenied, `${missing.join(" and ")} of ${where(channel)} would permit it`))
    }

  const connect = (token: string): Effect.Effect<Accepted, Rejected> => {
    if (token !== "") {
      return Effect.mapBoth(auth.verifyConnection(token), {
        onSuccess: (claims) => ({ user: claims.user, channels: claims.channels, ...refreshedBy(claims) }),
        onFailure: ({ message, reason }) =>
          reason === "Invalid" ? ended(Codes.invalidToken, message) : rejected(Codes.tokenExpired, message)
      })
    }
    return ServerConfig.requiresToken(config) && !config.client.allow_anonymous_connect_without_token
      ? Effect.fail(ended(Codes.invalidToken, "no token; client.allow_anonymous_connect_without_token would permit it"))
      : Effect.succeed({ user: "" })
  }

  const refresh = ({ client, token }: RefreshRequest): Effect.Effect<Refreshed, Rejected> =>
    auth.verifyConnection(token).pipe(
      Effect.mapError(({ message, reason }) =>
        // As an error it would keep the client away for good; closed with 3005 it comes back with a new token.
        ended(reason === "Invalid" ? Codes.invalidToken : Codes.connectionExpired, message)
      ),
      Effect.flatMap((claims) =>
        claims.user === client.user
          ? Effect.succeed(refreshedBy(claims))
          : Effect.fail(ended(Codes.invalidToken, "the token is of another user"))
      )
    )

  /** A subscription token of this client and channel. `untimely`: what is said of one whose time is over or has not begun; `refuse`: of a bad one. */
  const verify = (
    { channel, client, token }: Pick<SubRefreshRequest, "channel" | "client" | "token">,
    untimely: (detail: string) => Rejected,
    refuse: (detail: string) => Rejected
  ): Effect.Effect<Refreshed, Rejected> =>
    auth.verifySubscription(token).pipe(
      Effect.mapError(({ message, reason }) => (reason === "Invalid" ? refuse(message) : untimely(message))),
      Effect.flatMap((claims) =>
        claims.channel !== channel
          ? Effect.fail(refuse("the token is for another channel"))
          : claims.user !== client.user
            ? Effect.fail(refuse("the token is of another user"))
            : Effect.succeed(refreshedBy(claims))
      )
    )

  const mayPublish = permit("publish")
  const mayReadHistory = permit("history")
  const mayReadPresence = permit("presence")
  const maySubscribe = permit("subscribe")

  const onConnect = ({ token }: Pick<ConnectRequest, "token">) => connect(token)
  withoutAddress.add(onConnect)

  return Hooks.of({
    onConnect,
    onRefresh: refresh,
    onSubscribe: (request) => {
      if (request.token === "") return maySubscribe(request)
      // A token is enough, but its channel has to be one.
      const verified = verify(
        request,
        (detail) => rejected(Codes.tokenExpired, detail),
        (detail) => rejected(Codes.permissionDenied, detail)
      )
      return Namespace.find(channels, request.channel) === undefined ? unknown(request.channel) : verified
    },
    onSubRefresh: (request) =>
      verify(
        request,
        // Temporary: an SDK asks for a new token, while the subscription goes on until it expires itself.
        (detail) => rejected({ ...Codes.expired, temporary: true }, detail),
        (detail) => ended(Codes.invalidToken, detail)
      ),
    onPublish: mayPublish,
    onHistory: mayReadHistory,
    onPresence: mayReadPresence,
    onMessage: () => Effect.fail(ended(Codes.notAvailableDisconnect, "no onMessage hook takes it")),
    onRpc: ({ method }) => Effect.fail(rejected(Codes.notAvailable, `no onRpc hook answers "${method}"`)),
    onDisconnect: () => Effect.void
  })
}

const configured: Effect.Effect<Context.Tag.Service<Hooks>, never, Auth.Auth | ServerConfig.ServerConfig> = Effect.gen(
  function* () {
    return fromConfig(yield* ServerConfig.ServerConfig, yield* Auth.Auth)
  }
)

/** Decides by the configuration and by tokens alone. */
export const layerConfig: Layer.Layer<Hooks, never, ServerConfig.ServerConfig> = Layer.effect(Hooks, configured).pipe(
  Layer.provide(Auth.layer)
)

/**
 * Adds decisions to those of the configuration. `onSubscribe`, `onPublish`,
 * `onHistory` and `onPresence` are asked only after the configuration has
 * permitted it, and what `onSubscribe` grants is added to what a token grants;
 * the others decide alone, in its place.
 */
export const layer = (own: Partial<Context.Tag.Service<Hooks>>): Layer.Layer<Hooks, never, ServerConfig.ServerConfig> =>
  Layer.effect(
    Hooks,
    Effect.map(configured, (base) => {
      const { onConnect, onSubscribe, onPublish, onHistory, onPresence } = own
      const both = <Request>(
        first: (request: Request) => Effect.Effect<void, Rejected>,
        second: ((request: Request) => Effect.Effect<void, Rejected>) | undefined
      ) =>
        second === undefined
          ? first
          : (request: Request) => {
              const permitted = first(request)
              // What is permitted at once can be decided at once.
              return value(permitted) === undefined
                ? Effect.zipRight(
                    permitted,
                    Effect.suspend(() => second(request))
                  )
                : second(request)
            }
      return Hooks.of({
        ...base,
        ...own,
        onConnect: onConnect ?? base.onConnect,
        onSubscribe:
          onSubscribe === undefined
            ? base.onSubscribe
            : (request) =>
                Effect.zipWith(
                  base.onSubscribe(request),
                  Effect.suspend(() => onSubscribe(request)),
                  (one, other) => ({ ...one, ...other })
                ),
        onPublish: both(base.onPublish, onPublish),
        onHistory: both(base.onHistory, onHistory),
        onPresence: both(base.onPresence, onPresence)
      })
    })
  ).pipe(Layer.provide(Auth.layer))
