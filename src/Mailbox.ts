/**
 * The mailbox of a connection: a bounded queue of frames that wait to be
 * written to its socket. It is an Effect `Queue` over a backing store that can
 * be emptied in one synchronous step.
 *
 * Owner: the connection. Capacity: `client.queue_max_frames` frames and
 * `client.queue_max_size` bytes. At the bound `client.overflow` decides which
 * publications go; replies and control pushes are always taken, and are bounded
 * by their senders, who do not take a client's next command while its mailbox
 * is full.
 */
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Frame from "./Frame.ts"

/** What happens to a publication for a full mailbox. */
export type Overflow = "drop_newest" | "drop_oldest" | "disconnect"

/**
 * - `lossy`: publications, joins and leaves that may be dropped, also once they are queued.
 * - `kept`: publications of positioned subscriptions: dropped only instead of being queued, never afterwards.
 * - `control`: replies and control pushes; never dropped.
 */
type Kind = "lossy" | "kept" | "control"

interface Item {
  readonly frame: Frame.Frame
  readonly kind: Kind
}

class Store implements Queue.BackingQueue<Item> {
  readonly [Queue.BackingQueueTypeId] = { _A: (item: Item): Item => item }
  items: Array<Item> = []
  frames = 0
  bytes = 0
  readonly maxFrames: number
  readonly maxBytes: number

  constructor(maxFrames: number, maxBytes: number) {
    this.maxFrames = maxFrames
    this.maxBytes = maxBytes
  }

  /** How many WebSocket frames of `frame` fit. */
  room(frame: Frame.Frame): number {
    const frames = Math.min(Frame.count(frame), this.maxFrames - this.frames)
    const bytes = this.maxBytes - this.bytes
    if (frames === Frame.count(frame) && frame.bytes.length <= bytes) return frames
    let fit = 0
    while (fit < frames && (frame.ends[fit] ?? Infinity) <= bytes) fit++
    // An empty mailbox takes any frame: escapes may make one larger than the bound.
    return fit === 0 && this.items.length === 0 ? 1 : Math.max(0, fit)
  }

  offer(item: Item): boolean {
    if (item.kind !== "control" && this.room(item.frame) < Frame.count(item.frame)) return false
    this.items.push(item)
    this.frames += Frame.count(item.frame)
    this.bytes += item.frame.bytes.length
    return true
  }

  /** Drops up to `count` of the oldest frames that may be; returns how many it dropped. */
  dropOldest(count: number): number {
    let dropped = 0
    this.items = this.items.flatMap((item) => {
      const have = Frame.count(item.frame)
      const take = item.kind === "lossy" ? Math.min(have, count - dropped) : 0
      if (take === 0) return [item]
      dropped += take
      const rest = Frame.slice(item.frame, take, have)
      this.frames -= take
      this.bytes -= item.frame.bytes.length - rest.bytes.length
      return take === have ? [] : [{ frame: rest, kind: "lossy" }]
    })
    return dropped
  }

  drain(): Array<Item> {
    const items = this.items
    this.items = []
    this.frames = 0
    this.bytes = 0
    return items
  }

  take(bytes: number): ReadonlyArray<Frame.Frame> {
    // As nearly always. The array keeps its room, of 17 items: a new one each time is garbage.
    const only = this.items.length === 1 ? this.poll(undefined) : undefined
    if (only !== undefined) return [only.frame]
    let count = 0
    let size = 0
    while (count < this.items.length) {
      const next = this.items[count]?.frame.bytes.length ?? 0
      if (count > 0 && size + next > bytes) break
      size += next
      count++
    }
    const taken = count === this.items.length ? this.drain() : this.items.splice(0, count)
    const frames = taken.map((item) => item.frame)
    if (this.items.length > 0) {
      this.bytes -= size
      this.frames -= frames.reduce((sum, frame) => sum + Frame.count(frame), 0)
    }
    return frames
  }

  poll<Def>(def: Def): Item | Def {
    const item = this.items.shift()
    if (item === undefined) return def
    this.frames -= Frame.count(item.frame)
    this.bytes -= item.frame.bytes.length
    return item
  }

  pollUpTo(limit: number): Chunk.Chunk<Item> {
    const taken: Array<Item> = []
    while (taken.length < limit && this.items.length > 0) taken.push(this.poll(undefined) as Item)
    return Chunk.unsafeFromArray(taken)
  }

  offerAll(elements: Iterable<Item>): Chunk.Chunk<Item> {
    return Chunk.fromIterable(Array.from(elements).filter((item) => !this.offer(item)))
  }

  capacity(): number {
    return this.maxFrames
  }

  length(): number {
    return this.items.length
  }
}

/** A bounded queue of frames. Its operations are synchronous: the hub never waits for a connection. */
export class Mailbox {
  readonly #store: Store
  readonly #queue: Queue.Queue<Item>
  readonly #overflow: Overflow

  constructor(store: Store, queue: Queue.Queue<Item>, overflow: Overflow) {
    this.#store = store
    this.#queue = queue
    this.#overflow = overflow
  }

  /** How many publications of `frame` fit now. */
  room(frame: Frame.Frame): number {
    return this.#store.room(frame)
  }

  /**
   * Queues publications, as many as fit; what happens to the others is up to
   * the overflow policy, except that `kept` ones are queued from the first to
   * the last that fits, and stay. Returns how many publications were dropped:
   * newer ones of `frame`, or older ones that were queued.
   */
  offer(frame: Frame.Frame, kind: "lossy" | "kept" = "lossy"): number {
    const count = Frame.count(frame)
    const fit = this.#store.room(frame)
    if (fit === count) {
      this.#queue.unsafeOffer({ frame, kind })
      return 0
    }
    if (this.#overflow !== "drop_oldest" || kind === "kept") {
      if (fit > 0) this.#queue.unsafeOffer({ frame: Frame.slice(frame, 0, fit), kind })
      return count - fit
    }
    // The oldest give way until the newest fit; of a frame longer than the
    // whole mailbox only its end is kept.
    let dropped = 0
    let from = 0
    while (from < count) {
      const rest = Frame.slice(frame, from, count)
      if (this.#store.room(rest) === count - from) {
        this.#queue.unsafeOffer({ frame: rest, kind })
        break
      }
      const excess = this.#store.frames + (count - from) - this.#store.maxFrames
      const freed = this.#store.dropOldest(Math.max(1, excess))
      if (freed === 0) from += 1
      dropped += freed === 0 ? 1 : freed
    }
    return dropped
  }

  /** Queues a reply or a control push: it is never dropped. */
  offerControl(frame: Frame.Frame): void {
    this.#queue.unsafeOffer({ frame, kind: "control" })
  }

  /** Whether a bound is reached. */
  get full(): boolean {
    return this.#store.frames >= this.#store.maxFrames || this.#store.bytes >= this.#store.maxBytes
  }

  get isEmpty(): boolean {
    return this.#store.items.length === 0
  }

  /** Bytes queued. */
  get bytes(): number {
    return this.#store.bytes
  }

  /** Publications, replies and pushes queued. */
  get frames(): number {
    return this.#store.frames
  }

  /** Takes the oldest frames in one step: at least one, more while they stay within `bytes`. */
  take(bytes: number): ReadonlyArray<Frame.Frame> {
    return this.#store.take(bytes)
  }

  /** Empties the mailbox; returns how many publications were lost by it. */
  discard(): number {
    return this.#store.drain().reduce((sum, item) => sum + (item.kind === "control" ? 0 : Frame.count(item.frame)), 0)
  }
}

/** An empty mailbox of `maxFrames` frames and `maxBytes` bytes. */
export const make = (maxFrames: number, maxBytes: number, overflow: Overflow): Effect.Effect<Mailbox> =>
  Effect.suspend(() => {
    const store = new Store(maxFrames, maxBytes)
    return Effect.map(Queue.make(store, Queue.droppingStrategy()), (queue) => new Mailbox(store, queue, overflow))
  })
