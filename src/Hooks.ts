/**
 * Every decision about a connection: who may connect, subscribe, publish, call.
 * This is the seam for applications: `layerConfig` decides by the
 * configuration, `layer` adds decisions of one's own to it, and a layer of the
 * tag replaces all of them.
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Channel from "./Channel.ts"
import * as Namespace from "./Namespace.ts"
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

/** What a client that may connect is. */
export interface Accepted {
  /** Empty: anonymous. */
  readonly user: string
  /** Raw JSON, shown to others as `conn_info`. */
  readonly info?: string
  /** Raw JSON for the reply to `connect`. */
  readonly data?: string
  /**
   * Channels that it is subscribed to by the server, whatever the namespaces
   * permit to clients. Not for plain sockets.
   */
  readonly channels?: ReadonlyArray<string>
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

/** A client that calls a procedure. */
export interface RpcRequest {
  readonly client: ClientInfo
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
    /** May the client subscribe? */
    readonly onSubscribe: (request: SubscribeRequest) => Effect.Effect<void, Rejected>
    /** May the client publish this? Runs before the broker has it: the place to save a record. */
    readonly onPublish: (request: PublishRequest) => Effect.Effect<void, Rejected>
    /**
     * May the client read the channel's history? Asked for the command
     * `history`, for `?history` of a plain socket, and where a client asks for
     * positioning or recovery that the namespace does not force.
     */
    readonly onHistory: (request: HistoryRequest) => Effect.Effect<void, Rejected>
    /** Answers a call with raw JSON. */
    readonly onRpc: (request: RpcRequest) => Effect.Effect<string, Rejected>
    /** The client has left, with the close code of its socket. */
    readonly onDisconnect: (client: ClientInfo, disconnect: Codes.Disconnect) => Effect.Effect<void>
  }
>() {}

const rejected = (error: Codes.ErrorCode, detail: string): Rejected =>
  new Rejected({ code: error.code, message: error.message, detail })

const invalidToken = (detail: string): Rejected =>
  new Rejected({ code: Codes.invalidToken.code, message: Codes.invalidToken.reason, disconnect: true, detail })

const fromConfig = (config: ServerConfig.Config): Context.Tag.Service<Hooks> => {
  const channels = config.channel
  const unknown = (channel: string): Rejected =>
    rejected(Codes.unknownChannel, `no namespace "${Channel.namespace(channel)}"; known: ${Namespace.known(channels)}`)
  const where = (channel: string): string => {
    const name = Channel.namespace(channel)
    return name === undefined ? "channel.without_namespace" : `namespace "${name}"`
  }

  /** Permits what all of these options permit; a refusal names those that are missing. */
  const permit = (
    channel: string,
    namespace: Namespace.Namespace,
    needed: ReadonlyArray<keyof typeof Namespace.options>
  ): Effect.Effect<void, Rejected> => {
    const missing = needed.filter((option) => namespace[option] !== true)
    return missing.length === 0
      ? Effect.void
      : Effect.fail(rejected(Codes.permissionDenied, `${missing.join(" and ")} of ${where(channel)} would permit it`))
  }

  return Hooks.of({
    onConnect: ({ token }) => {
      const required = ServerConfig.requiresToken(config)
      if (token !== "") {
        return Effect.fail(
          invalidToken(
            required
              ? "tokens are not active in this version"
              : "a token came, but client.token has no key to verify it"
          )
        )
      }
      if (required && !config.client.allow_anonymous_connect_without_token) {
        return Effect.fail(invalidToken("no token; client.allow_anonymous_connect_without_token would permit it"))
      }
      return Effect.succeed({ user: "" })
    },
    onSubscribe: ({ client, channel }) => {
      const namespace = Namespace.find(channels, channel)
      if (namespace === undefined) return Effect.fail(unknown(channel))
      return permit(channel, namespace, [
        "allow_subscribe_for_client",
        ...(client.user === "" ? (["allow_subscribe_for_anonymous"] as const) : [])
      ])
    },
    onPublish: ({ client, channel, subscribed }) => {
      const namespace = Namespace.find(channels, channel)
      if (namespace === undefined) return Effect.fail(unknown(channel))
      return permit(channel, namespace, [
        subscribed && namespace.allow_publish_for_subscriber
          ? "allow_publish_for_subscriber"
          : "allow_publish_for_client",
        ...(client.user === "" ? (["allow_publish_for_anonymous"] as const) : [])
      ])
    },
    onHistory: ({ client, channel, subscribed }) => {
      const namespace = Namespace.find(channels, channel)
      if (namespace === undefined) return Effect.fail(unknown(channel))
      return permit(channel, namespace, [
        subscribed && namespace.allow_history_for_subscriber
          ? "allow_history_for_subscriber"
          : "allow_history_for_client",
        ...(client.user === "" ? (["allow_history_for_anonymous"] as const) : [])
      ])
    },
    onRpc: ({ method }) => Effect.fail(rejected(Codes.notAvailable, `no onRpc hook answers "${method}"`)),
    onDisconnect: () => Effect.void
  })
}

/** Decides by the configuration alone. */
export const layerConfig: Layer.Layer<Hooks, never, ServerConfig.ServerConfig> = Layer.effect(
  Hooks,
  Effect.map(ServerConfig.ServerConfig, fromConfig)
)

/**
 * Adds decisions to those of the configuration. `onSubscribe`, `onPublish` and
 * `onHistory` are asked only after the configuration has permitted it; `onConnect` and
 * `onRpc` decide alone, in its place.
 */
export const layer = (own: Partial<Context.Tag.Service<Hooks>>): Layer.Layer<Hooks, never, ServerConfig.ServerConfig> =>
  Layer.effect(
    Hooks,
    Effect.map(ServerConfig.ServerConfig, (config) => {
      const base = fromConfig(config)
      const { onSubscribe, onPublish, onHistory } = own
      return Hooks.of({
        ...base,
        ...own,
        onSubscribe: (request) =>
          onSubscribe === undefined
            ? base.onSubscribe(request)
            : Effect.zipRight(base.onSubscribe(request), onSubscribe(request)),
        onPublish: (request) =>
          onPublish === undefined
            ? base.onPublish(request)
            : Effect.zipRight(base.onPublish(request), onPublish(request)),
        onHistory: (request) =>
          onHistory === undefined
            ? base.onHistory(request)
            : Effect.zipRight(base.onHistory(request), onHistory(request))
      })
    })
  )
