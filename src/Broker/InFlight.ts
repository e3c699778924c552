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
import type * as Scope from "effect/Scope"
import { BrokerError, type BrokerFailure } from "../Broker.ts"
import * as Deadlines from "../internal/Deadlines.ts"
import * as Redis from "../internal/redis.ts"
import type * as Metrics from "../Metrics.ts"
import type * as Streams from "./RedisStreams.ts"

/** The broker's answer has to come within this. */
export const DEADLINE = Duration.seconds(1)

/** Commands without an answer yet; at the bound further ones fail as `Overloaded`. */
const COMMANDS = 16_384
const BYTES = 32 * 1024 * 1024

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

export const failure = (reason: BrokerFailure, channel: string, what: string, cause?: unknown): BrokerError =>
  new BrokerError({ reason, channel, message: `${what} "${channel}": ${reason}`, cause })

const failed = <R, A>({ channel, kind }: About<R, A>, reason: BrokerFailure, cause?: unknown) =>
  Exit.fail(failure(reason, channel, kind.what, cause))

/** Commands on their way. */
export interface InFlight {
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

/**
 * A command without an answer yet. There may be thousands, and each collection of
 * garbage copies them: so it is one object, and closes over nothing that is not
 * needed any more.
 */
class Sent<R, A> extends Deadlines.Wait {
  readonly about: About<R, A>
  readonly receiver: Receiver<A>

  constructor(about: About<R, A>, receiver: Receiver<A>) {
    super()
    this.about = about
    this.receiver = receiver
  }

  expire(): void {
    this.receiver.done(failed(this.about, "Timeout"))
  }
}

/** Runs it; what it throws is a rejection. */
const promised = <R>(run: (at: Streams.Target) => Promise<R>, at: Streams.Target): Promise<R> =>
  Either.getOrElse(
    Either.try(() => run(at)),
    (defect) => Promise.reject(defect)
  )

export const make = ({
  limits
}: Pick<Context.Tag.Service<Metrics.Metrics>, "limits">): Effect.Effect<InFlight, never, Scope.Scope> =>
  Effect.map(Deadlines.make(DEADLINE), (deadlines) => {
    let commands = 0
    let bytes = 0

    /** Counted until Redis answers or the link is gone: a deadline does not take it off the wire. Returns whether that is news. */
    const settle = <R, A>(sent: Sent<R, A>): boolean => {
      commands--
      bytes -= sent.about.bytes
      const isNews = sent.isOn
      deadlines.end(sent)
      return isNews
    }

    const answered = <R, A>(sent: Sent<R, A>, answer: R): void => {
      if (settle(sent)) sent.receiver.done(Exit.succeed(sent.about.kind.read(answer)))
    }

    const rejected = <R, A>(sent: Sent<R, A>, cause: unknown): void => {
      const reason = Redis.isReply(cause) ? "Failed" : sent.about.kind.lost
      if (settle(sent)) sent.receiver.done(failed(sent.about, reason, cause))
    }

    const follow = <R, A>(sent: Sent<R, A>, promise: Promise<R>): void => {
      promise.then(
        (answer) => answered(sent, answer),
        (cause: unknown) => rejected(sent, cause)
      )
    }

    const unsafeSend: InFlight["unsafeSend"] = (at, about, run, receiver) => {
      if (at === undefined) return receiver.done(failed(about, "NotLive"))
      if (commands >= COMMANDS || bytes >= BYTES) {
        limits.publishes_in_flight.add()
        return receiver.done(failed(about, "Overloaded"))
      }
      commands++
      bytes += about.bytes
      const sent = new Sent(about, receiver)
      deadlines.begin(sent)
      at.client.cork()
      follow(sent, promised(run, at))
    }

    return {
      unsafeSend,
      send: <R, A>(
        at: Streams.Target | undefined,
        about: About<R, A>,
        run: (at: Streams.Target) => Promise<R>
      ): Effect.Effect<A, BrokerError> =>
        Effect.async<A, BrokerError>((resume) => unsafeSend(at, about, run, { done: resume }))
    }
  })
