/**
 * How a newcomer is brought to the place in a channel at which it joins: the
 * channel is heard, what it wants of the past is read, and this instance has got
 * as far as that.
 */
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { constVoid } from "effect/Function"
import type * as Scope from "effect/Scope"
import * as Broker from "../Broker.ts"
import type * as History from "../History.ts"
import * as Deadlines from "../internal/Deadlines.ts"
import { acquire } from "../internal/scope.ts"
import type * as Metrics from "../Metrics.ts"
import type { Continuity } from "./Continuity.ts"
import type { Entry, Joined, ReplayLimit, Subscription, Want } from "./Entry.ts"
import * as Reads from "./Reads.ts"
import type { Filled } from "./Sequence.ts"

/** How long a newcomer waits for this instance to get as far as it is. */
const ABREAST_TIMEOUT = Duration.seconds(1)

/**
 * How long what a newcomer has read is remembered for those who come after it:
 * in a reconnect storm a stream is read once a second, not once for each client
 * (5,000 clients in 50 rooms: 0.04 s of Redis's CPU instead of 0.35). Shorter
 * than `Cluster.REPLY_TIMEOUT`: see `Cluster.forget`.
 */
const MEMORY = Duration.seconds(1)

/** What a newcomer has read. */
interface Read {
  readonly page: History.Page
  /** It came just now, so that what it holds may be remembered from now on. */
  readonly isRecent: boolean
  /** Of the entry, when it was asked for. */
  readonly removals: number
  readonly doubts: number
}

/** Whether a channel has got as far as a stream was when it was read. */
const isReached = (position: History.Position | undefined, page: History.Page): boolean =>
  position !== undefined && position.offset >= page.offset

/** Everything that can fail is done: the channel is heard, and the past that was wanted is read. */
export interface Prepared {
  /**
   * Joins. In the same step in which the subscription begins to get
   * publications it is told what it has missed, and where it stands: what the
   * caller queues in that step comes before all of them.
   */
  readonly join: (subscription: Subscription) => Joined
}

/** The channels of this instance. */
export interface Entries {
  /** That of a channel, which is made where there is none. */
  readonly entry: (channel: string) => Entry
  /** That of a channel, where there is one. */
  readonly known: (channel: string) => Entry | undefined
  /** Passes on what has its place now. */
  readonly pass: (entry: Entry, filled: Filled) => void
  /** Forgets one that nobody needs any more. */
  readonly release: (entry: Entry) => void
}

/** See `Hub`. */
export interface Newcomers {
  readonly prepare: (
    channel: string,
    want: Want,
    maxBytes?: number
  ) => Effect.Effect<Prepared, Broker.BrokerError, Scope.Scope>
  readonly unsafePrepare: (
    channel: string,
    want: Want,
    maxBytes: number,
    done: (prepared: Exit.Exit<Prepared, Broker.BrokerError>) => void
  ) => (() => void) | undefined
  readonly history: Context.Tag.Service<Broker.Broker>["history"]
}

export const make = (
  broker: Context.Tag.Service<Broker.Broker>,
  metrics: Pick<Context.Tag.Service<Metrics.Metrics>, "subscriptions">,
  replayLimit: ReplayLimit,
  continuity: Pick<Continuity, "mend" | "expect">,
  entries: Entries
): Effect.Effect<Newcomers, never, Scope.Scope> =>
  Effect.gen(function* () {
    const reads = yield* Reads.make(broker, entries.release)

    const behind = yield* Deadlines.make(ABREAST_TIMEOUT)
    const memories = yield* Deadlines.make(MEMORY)

    /** A newcomer has read the stream: what it shows to be missing here is filled. */
    const compare = (entry: Entry, top: History.Position): void => {
      const { sequence } = entry
      const begun = sequence?.begin(top)
      if (begun !== undefined) entries.pass(entry, begun)
      if (sequence?.isHolding === true) continuity.mend(entry)
      else continuity.expect(entry, top)
    }

    /** Calls `done` once this instance has delivered as much as a newcomer has seen elsewhere; returns what ends the wait. */
    const abreast = (
      entry: Entry,
      page: History.Page,
      want: Want,
      done: (isAbreast: boolean) => void
    ): (() => void) => {
      if (entry.isAbreast(page, want)) {
        done(true)
        return constVoid
      }
      const stop = (): void => {
        unwatch()
        end()
      }
      const unwatch = entry.watch(() => {
        if (!entry.isAbreast(page, want)) return
        stop()
        done(true)
      })
      const end = behind.call(() => {
        stop()
        done(false)
      })
      return stop
    }

    const prepared = (entry: Entry, want: Want, read: Read | undefined): Prepared => ({
      join: (subscription) => {
        metrics.subscriptions.add()
        if (read === undefined) return entry.join(subscription, want, undefined)
        const { doubts, isRecent, page, removals } = read
        // What was removed since is no part of the past any more.
        const isRemoved = entry.removals !== removals
        const joined = entry.join(subscription, want, isRemoved ? { ...page, publications: [] } : page)
        // Not where something that is in the page is still to be delivered here: it may be removed by then.
        const isUpToDate = isRecent && !isRemoved && entry.doubts === doubts && isReached(joined.position, page)
        if (isUpToDate && want !== undefined && "since" in want && joined.isRecovered) {
          const memory = entry.remember(want.since, joined.publications)
          if (memory !== undefined) memories.call(() => entry.forget(memory))
        }
        return joined
      }
    })

    const isBehind = ({ channel }: Entry): Broker.BrokerError =>
      new Broker.BrokerError({
        reason: "Timeout",
        channel,
        message: `subscribe "${channel}": this instance is behind`
      })

    /** What a newcomer has to read of the past; `undefined`: nothing, where there is none, or what it wants is known here. */
    const rangeOf = (entry: Entry, want: Want, maxBytes: number): History.Range | undefined => {
      if (entry.retention === undefined || (want === undefined && entry.delivered !== undefined)) return undefined
      if (want === undefined) return { limit: 0, maxBytes }
      if ("since" in want && entry.recalls(want.since)) return undefined
      return "since" in want
        ? { since: want.since, limit: replayLimit.publications, maxBytes, whole: true }
        : { limit: want.last, maxBytes, reverse: true }
    }

    /** From a page in the order of the stream. */
    const inOrder = (page: History.Page, { reverse }: History.Range): History.Page =>
      reverse === true ? { ...page, publications: page.publications.toReversed() } : page

    /** Reads the past of an entry that is expecting; returns what ends the wait. */
    const readPast = (
      entry: Entry,
      want: Want,
      maxBytes: number,
      done: (prepared: Exit.Exit<Prepared, Broker.BrokerError>) => void
    ): (() => void) => {
      const range = rangeOf(entry, want, maxBytes)
      const { channel, doubts, removals, retention } = entry
      if (range === undefined || retention === undefined) {
        done(Exit.succeed(prepared(entry, want, undefined)))
        return constVoid
      }
      let stop: () => void = constVoid
      const leave = reads.unsafeShared(entry, { channel, retention }, range, (read) => {
        if (Exit.isFailure(read)) return done(Exit.failCause(read.cause))
        const page = inOrder(read.value, range)
        compare(entry, page)
        // To begin takes a turn of the event loop; to wait for what is on its way may take long.
        const isRecent = entry.delivered === undefined || entry.isAbreast(page, want)
        stop = abreast(entry, page, want, (isAbreast) =>
          done(
            isAbreast
              ? Exit.succeed(prepared(entry, want, { page, isRecent, removals, doubts }))
              : Exit.fail(isBehind(entry))
          )
        )
      })
      return () => {
        leave()
        stop()
      }
    }

    const expect = (channel: string): Entry => {
      const entry = entries.entry(channel)
      entry.expect()
      return entry
    }

    const unexpect = (entry: Entry): void => {
      entry.unexpect()
      entries.release(entry)
    }

    const prepare = (
      channel: string,
      want: Want,
      maxBytes: number = replayLimit.bytes
    ): Effect.Effect<Prepared, Broker.BrokerError, Scope.Scope> =>
      Effect.flatMap(
        acquire(
          () => expect(channel),
          (entry) => Effect.sync(() => unexpect(entry))
        ),
        (entry) =>
          Effect.zipRight(
            broker.subscribe(channel),
            Effect.async<Prepared, Broker.BrokerError>((resume) => Effect.sync(readPast(entry, want, maxBytes, resume)))
          )
      )

    const unsafePrepare: Newcomers["unsafePrepare"] = (channel, want, maxBytes, done) => {
      if (entries.known(channel) === undefined || !broker.isSubscribed(channel)) return undefined
      const entry = expect(channel)
      const stop = readPast(entry, want, maxBytes, (result) => {
        done(result)
        unexpect(entry)
      })
      return () => {
        stop()
        unexpect(entry)
      }
    }

    const history: Newcomers["history"] = (kept, range) =>
      Effect.async((resume) => Effect.sync(reads.unsafeOne(kept, range, resume)))

    return { prepare, unsafePrepare, history }
  })
