/**
 * Who is in a channel, on all instances. This is the port: what every adapter
 * guarantees, and the in-process adapter for one instance.
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { BrokerError } from "./Broker.ts"
import * as Entry from "./Presence/Entry.ts"
import type { ClientInfo } from "./protocol/Publication.ts"

/** How many connections are in a channel, and of how many users; the anonymous ones are one user. */
export interface Stats {
  readonly clients: number
  readonly users: number
}

/** The entries of a channel are more than the reader takes. */
export class TooManyPresent extends Data.TaggedError("TooManyPresent")<{
  readonly channel: string
  readonly message: string
}> {}

/** Who is in which channel. */
export class Presence extends Context.Tag("fanfare/Presence")<
  Presence,
  {
    /**
     * Enters a connection of this instance; again: with other `info`. It is
     * there until it is removed, or this instance is gone for twice
     * `client.presence_update_interval` at most. On failure or interruption it
     * is not there, or no longer than that; where it was there before, it is as
     * it was before.
     */
    readonly add: (channel: string, info: ClientInfo) => Effect.Effect<void, BrokerError>
    /** Takes a connection out. Never fails: what cannot be taken out now expires. */
    readonly remove: (channel: string, client: string) => Effect.Effect<void>
    /** All who are there, in no order. Fails where their entries (`Entry.sizeOf`) have more than `maxBytes` together. */
    readonly list: (
      channel: string,
      maxBytes: number
    ) => Effect.Effect<ReadonlyArray<ClientInfo>, BrokerError | TooManyPresent>
    /** How many are there. Does not read their entries. */
    readonly stats: (channel: string) => Effect.Effect<Stats, BrokerError>
  }
>() {}

/** The error of a channel whose entries have more than `maxBytes`. */
export const tooMany = (channel: string, maxBytes: number): TooManyPresent =>
  new TooManyPresent({ channel, message: `who is in "${channel}" is more than ${maxBytes} bytes` })

/** Those in one channel, with what `stats` and the bound of `list` need counted on the way. */
class Members {
  readonly #entries = new Map<string, { readonly info: ClientInfo; readonly bytes: number }>()
  readonly #users = new Map<string, number>()
  #bytes = 0

  set(info: ClientInfo): void {
    this.delete(info.client)
    const bytes = Entry.sizeOf(info)
    this.#entries.set(info.client, { info, bytes })
    this.#users.set(info.user, (this.#users.get(info.user) ?? 0) + 1)
    this.#bytes += bytes
  }

  delete(client: string): void {
    const entry = this.#entries.get(client)
    if (entry === undefined) return
    const { info, bytes } = entry
    this.#entries.delete(client)
    this.#bytes -= bytes
    const left = (this.#users.get(info.user) ?? 0) - 1
    if (left > 0) this.#users.set(info.user, left)
    else this.#users.delete(info.user)
  }

  get bytes(): number {
    return this.#bytes
  }

  get stats(): Stats {
    return { clients: this.#entries.size, users: this.#users.size }
  }

  get all(): ReadonlyArray<ClientInfo> {
    return Array.from(this.#entries.values(), ({ info }) => info)
  }
}

const makeMemory = Effect.sync(() => {
  const channels = new Map<string, Members>()
  return Presence.of({
    add: (channel, info) =>
      Effect.sync(() => {
        const members = channels.get(channel) ?? new Members()
        channels.set(channel, members)
        members.set(info)
      }),
    remove: (channel, client) =>
      Effect.sync(() => {
        const members = channels.get(channel)
        members?.delete(client)
        if (members?.stats.clients === 0) channels.delete(channel)
      }),
    list: (channel, maxBytes) =>
      Effect.suspend(() => {
        const members = channels.get(channel)
        if (members === undefined) return Effect.succeed([])
        return members.bytes > maxBytes ? Effect.fail(tooMany(channel, maxBytes)) : Effect.succeed(members.all)
      }),
    stats: (channel) => Effect.sync(() => channels.get(channel)?.stats ?? { clients: 0, users: 0 })
  })
})

/** The presence of a single instance: no Redis, nothing survives the process. Never fails but with `TooManyPresent`. */
export const layerMemory: Layer.Layer<Presence> = Layer.effect(Presence, makeMemory)
