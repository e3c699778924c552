/**
 * One channel on this instance: who is subscribed, how far they have got, and
 * how a newcomer joins them without missing a publication or getting one twice.
 * Everything here is synchronous.
 */
import * as Frame from "../Frame.ts"
import * as History from "../History.ts"
import type { Insufficiency } from "../Metrics.ts"
import * as Json from "../protocol/Json.ts"
import { type Publication, weight } from "../protocol/Publication.ts"
import { type Budget, Sequence } from "./Sequence.ts"

/** How a subscription wants publications: the bare `data`, or pushes of the client protocol. */
export type Encoding = "plain" | "protocol"

/** One connection's subscription to one channel. Nothing here waits or throws. */
export interface Subscription {
  readonly encoding: Encoding
  /** Whether it gets every publication or is told that it does not. */
  readonly isPositioned: boolean
  /** Whether it gets joins and leaves too; in the encoding `protocol` only. */
  readonly hearsAttendance: boolean
  /** A client whose publications, joins and leaves it does not get. */
  readonly excludes: string | undefined
  /** Queues publications; `false`: not all of them could be. */
  readonly deliver: (frame: Frame.Frame) => boolean
  /** It was positioned and has ended: it gets nothing more. */
  readonly insufficient: (why: Insufficiency) => void
}

/** What a newcomer wants of the past: what it missed since a position, the last so many, or nothing. */
export type Want = { readonly since: History.Position } | { readonly last: number } | undefined

/** Where a newcomer has joined; what comes next follows. */
export interface Joined {
  /** `undefined` in a channel without history. */
  readonly position: History.Position | undefined
  /** What it wanted of the past, up to `position`. */
  readonly publications: ReadonlyArray<Publication>
  /** Whether these are all that it missed since the position that it gave. */
  readonly isRecovered: boolean
}

/** The most that a newcomer gets of the past. */
export interface ReplayLimit {
  readonly publications: number
  readonly bytes: number
}

const ENCODINGS = ["plain", "protocol"] as const

const encoders: Record<Encoding, (channel: string, publication: Publication) => string> = {
  plain: (_, { data }) => data,
  protocol: Json.push
}

/** One channel. */
export class Entry {
  readonly channel: string
  readonly retention: History.Retention | undefined
  /** The order of what comes, in a channel with history. */
  readonly sequence: Sequence | undefined
  readonly #limit: ReplayLimit
  readonly #subscriptions: Record<Encoding, Set<Subscription>> = { plain: new Set(), protocol: new Set() }
  /** Subscriptions that do not get everything. */
  #excluding = 0
  /** After what the subscriptions have got last. */
  #delivered: History.Position | undefined
  #breaks = 0
  #joining = 0
  /** What was delivered while somebody was joining, the newest of it: history that they read may end before it. */
  #tail: Array<Publication> = []
  #tailBytes = 0
  readonly #watchers = new Set<() => void>()

  /** `held`: the bound of what is held back, shared by all channels. */
  constructor(channel: string, retention: History.Retention | undefined, limit: ReplayLimit, held?: Budget) {
    this.channel = channel
    this.retention = retention
    this.sequence = retention === undefined ? undefined : new Sequence(held)
    this.#limit = limit
  }

  get delivered(): History.Position | undefined {
    return this.#delivered
  }

  /** How many subscriptions there are. */
  get size(): number {
    return this.#subscriptions.plain.size + this.#subscriptions.protocol.size
  }

  /** Whether nobody needs it any more. */
  get isUnused(): boolean {
    return this.#joining === 0 && this.size === 0
  }

  /** How many subscriptions are not told what they miss. */
  get unpositioned(): number {
    let count = 0
    for (const encoding of ENCODINGS) {
      for (const subscription of this.#subscriptions[encoding]) if (!subscription.isPositioned) count++
    }
    return count
  }

  // ── Fan-out ──────────────────────────────────────────────────────────────

  /**
   * Delivers publications to all; encoded once for all that get the same.
   * Returns how many were ended by it.
   */
  deliver(publications: ReadonlyArray<Publication>): number {
    let ended = 0
    const hasNews = publications.some(({ kind }) => kind !== undefined)
    const messages = hasNews ? publications.filter(({ kind }) => kind === undefined) : publications
    const authors = this.#excluding === 0 ? undefined : new Set(publications.map(({ info }) => info?.client))
    for (const encoding of ENCODINGS) {
      const subscriptions = this.#subscriptions[encoding]
      if (subscriptions.size === 0) continue
      const shared = this.#encode(encoding, messages)
      const withNews = hasNews && encoding === "protocol" ? this.#encode(encoding, publications) : shared
      for (const subscription of subscriptions) {
        const { excludes, hearsAttendance } = subscription
        let frame = hearsAttendance ? withNews : shared
        if (frame !== undefined && excludes !== undefined && authors?.has(excludes) === true) {
          const all = hearsAttendance && encoding === "protocol" ? publications : messages
          frame = Frame.pick(frame, (index) => all[index]?.info?.client !== excludes)
        }
        if (frame === undefined || frame.ends.length === 0) continue
        if (subscription.deliver(frame) || !subscription.isPositioned) continue
        this.#forget(subscription)
        subscription.insufficient("overflow")
        ended++
      }
    }
    if (this.sequence !== undefined) this.#moveOn(publications)
    return ended
  }

  /** What comes next begins anew, after `position`: ends all that are to get everything. Returns how many. */
  breakOff(position: History.Position | undefined): number {
    this.#breaks++
    this.#delivered = position
    this.#clearTail()
    let ended = 0
    for (const encoding of ENCODINGS) {
      for (const subscription of this.#subscriptions[encoding]) {
        if (!subscription.isPositioned) continue
        this.#forget(subscription)
        subscription.insufficient("gap")
        ended++
      }
    }
    this.#changed()
    return ended
  }

  #encode(encoding: Encoding, publications: ReadonlyArray<Publication>): Frame.Frame | undefined {
    if (publications.length === 0) return undefined
    const encode = encoders[encoding]
    return Frame.encode(publications.map((publication) => encode(this.channel, publication)))
  }

  #moveOn(publications: ReadonlyArray<Publication>): void {
    for (const publication of publications) {
      const { epoch, offset } = publication
      if (epoch === undefined || offset === undefined) continue
      this.#delivered = { epoch, offset }
      if (this.#joining === 0) continue
      this.#tail.push(publication)
      this.#tailBytes += weight(publication)
    }
    while (this.#tail.length > this.#limit.publications || this.#tailBytes > this.#limit.bytes) {
      const first = this.#tail.shift()
      this.#tailBytes -= first === undefined ? 0 : weight(first)
    }
    this.#changed()
  }

  #clearTail(): void {
    this.#tail = []
    this.#tailBytes = 0
  }

  // ── Joining ──────────────────────────────────────────────────────────────

  /** Somebody begins to join: from now on what is delivered is remembered. */
  expect(): void {
    this.#joining++
  }

  /** They have joined, or will not. */
  unexpect(): void {
    this.#joining--
    if (this.#joining === 0) this.#clearTail()
  }

  /** Whether this instance has got as far as a newcomer that has read `page`, so that it can join. */
  isAbreast(page: History.Page, want: Want): boolean {
    const delivered = this.#delivered
    if (delivered?.epoch !== page.epoch) return false
    if (want === undefined || !("since" in want) || want.since.epoch !== page.epoch) return true
    return want.since.offset <= delivered.offset || want.since.offset > page.offset
  }

  /** How often what is delivered has begun anew. */
  get breaks(): number {
    return this.#breaks
  }

  /** Adds a subscription. In the same step: what it gets of the past, and where what it gets from now on begins. */
  join(subscription: Subscription, want: Want, page: History.Page | undefined): Joined {
    this.#subscriptions[subscription.encoding].add(subscription)
    if (subscription.excludes !== undefined) this.#excluding++
    const position = this.#delivered
    if (want === undefined || page === undefined || position === undefined || page.epoch !== position.epoch) {
      return { position, publications: [], isRecovered: false }
    }
    // The tail ends where the others are, so of history only what is before it is needed.
    const tail = this.#tail[0]?.offset ?? position.offset + 1
    const known = [...page.publications.filter(({ offset = 0 }) => offset < tail), ...this.#tail]
    if ("last" in want) {
      // Not those before a hole: a reader would take what comes next for their continuation.
      const end = known.at(-1)?.offset === position.offset ? History.contiguousEnd(known) : []
      return { position, publications: end.slice(-want.last), isRecovered: false }
    }
    const missed = known.filter(({ offset = 0 }) => offset > want.since.offset)
    const isRecovered =
      want.since.epoch === position.epoch &&
      want.since.offset <= page.offset &&
      want.since.offset + missed.length === position.offset &&
      History.isContiguous(missed, want.since.offset) &&
      missed.length <= this.#limit.publications
    return { position, publications: isRecovered ? missed : [], isRecovered }
  }

  /** Ends a subscription; returns whether there was one. */
  leave(subscription: Subscription): boolean {
    return this.#forget(subscription)
  }

  #forget(subscription: Subscription): boolean {
    if (!this.#subscriptions[subscription.encoding].delete(subscription)) return false
    if (subscription.excludes !== undefined) this.#excluding--
    return true
  }

  /** Has a function called at every change of what was delivered; returns what ends that. */
  watch(watcher: () => void): () => void {
    this.#watchers.add(watcher)
    return () => void this.#watchers.delete(watcher)
  }

  #changed(): void {
    for (const watcher of this.#watchers) watcher()
  }
}
