/**
 * What a connection says and hears: the port between the actor, which moves
 * frames, and the two protocols, which give them a meaning.
 */
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Broker from "./Broker.ts"
import type * as Clients from "./Clients.ts"
import type * as Frame from "./Frame.ts"
import type * as Hooks from "./Hooks.ts"
import type * as Hub from "./Hub.ts"
import type { Clocks } from "./internal/clock.ts"
import { value } from "./internal/exit.ts"
import { atMost } from "./internal/time.ts"
import type * as Metrics from "./Metrics.ts"
import type * as Presence from "./Presence.ts"
import type { Disconnect } from "./protocol/Codes.ts"
import type { ClientInfo } from "./protocol/Publication.ts"
import type * as Publisher from "./Publisher.ts"
import type * as ServerConfig from "./ServerConfig.ts"
import type * as Tracing from "./Tracing.ts"

/** Something to do for a client, taken from the connection's inbox in the order received. */
export interface Task {
  /** Tasks of one lane run one after another; lanes run side by side. */
  readonly lane: string
  /** It may start once the one before it in its lane has passed its turn on; any other starts when all of them are done. */
  readonly isPipelined?: boolean
  /** Runs alone: after everything before it, before everything after it. */
  readonly exclusive: boolean
  /** Its reply may be as long as `client.reply_max_size`: only a few of them run at a time. */
  readonly isHeavy: boolean
  /** Characters of the client's text that it keeps in memory; none where it is left out. */
  readonly size?: number
  readonly run: () => Effect.Effect<void>
  /**
   * The same without a fiber, where that can be: tells the turn when it is done,
   * maybe within this call. `false`: it cannot be, and `run` has to.
   */
  readonly now?: ((turn: Turn) => boolean) | undefined
}

/** The turn of a task that is carried out without a fiber. */
export interface Turn {
  /** Lets the next task of the lane start before this one is done, where it is pipelined. */
  readonly passOn: () => void
  /** It is done, but for what is left to do in a fiber. */
  readonly done: (rest?: Effect.Effect<void>) => void
}

/** The connection as its session sees it. */
export interface Outlet {
  /** The connection's id: what others see as `client`. */
  readonly id: string
  /**
   * Queues publications. `false`: the mailbox is full, and some were dropped:
   * by `client.overflow`, or, of a positioned subscription, the newest.
   */
  readonly deliver: (frame: Frame.Frame, isPositioned: boolean) => boolean
  /** Queues a text frame that is never dropped. */
  readonly send: (text: string) => void
  /** Puts a task in the inbox, and starts it where it may start. */
  readonly submit: (task: Task) => void
  /** Puts a task in the inbox; it starts after this step at the earliest. */
  readonly submitLater: (task: Task) => void
  /** Whether another line of a text frame may be decoded: the inbox is below its bound, and so is what this turn of the event loop had. */
  readonly mayReadOn: () => boolean
  /**
   * Has the rest of a text frame received again, once the inbox is below its bound,
   * in a later turn of the event loop, and before any other frame. To be called where `mayReadOn` was false.
   */
  readonly putBack: (rest: string) => void
  /** Whether the inbox is at its bound. */
  readonly isBusy: () => boolean
  /** Ends the connection; the first call wins. `detail` is for the log, and so is the channel that it is about. */
  readonly end: (disconnect: Disconnect, detail?: string, channel?: string) => void
}

/** One protocol, spoken on one connection. */
export interface Session {
  readonly kind: "protocol" | "plain"
  /** The channel that everything on it is about, where there is only one; for the log. */
  readonly channel?: string
  /**
   * A text frame came, or the rest of one that was put back. Decodes it and submits
   * tasks, as far as the inbox has room; never waits. Returns whether it answered a ping.
   */
  readonly receive: (text: string) => boolean
  /** A text frame that is the protocol's ping; `undefined`: the transport pings. */
  readonly pingText: string | undefined
  /**
   * `undefined` once the client is connected. Until then: how it is ended when
   * `client.stale_close_delay` is over.
   */
  readonly overdue: () => Disconnect | undefined
  /** Ends what has expired. `now` is of the wall clock, as the times in tokens are; in milliseconds. */
  readonly sweep: (now: number) => void
  /** The peer is gone; what it has sent is still carried out. */
  readonly gone: () => void
  /** Leaves all channels and tells the hooks. */
  readonly close: (disconnect: Disconnect) => Effect.Effect<void>
}

/** What sessions work with. */
export interface Services {
  readonly broker: Context.Tag.Service<Broker.Broker>
  readonly clients: Context.Tag.Service<Clients.Clients>
  readonly clock: Clocks
  readonly config: ServerConfig.Config
  readonly hooks: Context.Tag.Service<Hooks.Hooks>
  readonly hub: Context.Tag.Service<Hub.Hub>
  readonly metrics: Context.Tag.Service<Metrics.Metrics>
  readonly presence: Context.Tag.Service<Presence.Presence>
  readonly publisher: Context.Tag.Service<Publisher.Publisher>
}

/** The channel of a command as it is logged and traced, before anybody has looked at it: not one that is longer than any. */
export const named = (config: ServerConfig.Config, channel: string | undefined): string | undefined =>
  channel !== undefined && channel.length <= config.channel.max_length ? channel : undefined

/** The span of a command of a client. It belongs to the client's trace, not to that of the server's start. */
export const commandSpan = ({ client, user }: ClientInfo, channel: string | undefined): Tracing.About => ({
  kind: "server",
  root: true,
  attributes: {
    "fanfare.client": client,
    ...(user === "" ? {} : { "user.id": user }),
    ...(channel === undefined ? {} : { "messaging.destination.name": channel })
  }
})

/** The longest time that a client is told, in seconds: a year, as the reference server does. `client.proto` has 32 bits for it. */
const LONGEST_TOLD = 365 * 24 * 3600

/** Seconds as a client is told them: whole ones, from 1 to a year. */
export const wholeSeconds = (seconds: number): number =>
  seconds >= 1 ? Math.min(Math.floor(seconds), LONGEST_TOLD) : 1

/** Seconds until a Unix time, as a client is told them; `undefined` where nothing expires. */
export const ttl = ({ clock }: Pick<Services, "clock">, expiresAt: number | undefined): number | undefined =>
  expiresAt === undefined ? undefined : wholeSeconds(expiresAt - clock.wall() / 1000)

/** Whether the grace for what expires at a Unix time in seconds is over; also where a hook gave what is no time. */
export const isOver = ({ config }: Pick<Services, "config">, expiresAt: number | undefined, now: number): boolean =>
  expiresAt !== undefined && !(now < expiresAt * 1000 + Duration.toMillis(config.client.expired_close_delay))

/** What has subscriptions. */
export interface Subscriber {
  /** One that was positioned is over, and is told that it misses something. */
  readonly ended: (channel: string, why: Metrics.Insufficiency) => void
}

/** A subscription of a connection, as the hub has it. */
export class Subscription implements Hub.Subscription {
  readonly encoding: Hub.Encoding
  readonly isPositioned: boolean
  readonly hearsAttendance: boolean
  readonly excludes: string | undefined
  readonly #outlet: Outlet
  readonly #channel: string
  readonly #subscriber: Subscriber

  constructor(
    outlet: Outlet,
    channel: string,
    subscriber: Subscriber,
    gets: Pick<Hub.Subscription, "encoding" | "isPositioned" | "hearsAttendance" | "excludes">
  ) {
    this.#outlet = outlet
    this.encoding = gets.encoding
    this.#channel = channel
    this.isPositioned = gets.isPositioned
    this.hearsAttendance = gets.hearsAttendance
    this.excludes = gets.excludes
    this.#subscriber = subscriber
  }

  deliver(frame: Frame.Frame): boolean {
    return this.#outlet.deliver(frame, this.isPositioned)
  }

  insufficient(why: Metrics.Insufficiency): void {
    this.#subscriber.ended(this.#channel, why)
  }
}

/** How long `onDisconnect` may hold a connection's end. */
const FAREWELL_TIMEOUT = Duration.seconds(5)

/** Tells the hooks that a client has left; whatever they do, the connection ends. */
export const farewell = (services: Services, client: ClientInfo, disconnect: Disconnect): Effect.Effect<void> =>
  Effect.suspend(() => {
    const said = services.hooks.onDisconnect(client, disconnect)
    // What is over already needs no time limit.
    return value(said) === undefined ? Effect.asVoid(atMost(FAREWELL_TIMEOUT)(said)) : Effect.void
  }).pipe(Effect.catchAllDefect((defect) => Effect.logError("onDisconnect failed", defect)))
