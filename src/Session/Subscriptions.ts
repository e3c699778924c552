/**
 * The subscriptions of one client of the client protocol: how it joins a
 * channel, recovers what it missed there, is told when it misses something, and
 * how a subscription ends.
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import type * as Broker from "../Broker.ts"
import type * as Hooks from "../Hooks.ts"
import { value } from "../internal/exit.ts"
import { acquire, onClose } from "../internal/scope.ts"
import type * as Hub from "../Hub.ts"
import type * as Metrics from "../Metrics.ts"
import * as Namespace from "../Namespace.ts"
import * as Codes from "../protocol/Codes.ts"
import * as Command from "../protocol/Command.ts"
import * as Json from "../protocol/Json.ts"
import type { ClientInfo, Publication } from "../protocol/Publication.ts"
import { isOver, type Outlet, type Services, type Subscriber, Subscription, ttl } from "../Session.ts"
import { Attendance, type Whose } from "./Attendance.ts"

/** What a client asks for with a subscription. */
export interface Asked {
  readonly recover: boolean
  readonly offset: number
  readonly epoch: string
  readonly positioned: boolean
  readonly recoverable: boolean
  readonly join_leave: boolean
  readonly flag: number
}

/** Nothing beside what the namespace forces. */
export const NOTHING: Asked = {
  recover: false,
  offset: 0,
  epoch: "",
  positioned: false,
  recoverable: false,
  join_leave: false,
  flag: 0
}

/**
 * `client`: by a command; an insufficient or expired one is ended, and the
 * client subscribes again. `server`: the client cannot do so, and is disconnected.
 */
export type Side = "client" | "server"

/** Joins, in one step: the result of `subscribe`, or why not. */
export type Join = () => Either.Either<string, Codes.ErrorCode>

interface Open {
  readonly subscription: Subscription
  readonly side: Side
  info: string | undefined
  /** Unix seconds. */
  expiresAt: number | undefined
}

/** What a subscription gives, as the namespace forces it or the client may have it. */
interface Given {
  readonly recoverable: boolean
  readonly positioned: boolean
  readonly attendance: boolean
}

/** What a client is told of what it has missed. */
interface Replay {
  readonly maxBytes: number
  /** Whether it is all of it, within `maxBytes`. */
  readonly isWhole: boolean
  /** JSON text. */
  readonly list: string
}

/** Those who come back together get the same list of publications: it is written once. */
const replays = new WeakMap<ReadonlyArray<Publication>, Replay>()

const replayOf = (publications: ReadonlyArray<Publication>, maxBytes: number): Replay => {
  const known = replays.get(publications)
  if (known?.maxBytes === maxBytes) return known
  const texts = Json.page(publications, maxBytes)
  const replay = { maxBytes, isWhole: texts.length === publications.length, list: Json.list(texts) }
  replays.set(publications, replay)
  return replay
}

export class Subscriptions implements Subscriber {
  readonly #services: Services
  readonly #outlet: Outlet
  readonly #whose: Whose
  readonly #attendance: Attendance
  readonly #open = new Map<string, Open>()
  /** Channels in which one is being made; `undefined` where there is none, as most of the time. */
  #making: Set<string> | undefined
  /** Channels whose subscriptions expire; `undefined` until there is one. */
  #expiring: Set<string> | undefined

  /** What ends the subscriptions that are being made without a fiber. */
  #joining: Set<() => void> | undefined

  constructor(services: Services, outlet: Outlet, whose: Whose) {
    this.#services = services
    this.#outlet = outlet
    this.#whose = whose
    this.#attendance = new Attendance(services, whose)
  }

  /**
   * Takes a place for one more subscription; `false`: there are as many as
   * `client.channel_limit`, those that are being made included. `give` gives it
   * back.
   */
  take(channel: string): boolean {
    let making = 0
    for (const one of this.#making ?? []) if (!this.#open.has(one)) making++
    if (this.#open.size + making >= this.#services.config.client.channel_limit) return false
    ;(this.#making ??= new Set()).add(channel)
    return true
  }

  give(channel: string): void {
    if (this.#making?.delete(channel) === true && this.#making.size === 0) this.#making = undefined
  }

  /** Takes a place within the scope. */
  place(channel: string): Effect.Effect<boolean, never, Scope.Scope> {
    return acquire(
      () => {
        const isTaken = this.take(channel)
        if (!isTaken) this.#services.metrics.limits.channels.add()
        return isTaken
      },
      (isTaken) =>
        Effect.sync(() => {
          if (isTaken) this.give(channel)
        })
    )
  }

  has(channel: string): boolean {
    return this.#open.has(channel)
  }

  /** The client as it is shown to others in a channel. */
  infoIn(channel: string): ClientInfo {
    const info = this.#open.get(channel)?.info
    return info === undefined ? this.#whose.info() : { ...this.#whose.info(), chanInfo: info }
  }

  /**
   * Prepares a subscription of a client that may have it; within the scope it
   * can be joined. A replay has at most `maxBytes`.
   */
  prepare(
    channel: string,
    asked: Asked,
    side: Side,
    granted: Hooks.Granted,
    maxBytes: number = this.#services.config.client.reply_max_size
  ): Effect.Effect<Join, Broker.BrokerError, Scope.Scope> {
    return Effect.gen(this, function* () {
      const given = yield* this.#given(channel, asked)
      const { recoverable } = given
      const since = { epoch: asked.epoch, offset: asked.offset }
      const prepared = yield* this.#services.hub.prepare(
        channel,
        recoverable && asked.recover ? { since } : undefined,
        maxBytes
      )
      yield* onClose(Effect.suspend(() => (this.has(channel) ? Effect.void : this.#attendance.leave(channel))))
      yield* this.#attendance.enter(channel, granted.info)
      return () => this.#join(channel, asked, side, granted, given, prepared, maxBytes)
    })
  }

  /**
   * Subscribes without a fiber, where nobody has to be asked, waited for or
   * told: `joined` is called once, maybe within this call; with `undefined` for
   * a client that has left meanwhile. `false`: somebody has to, and nothing was
   * done.
   */
  unsafeSubscribe(
    channel: string,
    asked: Asked,
    granted: Hooks.Granted,
    joined: (result: Exit.Exit<Either.Either<string, Codes.ErrorCode>, Broker.BrokerError> | undefined) => void
  ): boolean {
    const given = value(this.#given(channel, asked))
    if (this.#attendance.isKept(channel) || given === undefined) return false
    const maxBytes = this.#services.config.client.reply_max_size
    const { recoverable } = given.value
    const want = recoverable && asked.recover ? { since: { epoch: asked.epoch, offset: asked.offset } } : undefined
    let isOver = false
    const over: typeof joined = (result) => {
      isOver = true
      this.#joining?.delete(leave)
      if (this.#joining?.size === 0) this.#joining = undefined
      joined(result)
    }
    const cancel = this.#services.hub.unsafePrepare(channel, want, maxBytes, (prepared) => {
      if (Exit.isFailure(prepared)) over(Exit.failCause(prepared.cause))
      else over(Exit.succeed(this.#join(channel, asked, "client", granted, given.value, prepared.value, maxBytes)))
    })
    if (cancel === undefined) return false
    const leave = (): void => {
      cancel()
      over(undefined)
    }
    if (!isOver) (this.#joining ??= new Set()).add(leave)
    return true
  }

  #join(
    channel: string,
    asked: Asked,
    side: Side,
    granted: Hooks.Granted,
    given: Given,
    prepared: Hub.Prepared,
    maxBytes: number
  ): Either.Either<string, Codes.ErrorCode> {
    const { positioned, recoverable } = given
    const subscription = this.#subscription(channel, given, granted)
    const { isRecovered, position, publications: missed } = prepared.join(subscription)
    const { excludes } = subscription
    const publications = excludes === undefined ? missed : missed.filter(({ info }) => info?.client !== excludes)
    const replay = isRecovered ? replayOf(publications, maxBytes) : undefined
    const recovered = replay?.isWhole === true
    if (recoverable && asked.recover) {
      this.#services.metrics.recoveries[recovered ? "recovered" : "unrecovered"].add()
    }
    const refusal =
      positioned && position === undefined
        ? Codes.internal
        : recoverable && asked.recover && !recovered && (asked.flag & Command.REJECT_UNRECOVERED) !== 0
          ? Codes.unrecoverable
          : undefined
    if (refusal !== undefined) {
      this.#services.hub.leave(channel, subscription)
      return Either.left(refusal)
    }
    // A client that recovers moves on by applying what was missed: one whose handler throws is not past it.
    const place = recovered && position !== undefined ? { epoch: position.epoch, offset: asked.offset } : position
    const { data, expiresAt, info } = granted
    this.#open.set(channel, { subscription, side, info, expiresAt })
    if (expiresAt !== undefined) this.#expires(channel)
    return Either.right(
      Json.subscribeResult({
        recoverable,
        positioned,
        position: positioned ? place : undefined,
        wasRecovering: asked.recover,
        recovered,
        publications: recovered ? replay.list : Json.list([]),
        ttl: ttl(this.#services, expiresAt),
        data
      })
    )
  }

  /** Tells others that it has joined; once the client itself knows. */
  announce(channel: string): Effect.Effect<void> {
    return this.#attendance.announce(channel)
  }

  /** Ends a subscription, if there is one. */
  leave(channel: string): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.#close(channel)
      return this.#attendance.leave(channel)
    })
  }

  /** Ends all of them. */
  get leaveAll(): Effect.Effect<void> {
    return Effect.suspend(() => {
      for (const leave of Array.from(this.#joining ?? [])) leave()
      for (const channel of Array.from(this.#open.keys())) this.#close(channel)
      return this.#attendance.leaveAll
    })
  }

  /** A subscription goes on. */
  refresh(channel: string, { expiresAt, info }: Hooks.Refreshed): Effect.Effect<void> {
    return Effect.suspend(() => {
      const open = this.#open.get(channel)
      if (open === undefined) return Effect.void
      open.expiresAt = expiresAt
      if (expiresAt === undefined) this.#expiring?.delete(channel)
      else this.#expires(channel)
      if (info === undefined) return Effect.void
      open.info = info
      return this.#attendance.show(channel, info)
    })
  }

  /** Shows others what is known of the client now. */
  get show(): Effect.Effect<void> {
    return this.#attendance.showAll
  }

  /** Ends what has expired. `now` is in milliseconds. */
  sweep(now: number): void {
    if (this.#expiring === undefined) return
    for (const channel of Array.from(this.#expiring)) {
      const open = this.#open.get(channel)
      if (!isOver(this.#services, open?.expiresAt, now)) continue
      if (open?.side === "server") return this.#outlet.end(Codes.subscriptionExpiredDisconnect, `"${channel}"`, channel)
      this.#close(channel)
      this.#told(channel, Codes.subscriptionExpired)
    }
  }

  #expires(channel: string): void {
    ;(this.#expiring ??= new Set()).add(channel)
  }

  #close(channel: string): void {
    const open = this.#open.get(channel)
    if (open === undefined) return
    this.#open.delete(channel)
    this.#expiring?.delete(channel)
    this.#services.hub.leave(channel, open.subscription)
  }

  /** Tells the client of the end of a subscription, and others in the turn of its own commands on the channel. */
  #told(channel: string, why: Codes.Unsubscribe): void {
    this.#outlet.send(Json.unsubscribePush(channel, why))
    const stay = this.#attendance.stay(channel)
    if (stay === undefined) return
    // Commands that wait already may begin another stay before this one's turn comes.
    const run = () => this.#attendance.leave(channel, stay)
    // Not in the middle of a fan-out.
    this.#outlet.submitLater({ lane: channel, exclusive: false, isHeavy: false, run })
  }

  #subscription(channel: string, { attendance, positioned }: Given, { echo }: Hooks.Granted): Subscription {
    return new Subscription(this.#outlet, channel, this, {
      encoding: "protocol",
      isPositioned: positioned,
      hearsAttendance: attendance,
      excludes: echo === false ? this.#whose.info().client : undefined
    })
  }

  /** What the namespace forces, and what the client asks for where it may have it: an `Exit` where it asks for nothing. */
  #given(channel: string, asked: Asked): Effect.Effect<Given> {
    const { config, hooks } = this.#services
    const namespace = Namespace.find(config.channel, channel)
    const request = { client: this.#whose.info(), channel, subscribed: true }
    const may = (
      isAsked: boolean,
      what: string,
      ask: (request: Hooks.HistoryRequest & Hooks.PresenceRequest) => Effect.Effect<void, Hooks.Rejected>
    ): Effect.Effect<boolean> =>
      isAsked
        ? Effect.as(ask(request), true).pipe(
            Effect.catchTag("Rejected", ({ detail, message }) =>
              Effect.logDebug(`no ${what} in "${channel}": ${detail ?? message}`).pipe(
                Effect.annotateLogs("channel", channel),
                Effect.as(false)
              )
            )
          )
        : Effect.succeed(false)
    if (namespace === undefined) return Effect.succeed({ recoverable: false, positioned: false, attendance: false })
    const { force_positioning, force_push_join_leave, force_recovery, history_size, join_leave } = namespace
    const asksMore = (asked.recoverable && !force_recovery) || (asked.positioned && !force_positioning)
    const asksToHear = join_leave && asked.join_leave && !force_push_join_leave
    const given = (mayRecover: boolean, mayHear: boolean): Given => {
      const recoverable = force_recovery || (asked.recoverable && mayRecover)
      return {
        recoverable,
        positioned: recoverable || force_positioning || (asked.positioned && mayRecover),
        attendance: force_push_join_leave || mayHear
      }
    }
    if (!(history_size > 0 && asksMore) && !asksToHear) return Effect.succeed(given(false, false))
    return Effect.zipWith(
      may(history_size > 0 && asksMore, "recovery", (one) => hooks.onHistory(one)),
      may(asksToHear, "join and leave", (one) => hooks.onPresence(one)),
      given
    )
  }

  ended(channel: string, why: Metrics.Insufficiency): void {
    const side = this.#open.get(channel)?.side
    this.#open.delete(channel)
    this.#expiring?.delete(channel)
    if (side === "client") this.#told(channel, Codes.insufficient)
    // The client cannot subscribe again by itself; with `connect` it recovers.
    else this.#outlet.end(Codes.insufficientState, `"${channel}": ${why}`, channel)
  }
}
