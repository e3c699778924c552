/**
 * The broker of many instances: Redis Pub/Sub, and streams in Redis.
 *
 * One link at a time: a client that publishes and a client that subscribes,
 * both to the same Redis process, which is a master. A supervisor opens it,
 * watches it, and when it is lost opens another, for ever. The wanted channels
 * live here, not in the client, and are restored before a new link counts as
 * live; so is what was missed meanwhile, from the streams.
 *
 * A link is judged by doing its work: once a second each client writes. Where
 * Redis answers that it is no master, the link ends; where it answers that it
 * loads its data, the link waits (docs/decisions/0018-link-by-work.md).
 *
 * `Degraded → Resyncing → Live → Degraded …`: each change is in `state`, in the
 * log and in the metrics.
 */
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { constUndefined, constVoid, identity } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { Buffer } from "node:buffer"
import { Broker, type BrokerError, type Kept, type PublishOptions, type Sink } from "../Broker.ts"
import type * as History from "../History.ts"
import { monotonic } from "../internal/clock.ts"
import * as Redis from "../internal/redis.ts"
import * as Reply from "../internal/redisReply.ts"
import { atMost, within } from "../internal/time.ts"
import * as Metrics from "../Metrics.ts"
import * as Entries from "../Presence/RedisEntries.ts"
import type { Publication } from "../protocol/Publication.ts"
import * as ServerConfig from "../ServerConfig.ts"
import * as Tracing from "../Tracing.ts"
import * as Batches from "./Batches.ts"
import * as Envelope from "./Envelope.ts"
import * as InFlight from "./InFlight.ts"
import { Link as SharedLink } from "./Link.ts"
import * as LinkState from "./LinkState.ts"
import * as Pair from "./Pair.ts"
import * as Streams from "./RedisStreams.ts"
import * as Refusals from "./Refusals.ts"
import * as Subscriptions from "./Subscriptions.ts"

export type { Link } from "./Link.ts"

/** A link has to be open within this; a server that accepts and stays silent must not end the attempts. */
const OPEN_TIMEOUT = Duration.seconds(3)

/** A link that lived so long was healthy: the next outage starts with the shortest delay again. */
const HEALTHY_AFTER = Duration.seconds(5)

/** Longest wait for what is on its way, when a drain begins. */
const SETTLE_TIMEOUT = Duration.seconds(2)

const FIRST_DELAY = Duration.millis(100)

/** Before the jitter, which adds up to a fifth: 4 s at most after it. */
const LONGEST_DELAY = Duration.millis(4000 / 1.2)

/**
 * The delays between attempts to open a link: from 100 ms, doubled each time,
 * jittered by a fifth so that nodes do not reconnect in step, 4 s at most.
 */
export const retrySchedule: Schedule.Schedule<unknown> = Schedule.exponential(FIRST_DELAY).pipe(
  Schedule.union(Schedule.spaced(LONGEST_DELAY)),
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
      const opened = yield* monotonic
      // Whatever ends it, a defect too, is followed by another attempt.
      yield* Effect.catchAllCause(link, (cause) => (Cause.isInterruptedOnly(cause) ? Effect.interrupt : Effect.void))
      const lived = Math.round((yield* monotonic) - opened)
      if (lived >= Duration.toMillis(healthyAfter)) yield* driver.reset
      yield* Effect.ignore(driver.next(undefined))
    })
    return yield* Effect.forever(once)
  })

const PUBLISH_ONCE = { what: "publish", lost: "Failed", read: constUndefined } as const
const APPEND = { what: "publish", lost: "Failed", read: Streams.positionOf } as const
const REMOVE = { what: "remove the history of", lost: "Failed", read: constVoid } as const
const SEND_CONTROL = { what: "send a control message", lost: "Failed", read: identity<number> } as const

/** What the link's scripts are for: streams, and presence. */
const scripts = { ...Streams.scripts, ...Entries.scripts }

const noAnswer = (): Redis.LinkLost => new Redis.LinkLost({ message: "no answer to the handshake" })

/** How soon a subscription is asked for again that a stall has refused: often within the deadline of a subscriber. */
const PATIENT_DELAY = Duration.millis(250)

/** Asks again while Redis does no work: that ends neither the link nor a subscription. */
const patiently = <A>(command: Effect.Effect<A, Redis.LinkLost>): Effect.Effect<A, Redis.LinkLost> =>
  Effect.retry(command, {
    while: ({ cause }) => Reply.isReply(cause) && Reply.verdictOf(cause) === "Stalls",
    schedule: Schedule.spaced(PATIENT_DELAY)
  })

const make = (url: Redacted.Redacted) =>
  Effect.gen(function* () {
    const metrics = yield* Metrics.Metrics
    const { prefix } = (yield* ServerConfig.ServerConfig).broker.redis
    const subscriptions = yield* Subscriptions.make<Redis.LinkLost>()
    const { host: where, hostname, port } = new URL(Redacted.value(url))
    const keys = Streams.keys(prefix, Redis.databaseOf(url))
    const topicPrefix = keys.topic("")
    const outage = yield* LinkState.make(where, metrics)
    const { state } = outage
    /** The link that is live. */
    let link: Pair.Pair | undefined
    /** Whether the present link was live: the loss of it is counted. */
    let wasLive = false
    /** Where streams are read: the link, or the one that is to be it. */
    let target: Streams.Target | undefined
    let sink: Sink | undefined
    let hearControl: ((message: string) => void) | undefined

    const commandsOf = ({ subscriber: { redis } }: Pair.Pair): Subscriptions.Commands<Redis.LinkLost> => ({
      isRefusal: Redis.isRefusal,
      subscribe: (topics) =>
        Redis.command(() => redis.subscribe(...topics)).pipe(
          patiently,
          // A batch that is refused is asked for again, one by one.
          Effect.tapError(({ cause }) =>
            Effect.sync(() => {
              if (topics.length === 1 && Reply.isReply(cause)) refused(`subscribe "${topics[0]}"`, cause, 1)
            })
          ),
          Effect.asVoid
        ),
      unsubscribe: (topics) => Redis.command(() => redis.unsubscribe(...topics)).pipe(patiently, Effect.asVoid)
    })

    /** Hands messages to the sink, and stops reading while it is full. */
    const listen = ({ subscriber }: Pair.Pair): Effect.Effect<void, never, Scope.Scope> =>
      Effect.gen(function* () {
        const full = yield* Effect.makeLatch(false)
        subscriber.redis.on("message", (name: string, payload: string) => {
          if (!subscriptions.isWanted(name)) return
          if (!name.startsWith(topicPrefix)) return hearControl?.(payload)
          if (sink === undefined) return
          const decoded = Envelope.decode(payload)
          if (Either.isLeft(decoded)) sink.undecodable()
          else sink.offer(name.slice(topicPrefix.length), decoded.right)
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

    const refusals = yield* Refusals.make(where)
    /** What an answer to a command says about the link is not waited for until the next heartbeat. */
    const refused: InFlight.OnRefusal = (what, cause, count) => {
      refusals.refused(what, cause, count)
      if (Reply.verdictOf(cause) === "Ends") target?.client.condemn(cause)
    }

    const degraded = (error: Redis.LinkLost) =>
      Effect.suspend(() => {
        const isLoss = wasLive
        wasLive = false
        link = undefined
        target = undefined
        return Effect.zipRight(subscriptions.lost(error), outage.degraded(error, isLoss))
      })

    /** Redis is there and does no work: nothing is sent to it, and its subscriptions stay. */
    const stalled = ({ cause, message }: Redis.Stalled) =>
      Effect.suspend(() => {
        link = undefined
        target = undefined
        return outage.degraded({ message, said: Reply.codeOf(cause) }, false)
      })

    const broken = (defect: unknown) =>
      Effect.zipRight(
        Effect.logError("the Redis link broke", Cause.die(defect)),
        Effect.fail(new Redis.LinkLost({ message: "a defect, logged above", cause: defect }))
      )

    const serve = Effect.scoped(
      Effect.gen(function* () {
        const opened = yield* Pair.open(url, { scripts, probe: keys.probe, refused: refusals.heartbeat }).pipe(
          within(OPEN_TIMEOUT, noAnswer),
          Tracing.span("broker.connect", () => ({
            kind: "client",
            root: true,
            attributes: { "db.system.name": "redis", "server.address": hostname, "server.port": Number(port || 6379) }
          }))
        )
        const { publisher, runId, watch } = opened
        if (runId === "") {
          refusals.once(
            "Redis does not permit INFO: a restart from an older snapshot, or a failover, cannot be told from a lost link"
          )
        }
        yield* listen(opened)
        const commands = commandsOf(opened)

        yield* opened.works(stalled)
        yield* Redis.step("EVAL", () => Batches.probe(publisher)).pipe(within(OPEN_TIMEOUT, noAnswer))
        /** Does it; where Redis stalls meanwhile, waits, and does it again from its beginning. */
        const throughStalls = <A>(
          work: Effect.Effect<A, Redis.LinkLost | Redis.Stalled>
        ): Effect.Effect<A, Redis.LinkLost> =>
          Effect.catchAll(Effect.zipRight(outage.resyncing, work), (error) =>
            error._tag === "Stalled"
              ? stalled(error).pipe(
                  Effect.zipRight(opened.works(stalled)),
                  Effect.zipRight(Effect.suspend(() => throughStalls(work)))
                )
              : Effect.fail(error)
          )
        yield* throughStalls(Effect.raceFirst(subscriptions.restore(commands), watch))
        const serving = Effect.gen(function* () {
          target = { client: publisher, runId, keys }
          yield* Effect.raceFirst(sink?.resync ?? Effect.void, watch)
          link = opened
          wasLive = true
          yield* outage.live
          return yield* watch
        })
        return yield* Effect.raceFirst(throughStalls(serving), subscriptions.maintain(commands))
      }).pipe(Effect.catchAllDefect(broken), Effect.tapError(degraded))
    )

    let isClosing = false
    // An interruption that comes while a client is being closed is lost: a finalizer of what another fiber has
    // acquired puts back the fiber's refs of before, and which interruption it knows of is one of them.
    const serveUntilClosed = Effect.catchAllCause(serve, (cause) =>
      isClosing ? Effect.interrupt : Effect.failCause(cause)
    )
    yield* Effect.forkScoped(supervise(serveUntilClosed, retrySchedule, HEALTHY_AFTER))
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        isClosing = true
      })
    )

    const inFlight = yield* InFlight.make(metrics, refused)
    const { send, unsafeSend } = inFlight
    const batches = Batches.make(inFlight)
    // Before the link is closed: what is published in the turn of the end is not behind its QUIT.
    yield* Effect.addFinalizer(() => Effect.sync(batches.flush))

    /** A command that changes nothing: without its answer it is as if it had not been sent. */
    const query = <A>(channel: string, what: string, run: (at: Streams.Target) => Promise<A>) =>
      Effect.suspend(() => send(target, { kind: { what, lost: "NotLive", read: identity<A> }, channel, bytes: 0 }, run))

    const unsafePublish: Context.Tag.Service<Broker>["unsafePublish"] = (channel, publication, options, publishing) => {
      const { retention, idempotencyKey } = options
      const envelope = Envelope.encode(publication)
      const at = link && target
      if (retention === undefined && idempotencyKey === undefined) {
        batches.publish(at, channel, envelope, publishing)
        return true
      }
      batches.flushChannel(channel)
      const about = {
        kind: retention === undefined ? PUBLISH_ONCE : APPEND,
        channel,
        bytes: Buffer.byteLength(envelope)
      }
      unsafeSend(at, about, (to) => Streams.publish(to, channel, envelope, options), publishing)
      return true
    }

    const publish = (channel: string, publication: Publication, options: PublishOptions = {}) =>
      Effect.async<History.Position | undefined, BrokerError>((resume) => {
        unsafePublish(channel, publication, options, { sent: constVoid, done: resume })
      })

    const isSubscribed = (channel: string): boolean => link !== undefined && subscriptions.isHeard(keys.topic(channel))

    const positions = (kept: ReadonlyArray<Kept>) =>
      Effect.map(
        Effect.forEach(Arr.chunksOf(kept, Streams.POSITIONS_BATCH), (batch) =>
          query(batch[0]?.channel ?? "", "check the position of", (at) => Streams.positions(at, batch))
        ),
        Arr.flatten
      )

    const listenControl = (instance: string, hear: (message: string) => void) => {
      const topics = [keys.control(), keys.control(instance)]
      return Effect.acquireRelease(
        Effect.sync(() => {
          hearControl = hear
        }),
        () =>
          Effect.sync(() => {
            hearControl = undefined
            for (const topic of topics) subscriptions.release(topic)
          })
      ).pipe(
        // Without a link they are wanted, and confirmed before the next one is live.
        Effect.zipRight(Effect.forEach(topics, (topic) => Effect.forkScoped(Effect.ignore(subscriptions.want(topic))))),
        Effect.asVoid
      )
    }

    const sharedLink = SharedLink.of({
      refused,
      state,
      run: <A>(channel: string, what: string, changes: boolean, command: (at: Streams.Target) => Promise<A>) =>
        Effect.suspend(() => {
          const kind = { what, lost: changes ? "Failed" : "NotLive", read: identity<A> } as const
          return send(target, { kind, channel, bytes: 0 }, command)
        })
    })

    const broker = Broker.of({
      name: "redis",
      state,
      publish,
      unsafePublish,
      positions,
      history: (kept: Kept, range: History.Range) =>
        query(kept.channel, "read the history of", (at) => Streams.read(at, kept, range)),
      removeHistory: (channel) =>
        Effect.suspend(() => {
          const about = { kind: REMOVE, channel, bytes: 0 }
          return send(target, about, (at) => Streams.remove(at, channel))
        }),
      subscribe: (channel) =>
        Effect.suspend(() => {
          if (link === undefined) return Effect.fail(InFlight.failure("NotLive", channel, "subscribe"))
          const wanted = Effect.mapError(subscriptions.want(keys.topic(channel)), (error) =>
            InFlight.failure("Failed", channel, "subscribe", Redis.isRefusal(error) ? error.cause : error)
          )
          // Most newcomers come to a channel that is heard already, and wait for nothing.
          return isSubscribed(channel)
            ? wanted
            : within(InFlight.DEADLINE, () => InFlight.failure("Timeout", channel, "subscribe"))(wanted)
        }),
      isSubscribed,
      progress: inFlight.progress,
      unsubscribe: (channel) => subscriptions.release(keys.topic(channel)),
      sendControl: (message, to) =>
        Effect.suspend(() => {
          batches.flush()
          const bytes = Buffer.byteLength(message)
          const about = { kind: SEND_CONTROL, channel: "", bytes }
          return send(link && target, about, ({ client }) => client.redis.publish(keys.control(to), message))
        }),
      listenControl,
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
    return Context.make(Broker, broker).pipe(Context.add(SharedLink, sharedLink))
  })

/**
 * The broker over the Redis at `url`, and its link for others. Building it never
 * waits for Redis; until there is a link it is `Degraded`.
 */
export const layer = (
  url: Redacted.Redacted
): Layer.Layer<Broker | SharedLink, never, ServerConfig.ServerConfig | Metrics.Metrics> =>
  Layer.scopedContext(make(url))
