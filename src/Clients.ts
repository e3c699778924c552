/** The connected clients of this instance, and what others than their own sessions do with them. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Granted, Refreshed } from "./Hooks.ts"
import type { Disconnect, Unsubscribe } from "./protocol/Codes.ts"
import type { ClientInfo } from "./protocol/Publication.ts"
import * as ServerConfig from "./ServerConfig.ts"

/**
 * A connected client. What concerns a channel takes its turn among the client's
 * own commands on that channel; it is done when the effect succeeds, with
 * `false` where it could not be done.
 */
export interface Client {
  readonly info: () => ClientInfo
  /** Subscribes it by the server. A channel that it is in already stays as it is. */
  readonly subscribe: (channel: string, granted: Granted) => Effect.Effect<boolean>
  /** Ends a subscription, if there is one. */
  readonly unsubscribe: (channel: string, why: Unsubscribe) => Effect.Effect<boolean>
  /** Changes how long the connection holds; `false` where there is too much to do for it already. */
  readonly refresh: (refreshed: Refreshed) => boolean
  /** Pushes raw JSON to it, as a publication: a full mailbox drops it. A plain socket has no place for it. */
  readonly send: (data: string) => void
  readonly disconnect: (disconnect: Disconnect, detail: string) => void
}

/** The connected clients of this instance. */
export class Clients extends Context.Tag("fanfare/Clients")<
  Clients,
  {
    /**
     * Adds a client that is connected now. `false`: its user has
     * `client.user_connection_limit` connections to this instance already.
     */
    readonly add: (client: Client) => boolean
    readonly remove: (client: Client) => void
    /** The connections of a user, or that one of them. */
    readonly of: (user: string, client?: string) => ReadonlyArray<Client>
    /** Users with a connection; the anonymous clients are one. */
    readonly users: () => number
  }
>() {}

/** No client. */
export const layer: Layer.Layer<Clients, never, ServerConfig.ServerConfig> = Layer.effect(
  Clients,
  Effect.map(ServerConfig.ServerConfig, (config) => {
    const limit = config.client.user_connection_limit
    const byUser = new Map<string, Map<string, Client>>()
    return Clients.of({
      add: (client) => {
        const { client: id, user } = client.info()
        const known = byUser.get(user) ?? new Map<string, Client>()
        if (limit > 0 && user !== "" && known.size >= limit) return false
        byUser.set(user, known.set(id, client))
        return true
      },
      remove: (client) => {
        const { client: id, user } = client.info()
        const known = byUser.get(user)
        if (known?.get(id) !== client) return
        known.delete(id)
        if (known.size === 0) byUser.delete(user)
      },
      of: (user, id) => {
        const known = byUser.get(user)
        if (known === undefined) return []
        if (id === undefined) return Array.from(known.values())
        const one = known.get(id)
        return one === undefined ? [] : [one]
      },
      users: () => byUser.size
    })
  })
)
