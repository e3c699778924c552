/**
 * What newcomers read of streams. Only so many reads at a time, so that clients
 * do not keep each other from publishing; and those who come back to a channel
 * within a moment, having seen the same, share one.
 *
 * Measured (5,000 clients in 50 rooms come back at once and recover, 2 cores):
 * MEASURED.
 */
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import type * as Scope from "effect/Scope"
import type * as Broker from "../Broker.ts"
import type * as History from "../History.ts"
import * as Deadlines from "../internal/Deadlines.ts"
import { weight } from "../protocol/Publication.ts"
import type { Entry } from "./Entry.ts"

/** Reads at a time: each may be as long as `client.reply_max_size`. */
const AT_A_TIME = 8

/** How long a page is kept for those who ask for the same, and how much of them altogether, in characters. */
const KEPT_FOR = Duration.millis(250)
const KEPT_IN_ALL = 16 * 1024 * 1024

type Page = Exit.Exit<History.Page, Broker.BrokerError>

type Read = Effect.Effect<History.Page, Broker.BrokerError>

/** Reads of streams. */
export interface Reads {
  /** A read of one's own. */
  readonly one: (kept: Broker.Kept, range: History.Range) => Read
  /**
   * A read that is shared with who asks an entry for the same while it is under
   * way, or shortly after. It may have begun before this one has asked, but not
   * before the entry has begun to remember what it delivers: what came since is
   * in its tail. `done` is called once, maybe within this call.
   */
  readonly unsafeShared: (entry: Entry, kept: Broker.Kept, range: History.Range, done: (page: Page) => void) => void
}

/** One that is under way, with who waits for it, or done. */
interface Shared {
  /** Of its entry, when it began. */
  readonly breaks: number
  waiting: Array<(page: Page) => void>
  page: Exit.Success<History.Page, Broker.BrokerError> | undefined
}

const size = ({ publications }: History.Page): number => publications.reduce((sum, one) => sum + weight(one), 0)

/** `release` is told of an entry that a read does not need any more. */
export const make = (
  history: Context.Tag.Service<Broker.Broker>["history"],
  release: (entry: Entry) => void
): Effect.Effect<Reads, never, Scope.Scope> =>
  Effect.gen(function* () {
    const fork = yield* FiberSet.makeRuntime<never>()
    const permits = yield* Effect.makeSemaphore(AT_A_TIME)
    const deadlines = yield* Deadlines.make(KEPT_FOR)
    const known = new Map<Entry, Map<string, Shared>>()
    let kept = 0

    const one = (of: Broker.Kept, range: History.Range): Read => permits.withPermits(1)(history(of, range))

    const forget = (entry: Entry, key: string, shared: Shared): void => {
      const reads = known.get(entry)
      if (reads?.get(key) === shared) reads.delete(key)
      if (reads?.size === 0) known.delete(entry)
      entry.unexpect()
      release(entry)
    }

    /** Keeps a page for those who come within a moment, where there is room. */
    const keep = (entry: Entry, key: string, shared: Shared, page: Page): void => {
      const length = Exit.isSuccess(page) ? size(page.value) : 0
      if (Exit.isFailure(page) || kept + length > KEPT_IN_ALL) return forget(entry, key, shared)
      shared.page = page
      kept += length
      deadlines.begin(() => {
        kept -= length
        forget(entry, key, shared)
      })
    }

    const unsafeShared: Reads["unsafeShared"] = (entry, of, range, done) => {
      const key = JSON.stringify(range)
      const reads = known.get(entry) ?? new Map<string, Shared>()
      const same = reads.get(key)
      // What was read before what is delivered began anew is of no use.
      if (same !== undefined && same.breaks === entry.breaks) {
        if (same.page === undefined) return void same.waiting.push(done)
        if (entry.isCovered(same.page.value)) return done(same.page)
      }
      const shared: Shared = { waiting: [done], page: undefined, breaks: entry.breaks }
      known.set(entry, reads.set(key, shared))
      entry.expect()
      // In a fiber of its own: whoever has asked first may go, and the others wait on.
      fork(one(of, range)).addObserver((page) => {
        const { waiting } = shared
        shared.waiting = []
        keep(entry, key, shared, page)
        for (const each of waiting) each(page)
      })
    }

    return { one, unsafeShared }
  })
