/**
 * Keeps the channels with history whole: reads what is missing, passes it on in
 * its place, and looks from time to time whether something is missing that
 * nothing has told of. What cannot be had any more is said to those who need it.
 */
import * as Arr from "effect/Array"
import type * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type * as Broker from "../Broker.ts"
import type * as Metrics from "../Metrics.ts"
import type { Entry } from "./Entry.ts"
import type { Filled } from "./Sequence.ts"

/** Publications and bytes of one page that fills a gap. */
const PAGE_PUBLICATIONS = 256
const PAGE_BYTES = 1024 * 1024

/** Channels that are filled at a time. */
const CONCURRENCY = 16

/** A page is asked for three times before its channel is given up; without a link not again, since the next one brings a resync. */
const RETRY = {
  while: (error: Broker.BrokerError) => error.reason !== "NotLive",
  schedule: Schedule.intersect(Schedule.recurs(2), Schedule.spaced(Duration.millis(200)))
}

/** The entries, and how what has been read gets to their subscriptions. */
export interface Channels {
  readonly entries: () => Iterable<Entry>
  readonly isAlive: (entry: Entry) => boolean
  /** Passes on what a page has brought, behind what was passed on before. */
  readonly pass: (entry: Entry, filled: Filled) => void
  /** Completes once more can be passed on. */
  readonly room: Effect.Effect<void>
}

export interface Continuity {
  /** Something is missing in a channel: fills it in the background. Asking again is harmless. */
  readonly mend: (entry: Entry) => void
  /** The link was lost: fills what was missed, in every channel. */
  readonly resync: Effect.Effect<void>
}

const isOfHistory = (entry: Entry): entry is Entry & Broker.Kept =>
  entry.retention !== undefined && entry.sequence !== undefined

export const make = (
  broker: Context.Tag.Service<Broker.Broker>,
  metrics: Context.Tag.Service<Metrics.Metrics>,
  channels: Channels,
  checkDelay: Duration.Duration
): Effect.Effect<Continuity, never, Scope.Scope> =>
  Effect.gen(function* () {
    // Owner: the workers below. Unbounded, since a channel is in it once at most.
    const waiting = yield* Queue.unbounded<Entry>()
    const queued = new Set<Entry>()
    const mending = new Map<Entry, Deferred.Deferred<void>>()

    const mend = (entry: Entry): void => {
      if (queued.has(entry)) return
      queued.add(entry)
      waiting.unsafeOffer(entry)
    }

    /** Reads the next page of what is missing. Left: why there is none. */
    const readPage = (entry: Entry & Broker.Kept) => {
      const since = entry.sequence?.position
      const range = since === undefined ? { limit: 0 } : { since, limit: PAGE_PUBLICATIONS }
      return Effect.either(Effect.retry(broker.history(entry, { ...range, maxBytes: PAGE_BYTES }), RETRY))
    }

    const report = (entry: Entry, filled: Filled): Effect.Effect<void> =>
      Effect.suspend(() => {
        metrics.dropped.gap += (entry.sequence?.takeLost() ?? 0) * entry.unpositioned
        if (!filled.broken) return Effect.void
        metrics.gaps++
        return Effect.logInfo(
          `"${entry.channel}": what was missed is not in its history${filled.from === undefined ? "" : `; it goes on in epoch ${filled.from.epoch} after offset ${filled.from.offset}`}`
        )
      })

    /** Reads page after page until nothing is missing. */
    const fill = (entry: Entry & Broker.Kept): Effect.Effect<void> =>
      Effect.gen(function* () {
        const sequence = entry.sequence
        if (sequence === undefined) return
        do {
          sequence.hold()
          const page = yield* readPage(entry)
          if (!channels.isAlive(entry)) return
          if (Either.isLeft(page) && page.left.reason === "NotLive") return
          if (Either.isLeft(page)) yield* Effect.logWarning(page.left.message, page.left)
          else metrics.healed += page.right.publications.length
          const filled = Either.isLeft(page) ? sequence.abandon() : sequence.fill(page.right)
          channels.pass(entry, filled)
          yield* report(entry, filled)
          yield* channels.room
        } while (sequence.isHolding)
      })

    /** One at a time for each channel; who comes later waits for the one that is at it, then looks again. */
    const fillAlone = (entry: Entry): Effect.Effect<void> =>
      Effect.suspend(() => {
        if (!isOfHistory(entry) || !channels.isAlive(entry)) return Effect.void
        const running = mending.get(entry)
        if (running !== undefined) return Effect.zipRight(Deferred.await(running), fillAlone(entry))
        return Effect.acquireUseRelease(
          Effect.tap(Deferred.make<void>(), (done) => Effect.sync(() => mending.set(entry, done))),
          () => fill(entry),
          (done) =>
            Effect.zipRight(
              Effect.sync(() => mending.delete(entry)),
              Deferred.succeed(done, undefined)
            )
        )
      })

    const worker = Queue.take(waiting).pipe(
      Effect.tap((entry) => Effect.sync(() => queued.delete(entry))),
      Effect.flatMap(fillAlone),
      Effect.catchAllDefect((defect) => Effect.logError("filling a gap failed", defect)),
      Effect.forever
    )
    yield* Effect.forkScoped(
      Effect.all(
        Arr.makeBy(CONCURRENCY, () => worker),
        { concurrency: "unbounded" }
      )
    )

    const fillAll = (entries: ReadonlyArray<Entry>): Effect.Effect<void> =>
      Effect.forEach(entries, fillAlone, { concurrency: CONCURRENCY, discard: true })

    /** Channels whose stream is not where they are, once `settled` is done. */
    const behind = (entries: ReadonlyArray<Entry & Broker.Kept>, settled: Effect.Effect<void>) =>
      Effect.gen(function* () {
        const before = entries.map((entry) => entry.sequence?.position)
        const tops = yield* Effect.retry(broker.positions(entries), RETRY)
        const isBehind = (entry: Entry, index: number): boolean => {
          const top = tops[index]
          const position = entry.sequence?.position
          if (position === undefined || !channels.isAlive(entry)) return false
          if (top?.epoch !== position.epoch) return true
          // A stream that has shrunk was rewound.
          return top.offset > position.offset || top.offset < (before[index]?.offset ?? 0)
        }
        if (!entries.some(isBehind)) return []
        // What is on its way is not missing.
        yield* settled
        return entries.filter(isBehind)
      })

    const ofHistory = (): ReadonlyArray<Entry & Broker.Kept> => Array.from(channels.entries()).filter(isOfHistory)

    const resync = Effect.suspend(() => {
      for (const entry of channels.entries()) if (entry.retention === undefined) metrics.outageChannels++
      const all = ofHistory()
      return behind(all, Effect.void).pipe(
        Effect.catchAll((error) =>
          Effect.as(
            Effect.logWarning(`every channel is read again, since a position check failed: ${error.message}`),
            all
          )
        ),
        Effect.flatMap((missing) =>
          fillAll(Arr.dedupe([...missing, ...all.filter(({ sequence }) => sequence?.isHolding)]))
        )
      )
    })

    const check = Effect.suspend(() => behind(ofHistory(), broker.settled)).pipe(
      Effect.flatMap(fillAll),
      // Without a link there is nothing to compare with; the next one brings a resync.
      Effect.catchAll((error) => Effect.logDebug(`position check: ${error.message}`))
    )
    yield* Effect.forkScoped(Effect.forever(Effect.delay(check, checkDelay)))

    return { mend, resync }
  })
