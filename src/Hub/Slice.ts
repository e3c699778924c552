/**
 * What is fanned out in one turn of the event loop: the beginning of the inbox, as
 * far as a turn and the sockets of those who get it take it.
 */
import type * as History from "../History.ts"
import { type Publication, weight } from "../protocol/Publication.ts"
import type { Entry } from "./Entry.ts"

// A connection gets no more in a turn of the event loop, about, than what a socket
// that keeps up takes at once: of one channel a slice has no more than that, and a
// connection of many channels ends the turn when it has got it.
/** So many publications, or so many bytes, are enough for a connection in one turn. */
export const ENOUGH_PUBLICATIONS = 512
export const ENOUGH_BYTES = 64 * 1024

// Longer ones join more: in 200 rooms of 5, where everybody publishes, a server
// takes a tenth more messages with slices of 2,048 than with those of 512, and a
// twentieth more with these.
const SLICE_PUBLICATIONS = 8192
const SLICE_BYTES = 2 * 1024 * 1024
/** A turn of the event loop takes about this many microseconds at most. */
const SLICE_DELIVERIES = 128 * 1024

/** A publication for a channel, or the place at which it begins anew. */
export interface Arrival {
  readonly entry: Entry
  readonly publication: Publication | undefined
  readonly from: History.Position | undefined
  /** When the first of its turn of the event loop came, in milliseconds of the monotonic clock. */
  readonly at: number
}

export const weigh = (arrival: Arrival | undefined): number =>
  arrival?.publication === undefined ? 0 : weight(arrival.publication)

/** What a slice has of one channel. */
export class Part {
  readonly arrivals: Array<Arrival> = []
  bytes = 0

  get isFull(): boolean {
    return this.arrivals.length >= ENOUGH_PUBLICATIONS || this.bytes >= ENOUGH_BYTES
  }
}

/** How much of the inbox is in the next slice, channel by channel, in the order in which they come first. */
export const take = (inbox: ReadonlyArray<Arrival>): { readonly slice: Map<Entry, Part>; readonly count: number } => {
  const slice = new Map<Entry, Part>()
  let count = 0
  let bytes = 0
  let deliveries = 0
  for (const arrival of inbox) {
    if (count >= SLICE_PUBLICATIONS || bytes >= SLICE_BYTES || deliveries >= SLICE_DELIVERIES) break
    const { entry } = arrival
    const part = slice.get(entry) ?? new Part()
    if (part.isFull) break
    if (part.arrivals.length === 0) slice.set(entry, part)
    const size = weigh(arrival)
    part.arrivals.push(arrival)
    part.bytes += size
    bytes += size
    deliveries += entry.size
    count++
  }
  return { slice, count }
}
