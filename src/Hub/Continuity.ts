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
import type * as History from "../History.ts"
import { upTo } from "../internal/clock.ts"
import { atMost } from "../internal/time.ts"
import type * as Metrics from "../Metrics.ts"
import * as Tracing from "../Tracing.ts"
import type { Entry } from "./Entry.ts"
import type { Filled, Sequence } from "./Sequence.ts"

/** Publications and bytes of one page that fills a gap. */
const PAGE_PUBLICATIONS = 256
const PAGE_BYTES = 1024 * 1024

/** Channels that are filled at a time. */
const CONCURRENCY = 16

/** After a lost link, the instance is live again by then; channels that are not filled yet are filled in the background. */
const RESYNC_TIMEOUT = Duration.seconds(5)

/** How long a page is asked for again where there is no answer, or too much to do. */
const PATIENCE = Duration.seconds(10)
const RETRY_DELAY = Duration.millis(250)

/** What is held back meanwhile is in history, so there is no hurry; without a link the next one brings a resync. */
const RETRY = {
  while: ({ reason }: Broker.BrokerError) => reason === "Timeout" || reason === "Overloaded",
  schedule: upTo(Schedule.spaced(RETRY_DELAY), PATIENCE)
}

/** A channel with history. */
type Kept = Entry & Broker.Kept & { readonly sequence: Sequence }

const isKept = (entry: Entry): entry is Kept => entry.retention !== undefined && entry.sequence !== undefined

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
  /** Something may be missing in a channel: reads it in the background. Asking again is harmless. */
  readonly mend: (entry: Entry) => void
  /** The same, of what is held back already: nothing new for a fill that is under way. */
  readonly nudge: (entry: Entry) => void
  /** A stream has got so far: the same, unless it was only on its way. */
  readonly expect: (entry: Entry, top: History.Position) => void
  /** The link was lost: fills what was missed, in every channel. */
  readonly resync: Effect.Effect<void>
}

export const make = (
  broker: Context.Tag.Service<Broker.Broker>,
  metrics: Context.Tag.Service<Metrics.Metrics>,
  channels: Channels,
  checkDelay: Duration.Duration
): Effect.Effect<Continuity, never, Scope.Scope> =>
  Effect.gen(function* () {
    // Owner: the workers below. Unbounded, since a channel is in it once at most.
    const waiting = yield* Queue.unbounded<Kept>()
    const queued = new Set<Kept>()
    /** Those of which it is not certain that something is missing: how far their streams have got. */
    const expected = new Map<Kept, History.Position>()
    /** Those that are being filled; `true`: to be looked at again. */
    const filling = new Map<Kept, { readonly done: Deferred.Deferred<void>; again: boolean }>()

    const mend = (entry: Entry): void => {
      if (!isKept(entry)) return
      expected.delete(entry)
      look(entry)
    }

    const nudge = (entry: Entry): void => {
      if (isKept(entry) && !filling.has(entry)) mend(entry)
    }

    const expect = (entry: Entry, top: History.Position): void => {
      if (!isKept(entry) || !entry.sequence.isBehind(top)) return
      if (entry.sequence.isHolding || entry.sequence.position?.epoch !== top.epoch) return mend(entry)
      const known = expected.get(entry)
      if (!queued.has(entry) || (known !== undefined && known.offset < top.offset)) expected.set(entry, top)
      look(entry)
    }

    const look = (entry: Kept): void => {
      if (queued.has(entry)) return
      const current = filling.get(entry)
      if (current !== undefined) {
        current.again = true
        return
      }
      queued.add(entry)
      waiting.unsafeOffer(entry)
    }

    const report = (entry: Kept, { isBroken, from }: Filled): Effect.Effect<void> =>
      Effect.suspend(() => {
        metrics.dropped.gap.add(entry.sequence.takeLost() * entry.unpositioned)
        if (!isBroken) return Effect.void
        metrics.gaps.add()
        const where = from === undefined ? "" : `; it goes on in epoch ${from.epoch} after offset ${from.offset}`
        return Effect.annotateLogs(
          Effect.logInfo(`"${entry.channel}": what was missed is not in its history${where}`),
          "channel",
          entry.channel
        )
      })

    /** Reads what comes next of what is missing, and passes it on; returns whether to go on. */
    const step = (entry: Kept): Effect.Effect<boolean> =>
      Effect.gen(function* () {
        const { sequence } = entry
        sequence.hold()
        const since = sequence.position
        const range = since === undefined ? { limit: 0 } : { since, limit: PAGE_PUBLICATIONS }
        const page = yield* broker
          .history(entry, { ...range, maxBytes: PAGE_BYTES })
          .pipe(Effect.retry(RETRY), Effect.either)
        if (!channels.isAlive(entry)) return false
        if (Either.isLeft(page)) {
          if (page.left.reason === "NotLive") return false
          // What the broker refuses has a line of its own, and this may be one of thousands of channels.
          const log = page.left.reason === "Failed" ? Effect.logDebug : Effect.logWarning
          yield* Effect.annotateLogs(log(page.left.message), "channel", entry.channel)
          // Whoever needs what is missing is told. The next publication, subscription or check begins it again.
          if (since !== undefined) {
            const given = sequence.giveUp()
            channels.pass(entry, given)
            yield* report(entry, given)
          }
          return false
        }
        metrics.healed.add(page.right.publications.length)
        const filled = since === undefined ? sequence.begin(page.right) : sequence.fill(since, page.right)
        if (filled !== undefined) {
          channels.pass(entry, filled)
          if (since !== undefined) yield* report(entry, filled)
        }
        yield* channels.room
        return sequence.isHolding
      })

    /** One at a time for each channel; who comes later waits for the one that is at it. */
    const fill = (entry: Kept): Effect.Effect<void> =>
      Effect.suspend(() => {
        if (!channels.isAlive(entry)) return Effect.void
        const current = filling.get(entry)
        if (current !== undefined) return Deferred.await(current.done)
        return Effect.acquireUseRelease(
          Effect.map(Deferred.make<void>(), (done) => {
            const own = { done, again: false }
            filling.set(entry, own)
            return own
          }),
          () => Effect.repeat(step(entry), { while: (goesOn) => goesOn }),
          ({ again, done }) =>
            Effect.suspend(() => {
              filling.delete(entry)
              if (again) mend(entry)
              return Deferred.succeed(done, undefined)
            })
        ).pipe(
          Effect.asVoid,
          Effect.catchAllDefect((defect) =>
            Effect.annotateLogs(Effect.logError(`filling "${entry.channel}" failed`, defect), "channel", entry.channel)
          )
        )
      })

    /** Fills a channel; where something may be on its way only, once that has come. */
    const attend = (entry: Kept): Effect.Effect<void> =>
      Effect.suspend(() => {
        queued.delete(entry)
        const top = expected.get(entry)
        if (top === undefined) return fill(entry)
        expected.delete(entry)
        const isMissing = Effect.sync(() => entry.sequence.isHolding || entry.sequence.isBehind(top))
        return Effect.zipRight(broker.settled, Effect.whenEffect(fill(entry), isMissing))
      })

    const worker = Effect.forever(Effect.flatMap(Queue.take(waiting), attend))
    yield* Effect.forkScoped(
      Effect.all(
        Arr.makeBy(CONCURRENCY, () => worker),
        { concurrency: "unbounded" }
      )
    )

    /** Channels that hold something back, or whose stream is not where they are once `settled` is done. */
    const behind = (settled: Effect.Effect<void>): Effect.Effect<ReadonlyArray<Kept>, Broker.BrokerError> =>
      Effect.gen(function* () {
        const entries = Array.from(channels.entries()).filter(isKept)
        const before = entries.map(({ sequence }) => sequence.position)
        const tops = yield* Effect.retry(broker.positions(entries), RETRY)
        const isBehind = (entry: Kept, index: number): boolean => {
          const top = tops[index]
          if (!channels.isAlive(entry)) return false
          if (top === undefined || entry.sequence.isHolding) return true
          // A stream that has shrunk was rewound.
          return entry.sequence.isBehind(top) || top.offset < (before[index]?.offset ?? 0)
        }
        if (!entries.some(isBehind)) return []
        // What is on its way is not missing.
        yield* settled
        return entries.filter(isBehind)
      })

    const resync = Effect.gen(function* () {
      const missing = yield* Effect.catchAll(behind(Effect.void), (error) =>
        Effect.as(
          Effect.logWarning(`every channel is read again: ${error.message}`),
          Array.from(channels.entries()).filter(isKept)
        )
      )
      yield* Tracing.annotate(() => ({ "fanfare.channels": missing.length }))
      const open = new Set(missing)
      const fillOne = (entry: Kept) => Effect.map(fill(entry), () => open.delete(entry))
      yield* atMost(RESYNC_TIMEOUT)(Effect.forEach(missing, fillOne, { concurrency: CONCURRENCY, discard: true }))
      open.forEach(mend)
      for (const entry of channels.entries()) if (!isKept(entry)) metrics.outageChannels.add()
    }).pipe(Tracing.span("resync", () => ({ root: true })))

    const check = behind(broker.settled).pipe(
      Effect.flatMap((missing) => Effect.sync(() => missing.forEach(mend))),
      // Without a link there is nothing to compare with; the next one brings a resync.
      Effect.catchAll((error) => Effect.logDebug(`position check: ${error.message}`)),
      Effect.catchAllDefect((defect) => Effect.logError("the position check failed", defect))
    )
    yield* Effect.forkScoped(Effect.forever(Effect.delay(check, checkDelay)))

    return { mend, nudge, expect, resync }
  })
