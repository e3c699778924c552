/**
 * The broker of many instances: Redis Pub/Sub.
 *
 * One link at a time: a client that publishes and a client that subscribes,
 * both to the same Redis process. A supervisor opens it, watches it, and when it
 * is lost opens another, for ever. The wanted channels live here, not in the
 * client, and are restored before a new link counts as live.
 *
 * `Degraded → Resyncing → Live → Degraded …`: each change is in `state`, in the
 * log and in the metrics.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as SubscriptionRef from "effect/SubscriptionRef"
import { Buffer } from "node:buffer"
import { Broker, BrokerError, type BrokerFailure, type BrokerState, type Sink } from "../Broker.ts"
import * as Redis from "../internal/redis.ts"
import { atMost, within } from "../internal/time.ts"
import * as Metrics from "../Metrics.ts"
import * as ServerConfig from "../ServerConfig.ts"
import * as Envelope from "./Envelope.ts"
import * as Subscriptions from "./Subscriptions.ts"

/** The broker's answer to a publish or subscribe has to come within this. */
const DEADLINE = Duration.seconds(1)

/** A link has to be open within this; a server that accepts and stays silent must not end the attempts. */
const OPEN_TIMEOUT = Duration.seconds(3)

/** Publishes without an answer yet; at the bound further ones fail as `Overloaded`. */
const IN_FLIGHT = 16_384
const IN_FLIGHT_BYTES = 32 * 1024 * 1024

/** A link that lived so long was healthy: the next outage starts with the shortest delay again. */
const HEALTHY_AFTER = Duration.seconds(5)

/** Longest wait for what is on its way, when a drain begins. */
const SETTLE_TIMEOUT = Duration.seconds(2)

/** Delays in milliseconds, before the jitter, which adds up to a fifth: 4 s at most after it. */
const LONGEST_DELAY = 4000 / 1.2
const FIRST_DELAY = 100

/**
 * The delays between attempts to open a link: from 100 ms, doubled each time,
 * jittered by a fifth so that instances do not come back in step, 4 s at most.
 */
export const retrySchedule: Schedule.Schedule<unknown> = Schedule.forever.pipe(
  // Not Schedule.exponential: its delay overflows after 998 attempts, and the schedule dies of it.
  Schedule.addDelay((attempt) => Duration.millis(Math.min(FIRST_DELAY * 2 ** attempt, LONGEST_DELAY))),
  Schedule.jittered
)

/**
 * Runs `link` for ever. Each time it ends it is run again after the next delay
 * of the schedule, which begins anew when the link had lived for
 * `healthyAfter`.
 */
export const supervise = <E>(
  link: Effect.Effect<never, E>,
  schedule: Schedule.Schedule<unknown>,
  healthyAfter: Duration.Duration
): Effect.Effect<never> =>
  Effect.gen(function* () {
    const driver = yield* Schedule.driver(schedule)
    const once = Effect.gen(function* () {
      const opened = yield* Clock.currentTimeMillis
      // Whatever ends it, a defect too, is followed by another attempt.
      yield* Effect.catchAllCause(link, (cause) => (Cause.isInterruptedOnly(cause) ? Effect.interrupt : Effect.void))
      const lived = (yield* Clock.currentTimeMillis) - opened
      if (lived >= Duration.toMillis(healthyAfter)) yield* driver.reset
      yield* Effect.ignore(driver.next(undefined))
    })
    return yield* Effect.forever(once)
  })

interface Link {
  readonly publisher: Redis.Client
  readonly subscriber: Redis.Client
}

const openLink = (url: Redacted.Redacted): Effect.Effect<Link, Redis.LinkLost, Scope.Scope> =>
  Effect.gen(function* () {
    const [publisher, subscriber] = yield* Effect.all(
      [Redis.open(url, "fanfare-publisher"), Redis.open(url, "fanfare-subscriber")],
      { concurrency: "unbounded" }
    )
    const [one, other] = yield* Effect.all([Redis.runId(publisher), Redis.runId(subscriber)])
    // Behind one address there may be two servers for the length of a failover.
    if (one !== other)
      yield* new Redis.LinkLost({ message: "publisher and subscriber are connected to different servers" })
    return { publisher, subscriber }
  })

const make = (url: Redacted.Redacted) =>
  Effect.gen(function* () {
    const metrics = yield* Metrics.Metrics
    const { prefix } = (yield* ServerConfig.ServerConfig).broker.redis
    const state = yield* SubscriptionRef.make<BrokerState>({ _tag: "Degraded", cause: "not connected yet" })
    const subscriptions = yield* Subscriptions.make<Redis.LinkLost>()
    const where = new URL(Redacted.value(url)).host
    const channelPrefix = `${prefix}:pub:`
    let link: Link | undefined
    let sink: Sink | undefined
    let inFlight = 0
    let inFlightBytes = 0

    const failure = (reason: BrokerFailure, channel: string, what: string, cause?: unknown): BrokerError =>
      new BrokerError({ reason, channel, message: `${what} "${channel}": ${reason}`, cause })

    const commandsOf = ({ subscriber: { redis } }: Link): Subscriptions.Commands<Redis.LinkLost> => {
      const names = (channels: ReadonlyArray<string>) => channels.map((channel) => channelPrefix + channel)
      return {
        isRefusal: Redis.isRefusal,
        subscribe: (channels) => Effect.asVoid(Redis.command(() => redis.subscribe(...names(channels)))),
        unsubscribe: (channels) => Effect.asVoid(Redis.command(() => redis.unsubscribe(...names(channels))))
      }
    }

    /** Hands messages to the sink, and stops reading while it is full. */
    const listen = ({ subscriber }: Link): Effect.Effect<void, never, Scope.Scope> =>
      Effect.gen(function* () {
        const full = yield* Effect.makeLatch(false)
        subscriber.redis.on("message", (name: string, payload: string) => {
          const channel = name.slice(channelPrefix.length)
          if (sink === undefined || !subscriptions.isWanted(channel)) return
          const decoded = Envelope.decode(payload)
          if (Either.isLeft(decoded)) sink.undecodable()
          else sink.offer(channel, decoded.right)
          if (sink.isFull()) {
            subscriber.pause()
            full.unsafeOpen()
          }
        })
        yield* full.await.pipe(
          Effect.zipRight(Effect.suspend(() => sink?.writable ?? Effect.void)),
          Effect.tap(() =>
            Effect.sync(() => {
              full.unsafeClose()
              subscriber.resume()
            })
          ),
          Effect.forever,
          Effect.forkScoped
        )
      })

    const enter = (next: BrokerState): Effect.Effect<void> => SubscriptionRef.set(state, next)

    let lostAt: number | undefined
    const live = Effect.gen(function* () {
      const now = yield* Clock.currentTimeMillis
      const away = lostAt === undefined ? 0 : (now - lostAt) / 1000
      metrics.brokerOutageSeconds += away
      lostAt = undefined
      yield* enter({ _tag: "Live" })
      yield* Effect.logInfo(`broker live: redis at ${where}${away === 0 ? "" : `, after ${away.toFixed(1)} s`}`)
    })

    const degraded = (error: Redis.LinkLost) =>
      Effect.gen(function* () {
        const before = yield* SubscriptionRef.get(state)
        const wasLive = link !== undefined
        link = undefined
        yield* subscriptions.lost(error)
        yield* enter({ _tag: "Degraded", cause: error.message })
        if (wasLive) metrics.brokerLinkLosses++
        lostAt ??= yield* Clock.currentTimeMillis
        // One line for an outage, however many attempts it takes.
        const news = before._tag !== "Degraded" || before.cause !== error.message
        yield* news
          ? Effect.logWarning(`broker degraded: redis at ${where}: ${error.message}; retrying`)
          : Effect.logDebug(`broker still degraded: ${error.message}`)
      })

    const broken = (defect: unknown) =>
      Effect.zipRight(
        Effect.logError("the Redis link broke", Cause.die(defect)),
        Effect.fail(new Redis.LinkLost({ message: "a defect, logged above", cause: defect }))
      )

    const serve = Effect.scoped(
      Effect.gen(function* () {
        const opened = yield* openLink(url).pipe(
          within(OPEN_TIMEOUT, () => new Redis.LinkLost({ message: "no answer to the handshake" }))
        )
        yield* enter({ _tag: "Resyncing" })
        yield* listen(opened)
        const commands = commandsOf(opened)
        const watch = Effect.raceFirst(opened.publisher.watch, opened.subscriber.watch)
        yield* Effect.raceFirst(subscriptions.restore(commands), watch)
        link = opened
        yield* live
        return yield* Effect.raceFirst(watch, subscriptions.maintain(commands))
      }).pipe(Effect.catchAllDefect(broken), Effect.tapError(degraded))
    )

    yield* Effect.forkScoped(supervise(serve, retrySchedule, HEALTHY_AFTER))

    const send = (client: Redis.Client, channel: string, envelope: string): Effect.Effect<void, BrokerError> =>
      Effect.async<void, BrokerError>((resume) => {
        const bytes = Buffer.byteLength(envelope)
        inFlight++
        inFlightBytes += bytes
        // Counted until Redis answers or the link is gone: a deadline does not take it off the wire.
        const settled = (result: Effect.Effect<void, BrokerError>): void => {
          inFlight--
          inFlightBytes -= bytes
          resume(result)
        }
        client.redis.publish(channelPrefix + channel, envelope).then(
          () => settled(Effect.void),
          (cause: unknown) => settled(Effect.fail(failure("Failed", channel, "publish", cause)))
        )
      }).pipe(within(DEADLINE, () => failure("Timeout", channel, "publish")))

    return Broker.of({
      name: "redis",
      state,
      publish: (channel, publication) =>
        Effect.suspend(() => {
          if (link === undefined) return Effect.fail(failure("NotLive", channel, "publish"))
          if (inFlight >= IN_FLIGHT || inFlightBytes >= IN_FLIGHT_BYTES) {
            return Effect.fail(failure("Overloaded", channel, "publish"))
          }
          return send(link.publisher, channel, Envelope.encode(publication))
        }),
      subscribe: (channel) =>
        Effect.suspend(() => {
          if (link === undefined) return Effect.fail(failure("NotLive", channel, "subscribe"))
          return subscriptions.want(channel).pipe(
            Effect.mapError((error) => failure("Failed", channel, "subscribe", error)),
            within(DEADLINE, () => failure("Timeout", channel, "subscribe"))
          )
        }),
      unsubscribe: (channel) => Effect.sync(() => subscriptions.release(channel)),
      attach: (one) =>
        Effect.acquireRelease(
          Effect.sync(() => {
            sink = one
          }),
          () =>
            Effect.sync(() => {
              sink = undefined
            })
        ),
      // Redis answers in order: after the answer to a ping, everything that it
      // sent before has been read.
      settled: Effect.suspend(() => {
        const current = link
        if (current === undefined) return Effect.void
        return Effect.suspend(() => sink?.writable ?? Effect.void).pipe(
          Effect.zipRight(Redis.command(() => current.subscriber.redis.ping())),
          atMost(SETTLE_TIMEOUT),
          Effect.ignore
        )
      })
    })
  })

/** The broker over the Redis at `url`. Building it never waits for Redis; until there is a link it is `Degraded`. */
export const layer = (
  url: Redacted.Redacted
): Layer.Layer<Broker, never, ServerConfig.ServerConfig | Metrics.Metrics> => Layer.scoped(Broker, make(url))
