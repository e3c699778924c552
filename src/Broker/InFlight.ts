/**
 * Commands that are on their way to Redis: how many there may be, and how long
 * one may take.
 *
 * Measured (200 rooms of 5, everybody publishes; CPU of both instances for a
 * message): 180 µs with a timeout, a fiber and a write to Redis for each publish;
 * 70 µs with deadlines that share a fiber, callbacks, and one write a turn.
 */
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import { constVoid } from "effect/Function"
import type * as Scope from "effect/Scope"
import { BrokerError, type BrokerFailure, type Progress } from "../Broker.ts"
import * as Deadlines from "../internal/Deadlines.ts"
import * as Reply from "../internal/redisReply.ts"
import type * as Metrics from "../Metrics.ts"
import type * as Streams from "./RedisStreams.ts"

/** The broker's answer has to come within this. */
export const DEADLINE = Duration.seconds(1)

/** Commands without an answer yet, and publishes that share one; at the bound further ones fail as `Overloaded`. */
const COMMANDS = 16_384
const BYTES = 32 * 1024 * 1024

/** The error of a command; where Redis has refused it, with Redis's words. */
export const failure = (reason: BrokerFailure, channel: string, what: string, cause?: unknown): BrokerError => {
  const words = Reply.isReply(cause) ? ` (${Reply.wordsOf(cause)})` : ""
  return new BrokerError({ reason, channel, message: `${what} "${channel}": ${reason}${words}`, cause })
}

/** Hears of commands that Redis refuses: what they do, how many, and Redis's answer. Does not throw. */
export type OnRefusal = (what: string, cause: unknown, count: number) => void

/**
 * What is answered as one. There may be thousands without an answer yet, and each
 * collection of garbage copies them: so it is one object, and keeps nothing that
 * is not needed any more. Nothing here throws.
 */
export abstract class Sent<R> extends Deadlines.Wait {
  /** What it does, for the log. */
  abstract readonly what: string
  /** How many of the admitted it stands for, and their bytes; neither changes once it is followed. */
  abstract readonly count: number
  abstract readonly bytes: number
  /** What it means that the link broke before the answer. */
  abstract readonly lost: BrokerFailure
  /** Redis has answered. */
  abstract answered(answer: R): void
  /** It has not in time, or refuses it, or the link broke. */
  abstract failed(reason: BrokerFailure, cause?: unknown): void

  expire(): void {
    this.failed("Timeout")
  }
}

/** What commands do: the same for all that do it. */
export interface Kind<R, A> {
  /** For errors. */
  readonly what: string
  /** What it means that the link broke before the answer. */
  readonly lost: BrokerFailure
  /** What Redis's answer says. Does not throw. */
  readonly read: (answer: R) => A
}

/** One command. */
export interface About<R, A> {
  readonly kind: Kind<R, A>
  readonly channel: string
  /** What it costs. */
  readonly bytes: number
}

/** Who waits for an answer. */
export interface Receiver<A> {
  /** Called once. */
  readonly done: (result: Exit.Exit<A, BrokerError>) => void
}

/** Commands on their way. */
export interface InFlight {
  /** How many were admitted, and how many of them do not count any more. */
  readonly progress: Progress
  /**
   * Counts one of so many bytes among them; `false` at the bound. What is admitted
   * has to be followed, alone or with others, or it counts for ever.
   */
  readonly admit: (bytes: number) => boolean
  /** Its deadline begins. */
  readonly begin: (sent: Sent<never>) => void
  /** Redis has refused some of what it has answered as a whole. */
  readonly refused: OnRefusal
  /** Runs it, and tells what has become of it. It counts until Redis answers, or the link is gone. */
  readonly follow: <R>(sent: Sent<R>, run: () => Promise<R>) => void
  /** Runs a command at a link, within the bounds and the deadline. */
  readonly send: <R, A>(
    at: Streams.Target | undefined,
    about: About<R, A>,
    run: (at: Streams.Target) => Promise<R>
  ) => Effect.Effect<A, BrokerError>
  /** The same without a fiber; the receiver is told within this call, or later. */
  readonly unsafeSend: <R, A>(
    at: Streams.Target | undefined,
    about: About<R, A>,
    run: (at: Streams.Target) => Promise<R>,
    receiver: Receiver<A>
  ) => void
}

/** A command with an answer of its own. */
class Single<R, A> extends Sent<R> {
  readonly count = 1
  readonly #about: About<R, A>
  readonly #receiver: Receiver<A>

  constructor(about: About<R, A>, receiver: Receiver<A>) {
    super()
    this.#about = about
    this.#receiver = receiver
  }

  get what(): string {
    const { channel, kind } = this.#about
    return channel === "" ? kind.what : `${kind.what} "${channel}"`
  }

  get bytes(): number {
    return this.#about.bytes
  }

  get lost(): BrokerFailure {
    return this.#about.kind.lost
  }

  answered(answer: R): void {
    this.#receiver.done(Exit.succeed(this.#about.kind.read(answer)))
  }

  failed(reason: BrokerFailure, cause?: unknown): void {
    const { channel, kind } = this.#about
    this.#receiver.done(Exit.fail(failure(reason, channel, kind.what, cause)))
  }
}

/** A query that meets the end of a link, or a stall, is one to repeat: nothing is wrong with it. */
const reasonOf = <R>(sent: Sent<R>, cause: unknown): BrokerFailure => {
  if (!Reply.isReply(cause)) return sent.lost
  switch (Reply.verdictOf(cause)) {
    case "Ends":
      return sent.lost
    case "Stalls":
      return "Overloaded"
    case "Refuses":
      return "Failed"
  }
}

/** Runs it; what it throws is a rejection. */
const promised = <R>(run: () => Promise<R>): Promise<R> =>
  Either.getOrElse(Either.try(run), (defect) => Promise.reject(defect))

export const make = (
  { limits }: Pick<Context.Tag.Service<Metrics.Metrics>, "limits">,
  refused: OnRefusal = constVoid
): Effect.Effect<InFlight, never, Scope.Scope> =>
  Effect.map(Deadlines.make(DEADLINE), (deadlines) => {
    const progress = { asked: 0, answered: 0 }
    let bytes = 0

    const admit: InFlight["admit"] = (size) => {
      if (progress.asked - progress.answered >= COMMANDS || bytes >= BYTES) {
        limits.publishes_in_flight.add()
        return false
      }
      progress.asked++
      bytes += size
      return true
    }

    /** A deadline does not take it off the wire. Returns whether that it has ended is news. */
    const settle = <R>(sent: Sent<R>): boolean => {
      progress.answered += sent.count
      bytes -= sent.bytes
      const isNews = sent.isOn
      deadlines.end(sent)
      return isNews
    }

    const answered = <R>(sent: Sent<R>, answer: R): void => {
      if (settle(sent)) sent.answered(answer)
    }

    const rejected = <R>(sent: Sent<R>, cause: unknown): void => {
      if (Reply.isReply(cause)) refused(sent.what, cause, sent.count)
      if (settle(sent)) sent.failed(reasonOf(sent, cause), cause)
    }

    const follow: InFlight["follow"] = (sent, run) => {
      promised(run).then(
        (answer) => answered(sent, answer),
        (cause: unknown) => rejected(sent, cause)
      )
    }

    const unsafeSend: InFlight["unsafeSend"] = (at, about, run, receiver) => {
      const sent = new Single(about, receiver)
      if (at === undefined) return sent.failed("NotLive")
      if (!admit(about.bytes)) return sent.failed("Overloaded")
      deadlines.begin(sent)
      at.client.cork()
      follow(sent, () => run(at))
    }

    return {
      progress,
      admit,
      refused,
      begin: deadlines.begin,
      follow,
      unsafeSend,
      send: <R, A>(
        at: Streams.Target | undefined,
        about: About<R, A>,
        run: (at: Streams.Target) => Promise<R>
      ): Effect.Effect<A, BrokerError> =>
        Effect.async<A, BrokerError>((resume) => unsafeSend(at, about, run, { done: resume }))
    }
  })
