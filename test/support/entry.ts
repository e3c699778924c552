/** Entries of a channel, their publications, and subscriptions that keep what they get. */
import * as Duration from "effect/Duration"
import * as Frame from "../../src/Frame.ts"
import type * as History from "../../src/History.ts"
import { Entry, type Shared, type Subscription, type Want } from "../../src/Hub/Entry.ts"
import type { Insufficiency } from "../../src/Metrics.ts"
import type { Publication } from "../../src/protocol/Publication.ts"

/** What an entry shares with others, in a test that is not about that. */
export const unbounded = (): Shared => ({
  held: { maxBytes: Infinity, bytes: 0 },
  remembered: { maxBytes: Infinity, bytes: 0, each: 0 }
})

export const retention = { size: 100, ttl: Duration.minutes(5), metaTtl: Duration.hours(1) }
export const LIMIT = { publications: 10, bytes: 1000 }

export const at = (offset: number, epoch = "e"): Publication => ({ data: String(offset), json: true, epoch, offset })

export const range = (from: number, to: number): ReadonlyArray<Publication> =>
  Array.from({ length: Math.max(0, to - from + 1) }, (_, index) => at(from + index))

export const page = (top: number, publications: ReadonlyArray<Publication> = [], epoch = "e"): History.Page => ({
  epoch,
  offset: top,
  publications
})

export const since = (offset: number, epoch = "e"): Want => ({ since: { epoch, offset } })

/** An entry at an offset, with somebody who is about to join. */
export const entryAt = (offset: number): Entry => {
  const entry = new Entry("x", retention, LIMIT, unbounded())
  entry.breakOff({ epoch: "e", offset })
  entry.expect()
  return entry
}

/** A subscription that keeps what it gets; with `room`, only so many publications. */
export const subscription = (isPositioned = true, room = Infinity) => {
  const got: Array<string> = []
  const ended: Array<Insufficiency> = []
  const one: Subscription = {
    encoding: "plain",
    isPositioned,
    hearsAttendance: false,
    excludes: undefined,
    deliver: (frame) => {
      const texts = Array.from({ length: Frame.count(frame) }, (_, index) =>
        Frame.slice(frame, index, index + 1)
          .bytes.subarray(2)
          .toString()
      )
      const fit = texts.slice(0, room - got.length)
      got.push(...fit)
      return fit.length === texts.length
    },
    insufficient: (why) => ended.push(why)
  }
  return { one, got, ended }
}

export const offsets = (publications: ReadonlyArray<Publication>): ReadonlyArray<number | undefined> =>
  publications.map(({ offset }) => offset)
