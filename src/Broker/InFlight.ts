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

/** A command: what it is about, for its errors, and what it costs. */
export interface About {
  readonly channel: string
  /** What it does. */
  readonly what: string
  readonly bytes: number
  /** What it means that the link broke before the answer. */
  readonly lost: BrokerFailure
}

export const failure = (reason: BrokerFailure, channel: string, what: string, cause?: unknown): BrokerError =>
  new BrokerError({ reason, channel, message: `${what} "${channel}": ${reason}`, cause })

/** Commands on their way. */
export interface InFlight {
  /** Runs a command at a link, within the bounds and the deadline. */
  readonly send: <A>(
    at: Streams.Target | undefined,
    about: About,
    run: (at: Streams.Target) => Promise<A>
  ) => Effect.Effect<A, BrokerError>
  /** The same without a fiber; `done` is called once, maybe within this call. */
  readonly unsafeSend: <A>(
    at: Streams.Target | undefined,
    about: About,
    run: (at: Streams.Target) => Promise<A>,
    done: (result: Exit.Exit<A, BrokerError>) => void
  ) => void
}

export const make = ({
  limits
}: Pick<Context.Tag.Service<Metrics.Metrics>, "limits">): Effect.Effect<InFlight, never, Scope.Scope> =>
  Effect.map(Deadlines.make(DEADLINE), (deadlines) => {
    let commands = 0
    let bytesInAll = 0

    const unsafeSend = <A>(
      at: Streams.Target | undefined,
      about: About,
      run: (at: Streams.Target) => Promise<A>,
      done: (result: Exit.Exit<A, BrokerError>) => void
    ): void => {
      const { bytes, channel, lost, what } = about
      const fail = (reason: BrokerFailure, cause?: unknown): void =>
        done(Exit.fail(failure(reason, channel, what, cause)))
      if (at === undefined) return fail("NotLive")
      if (commands >= COMMANDS || bytesInAll >= BYTES) {
        limits.publishes_in_flight.add()
        return fail("Overloaded")
      }
      commands++
      bytesInAll += bytes
      let isOver = false
      const end = deadlines.begin(() => {
        isOver = true
        fail("Timeout")
      })
      // Counted until Redis answers or the link is gone: a deadline does not take it off the wire.
      const settle = (): boolean => {
        end()
        commands--
        bytesInAll -= bytes
        return !isOver
      }
      const onAnswer = (answer: A): void => {
        if (settle()) done(Exit.succeed(answer))
      }
      const onRejection = (cause: unknown): void => {
        if (settle()) fail(Redis.isReply(cause) ? "Failed" : lost, cause)
      }
      at.client.cork()
      const answer = Either.try(() => run(at))
      if (Either.isLeft(answer)) onRejection(answer.left)
      else answer.right.then(onAnswer, onRejection)
    }

    return {
      unsafeSend,
      send: <A>(at: Streams.Target | undefined, about: About, run: (at: Streams.Target) => Promise<A>) =>
        Effect.async<A, BrokerError>((resume) => unsafeSend(at, about, run, resume))
    }
  })
