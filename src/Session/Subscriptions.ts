/**
 * The subscriptions of one client of the client protocol: how it joins a
 * channel, recovers what it missed there, and is told when it misses something.
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as Scope from "effect/Scope"
import type * as Broker from "../Broker.ts"
import type * as Hooks from "../Hooks.ts"
import type * as Metrics from "../Metrics.ts"
import * as Namespace from "../Namespace.ts"
import * as Codes from "../protocol/Codes.ts"
import * as Command from "../protocol/Command.ts"
import * as Json from "../protocol/Json.ts"
import type { ClientInfo } from "../protocol/Publication.ts"
import { type Outlet, type Services, Subscription } from "../Session.ts"

/** What a client asks for with a subscription. */
export interface Asked {
  readonly recover: boolean
  readonly offset: number
  readonly epoch: string
  readonly positioned: boolean
  readonly recoverable: boolean
  readonly flag: number
}

/** `client`: by a command; an insufficient one is ended, and the client subscribes again. `server`: with `connect`. */
export type Side = "client" | "server"

/** Joins, in one step: the result of `subscribe`, or why not. */
export type Join = () => Either.Either<string, Codes.ErrorCode>

export class Subscriptions {
  readonly #services: Services
  readonly #outlet: Outlet
  readonly #open = new Map<string, { readonly subscription: Subscription; readonly side: Side }>()

  constructor(services: Services, outlet: Outlet) {
    this.#services = services
    this.#outlet = outlet
  }

  get size(): number {
    return this.#open.size
  }

  has(channel: string): boolean {
    return this.#open.has(channel)
  }

  /**
   * Prepares a subscription of a client that may have it; within the scope it
   * can be joined. A replay has at most `maxBytes`.
   */
  prepare(
    client: ClientInfo,
    channel: string,
    asked: Asked,
    side: Side,
    maxBytes: number = this.#services.config.client.reply_max_size
  ): Effect.Effect<Join, Broker.BrokerError, Scope.Scope> {
    return Effect.gen(this, function* () {
      const { recoverable, positioned } = yield* this.#granted(client, channel, asked)
      const since = { epoch: asked.epoch, offset: asked.offset }
      const prepared = yield* this.#services.hub.prepare(
        channel,
        recoverable && asked.recover ? { since } : undefined,
        maxBytes
      )
      return () => {
        const subscription = new Subscription(this.#outlet, "protocol", channel, positioned, this.#ended)
        const { position, publications, isRecovered } = prepared.join(subscription)
        const texts = Json.page(publications, maxBytes)
        const recovered = isRecovered && texts.length === publications.length
        if (recoverable && asked.recover) this.#services.metrics.recoveries[recovered ? "recovered" : "unrecovered"]++
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
        this.#open.set(channel, { subscription, side })
        return Either.right(
          Json.subscribeResult({
            recoverable,
            positioned,
            position: positioned ? position : undefined,
            wasRecovering: asked.recover,
            recovered,
            publications: recovered ? texts : []
          })
        )
      }
    })
  }

  /** Ends a subscription, if there is one. */
  leave(channel: string): void {
    const open = this.#open.get(channel)
    if (open === undefined) return
    this.#open.delete(channel)
    this.#services.hub.leave(channel, open.subscription)
  }

  /** Ends all of them. */
  leaveAll(): void {
    for (const channel of Array.from(this.#open.keys())) this.leave(channel)
  }

  /** What the namespace forces, and what the client asks for where it may read the history. */
  #granted(
    client: ClientInfo,
    channel: string,
    asked: Asked
  ): Effect.Effect<{ readonly recoverable: boolean; readonly positioned: boolean }> {
    const { config, hooks } = this.#services
    const namespace = Namespace.find(config.channel, channel)
    if (namespace === undefined || namespace.history_size === 0) {
      return Effect.succeed({ recoverable: false, positioned: false })
    }
    const { force_recovery, force_positioning } = namespace
    const wantsMore = (asked.recoverable && !force_recovery) || (asked.positioned && !force_positioning)
    const mayAsk = wantsMore
      ? hooks.onHistory({ client, channel, subscribed: true }).pipe(
          Effect.as(true),
          Effect.catchTag("Rejected", ({ detail, message }: Hooks.Rejected) =>
            Effect.as(Effect.logDebug(`no recovery in "${channel}": ${detail ?? message}`), false)
          )
        )
      : Effect.succeed(false)
    return Effect.map(mayAsk, (may) => {
      const recoverable = force_recovery || (asked.recoverable && may)
      return { recoverable, positioned: recoverable || force_positioning || (asked.positioned && may) }
    })
  }

  readonly #ended = (channel: string, why: Metrics.Insufficiency): void => {
    const side = this.#open.get(channel)?.side
    this.#open.delete(channel)
    if (side === "client") this.#outlet.send(Json.unsubscribePush(channel, Codes.insufficient))
    // The client cannot subscribe again by itself; with `connect` it recovers.
    else this.#outlet.end(Codes.insufficientState, `"${channel}": ${why}`)
  }
}
