/**
 * What is read of streams for clients. Only so many reads at a time, so that
 * clients do not keep each other from publishing; and those who come back to a
 * channel at the same time, having seen the same, share one.
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as FiberSet from "effect/FiberSet"
import type * as Scope from "effect/Scope"
import type * as Broker from "../Broker.ts"
import type * as History from "../History.ts"
import type { Entry } from "./Entry.ts"

/** Reads at a time: each may be as long as `client.reply_max_size`. */
const AT_A_TIME = 8

type Page = Exit.Exit<History.Page, Broker.BrokerError>

/** Reads of streams. `done` is called once, maybe within the call, unless what is returned is called before. */
export interface Reads {
  /** A read of one's own. */
  readonly unsafeOne: (kept: Broker.Kept, range: History.Range, done: (page: Page) => void) => () => void
  /**
   * A read that is shared with who asks an entry for the same while it is under
   * way. It may have begun before this one has asked, but not before the entry
   * has begun to remember what it delivers: what came since is in its tail. One
   * that nobody waits for any more ends.
   */
  readonly unsafeShared: (
    entry: Entry,
    kept: Broker.Kept,
    range: History.Range,
    done: (page: Page) => void
  ) => () => void
}

interface Shared {
  /** Of its entry, when it began. */
  readonly breaks: number
  readonly removals: number
  readonly waiting: Set<(page: Page) => void>
  stop: (() => void) | undefined
}

/** `release` is told of an entry that a read does not need any more. */
export const make = (
  broker: Pick<Context.Tag.Service<Broker.Broker>, "history">,
  release: (entry: Entry) => void
): Effect.Effect<Reads, never, Scope.Scope> =>
  Effect.gen(function* () {
    const fork = yield* FiberSet.makeRuntime<never, History.Page, Broker.BrokerError>()
    /** Reads that wait for their turn. */
    const waiting = new Set<() => void>()
    let running = 0

    // Not a semaphore: reads are the most of what a reconnect storm costs, and its effects the most of a read.
    const unsafeOne: Reads["unsafeOne"] = (of, range, done) => {
      let stop = (): void => void waiting.delete(start)
      const start = (): void => {
        running++
        const read = fork(Effect.suspend(() => broker.history(of, range)))
        let isWanted = true
        stop = () => {
          isWanted = false
          read.unsafeInterruptAsFork(FiberId.none)
        }
        read.addObserver((page) => {
          running--
          const [next] = waiting
          if (next !== undefined) {
            waiting.delete(next)
            next()
          }
          if (isWanted) done(page)
        })
      }
      if (running < AT_A_TIME) start()
      else waiting.add(start)
      return () => stop()
    }

    const shared = new Map<Entry, Map<string, Shared>>()

    const join = (one: Shared, done: (page: Page) => void, forget: () => void): (() => void) => {
      one.waiting.add(done)
      return () => {
        if (!one.waiting.delete(done) || one.waiting.size > 0) return
        one.stop?.()
        forget()
      }
    }

    const unsafeShared: Reads["unsafeShared"] = (entry, of, range, done) => {
      const key = JSON.stringify(range)
      const reads = shared.get(entry) ?? new Map<string, Shared>()
      const forget = (one: Shared): void => {
        if (reads.get(key) === one) reads.delete(key)
        // Those of another time may stand there by now.
        if (reads.size === 0 && shared.get(entry) === reads) shared.delete(entry)
        entry.unexpect()
        release(entry)
      }
      const same = reads.get(key)
      const { breaks, removals } = entry
      // What was read before what is delivered began anew, or the past was removed, is of no use.
      if (same?.breaks === breaks && same.removals === removals) return join(same, done, () => forget(same))
      const one: Shared = { breaks, removals, waiting: new Set(), stop: undefined }
      shared.set(entry, reads.set(key, one))
      entry.expect()
      const leave = join(one, done, () => forget(one))
      one.stop = unsafeOne(of, range, (page) => {
        const all = Array.from(one.waiting)
        one.waiting.clear()
        forget(one)
        for (const each of all) each(page)
      })
      return leave
    }

    return { unsafeOne, unsafeShared }
  })
