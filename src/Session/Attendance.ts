/** Where one connection is present, and who is told that it joins and leaves. */
import * as Effect from "effect/Effect"
import type * as Broker from "../Broker.ts"
import * as Namespace from "../Namespace.ts"
import * as Publication from "../protocol/Publication.ts"
import type { Services } from "../Session.ts"

interface Attended {
  chanInfo: string | undefined
  isAnnounced: boolean
}

/** Whose connection it is. */
export interface Whose {
  /** The client, as it is known now. */
  readonly info: () => Publication.ClientInfo
}

/** Stands for one stay in a channel: what has ended is told from what has begun again. */
export type Stay = object

/** The channels that one connection attends. */
export class Attendance {
  readonly #services: Pick<Services, "broker" | "config" | "metrics" | "presence">
  readonly #whose: Whose
  /** Made for the first channel that keeps or tells who is there. */
  #attended: Map<string, Attended> | undefined

  constructor(services: Pick<Services, "broker" | "config" | "metrics" | "presence">, whose: Whose) {
    this.#services = services
    this.#whose = whose
  }

  /** Whether anybody is to know who is in a channel. */
  isKept(channel: string): boolean {
    return this.#isKept(channel) || this.#isTold(channel)
  }

  /** Enters a channel where its namespace keeps who is there. Whatever happens then, `leave` undoes it. */
  enter(channel: string, chanInfo: string | undefined): Effect.Effect<void, Broker.BrokerError> {
    return Effect.suspend(() => {
      if (!this.isKept(channel)) return Effect.void
      // One that has ended and is not left yet: its leave comes before the next join.
      const left = this.#attended?.has(channel) === true ? this.leave(channel) : Effect.void
      const entered = Effect.suspend(() => {
        // Before it is entered: an interruption in between must not leave it behind.
        ;(this.#attended ??= new Map()).set(channel, { chanInfo, isAnnounced: false })
        if (!this.#isKept(channel)) return Effect.void
        // A refresh that was under way may have entered it as well: it is taken out, whoever has.
        return Effect.tapError(this.#services.presence.add(channel, this.#info(chanInfo)), () => this.leave(channel))
      })
      return Effect.zipRight(left, entered)
    })
  }

  /** The stay in a channel now. */
  stay(channel: string): Stay | undefined {
    return this.#attended?.get(channel)
  }

  /** Tells the subscribers that it has joined, as far as the broker lets it. */
  announce(channel: string): Effect.Effect<void> {
    return Effect.suspend(() => {
      const attended = this.#attended?.get(channel)
      if (attended === undefined || !this.#isTold(channel)) return Effect.void
      attended.isAnnounced = true
      return this.#tell("join", channel, attended.chanInfo)
    })
  }

  /** Leaves a channel, if it is there, and tells of it. With `stay`: only if it is still that one. */
  leave(channel: string, stay?: Stay): Effect.Effect<void> {
    return Effect.suspend(() => {
      const attended = this.#attended?.get(channel)
      if (attended === undefined || (stay !== undefined && stay !== attended)) return Effect.void
      this.#attended?.delete(channel)
      return Effect.zipRight(
        this.#isKept(channel) ? this.#services.presence.remove(channel, this.#whose.info().client) : Effect.void,
        attended.isAnnounced ? this.#tell("leave", channel, attended.chanInfo) : Effect.void,
        { concurrent: true }
      )
    })
  }

  /** Leaves all of them. */
  get leaveAll(): Effect.Effect<void> {
    return Effect.suspend(() =>
      Effect.forEach(Array.from(this.#attended?.keys() ?? []), (channel) => this.leave(channel), {
        concurrency: "unbounded",
        discard: true
      })
    )
  }

  /** Shows something else in a channel. Where the broker does not take it, what was shown before stays. */
  show(channel: string, chanInfo: string | undefined): Effect.Effect<void> {
    return Effect.suspend(() => {
      const attended = this.#attended?.get(channel)
      if (attended === undefined) return Effect.void
      attended.chanInfo = chanInfo
      return this.#isKept(channel)
        ? Effect.ignore(this.#services.presence.add(channel, this.#info(chanInfo)))
        : Effect.void
    })
  }

  /** Shows what is known of the client now, in all of them. */
  get showAll(): Effect.Effect<void> {
    return Effect.suspend(() =>
      Effect.forEach(Array.from(this.#attended ?? []), ([channel, { chanInfo }]) => this.show(channel, chanInfo), {
        concurrency: "unbounded",
        discard: true
      })
    )
  }

  #isKept(channel: string): boolean {
    return Namespace.find(this.#services.config.channel, channel)?.presence === true
  }

  #isTold(channel: string): boolean {
    return Namespace.find(this.#services.config.channel, channel)?.join_leave === true
  }

  #info(chanInfo: string | undefined): Publication.ClientInfo {
    return chanInfo === undefined ? this.#whose.info() : { ...this.#whose.info(), chanInfo }
  }

  #tell(kind: "join" | "leave", channel: string, chanInfo: string | undefined): Effect.Effect<void> {
    return Effect.catchAll(
      this.#services.broker.publish(channel, Publication.attendance(kind, this.#info(chanInfo))),
      (error) => {
        this.#services.metrics.attendanceLost.add()
        return Effect.annotateLogs(
          Effect.logDebug(`nobody is told of a ${kind} in "${channel}": ${error.message}`),
          "channel",
          channel
        )
      }
    )
  }
}
