/**
 * One channel on this instance: who is subscribed, how far they have got, and
 * how a newcomer joins them without missing a publication or getting one twice.
 * Everything here is synchronous.
 */
import * as Frame from "../Frame.ts"
import * as History from "../History.ts"
import type { Insufficiency } from "../Metrics.ts"
import * as Json from "../protocol/Json.ts"
import type { Publication } from "../protocol/Publication.ts"
import { type Budget, Sequence } from "./Sequence.ts"
import { type MemoryBudget, Tail, type TailLimit } from "./Tail.ts"

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
export type ReplayLimit = TailLimit

/** What all channels of an instance share: bounds of what they keep beside their subscriptions. */
export interface Shared {
  /** What is held back while something before it is read. */
  readonly held: Budget
  /** What is remembered for newcomers. */
  readonly remembered: MemoryBudget
}

/** One time that an entry remembers something. */
export interface Memory {
  /** After which offset. What is at hand before that is older: who needs that has to read. */
  readonly after: number
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
  #removals = 0
  #doubts = 0
  #joining = 0
  readonly #tail: Tail | undefined
  /** What is remembered of the past, also while nobody joins. */
  #memory: Memory | undefined
  readonly #watchers = new Set<() => void>()

  constructor(channel: string, retention: History.Retention | undefined, limit: ReplayLimit, shared: Shared) {
    this.channel = channel
    this.retention = retention
    this.sequence = retention === undefined ? undefined : new Sequence(shared.held)
    this.#limit = limit
    this.#tail = retention && new Tail(limit, shared.remembered)
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
    this.forget()
    this.#tail?.clear()
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
      if (this.#isRemembering) this.#tail?.push(publication)
    }
    if (this.#tail?.isTooMuch === true) this.forget()
    this.#changed()
  }

  get #isRemembering(): boolean {
    return this.#joining > 0 || this.#memory !== undefined
  }

  // ── Joining ──────────────────────────────────────────────────────────────

  /** Somebody begins to join: from now on what is delivered is remembered. */
  expect(): void {
    this.#joining++
  }

  /** They have joined, or will not. */
  unexpect(): void {
    this.#joining--
    if (!this.#isRemembering) this.#tail?.clear()
  }

  /**
   * Whether all that was published since a position is remembered, so that
   * nothing has to be read for who joins now. Not where nothing was read for a
   * while: a read is also what shows that this instance has missed something.
   */
  recalls(since: History.Position): boolean {
    const { delivered, retention } = this
    if (this.#memory === undefined || delivered === undefined || retention === undefined) return false
    // More than the stream keeps is not to be had from the instance either.
    const isKept = delivered.offset - since.offset <= retention.size
    return isKept && since.offset >= this.#memory.after && this.#covers(since)
  }

  /** Whether all that was delivered since a position is at hand. */
  #covers(since: History.Position): boolean {
    const delivered = this.#delivered
    if (delivered === undefined || this.#tail === undefined) return false
    if (!History.countsIn(since, delivered.epoch)) return false
    return since.offset <= delivered.offset && since.offset >= this.#tail.start(delivered)
  }

  /**
   * Remembers what somebody who has joined was told of the past, and what comes
   * then, until it is told to `forget` that; `undefined`: there is no need, or
   * no room for it.
   */
  remember(since: History.Position, publications: ReadonlyArray<Publication>): Memory | undefined {
    if (this.#tail === undefined || this.recalls(since)) return undefined
    // Somebody else who joins may need what is before it.
    const isKept = this.#covers(since) ? this.#tail.keep() : this.#tail.replace(publications)
    return isKept ? (this.#memory = { after: since.offset }) : undefined
  }

  /** Forgets what is remembered; with `memory`: unless it has been replaced by something newer. */
  forget(memory = this.#memory): void {
    if (memory === undefined || memory !== this.#memory) return
    this.#memory = undefined
    if (this.#joining === 0) this.#tail?.clear()
  }

  /** The past was removed: nothing of it is at hand, and what was read of it before is not there any more. */
  removePast(): void {
    this.#removals++
    this.#memory = undefined
    this.#tail?.clear()
  }

  /** How often the past was removed. */
  get removals(): number {
    return this.#removals
  }

  /** The link was lost: the past may have been removed meanwhile. What was read before is not remembered, now or later. */
  doubt(): void {
    this.#doubts++
    this.forget()
  }

  get doubts(): number {
    return this.#doubts
  }

  /** Whether this instance has got as far as a newcomer that has read `page`, so that it can join. */
  isAbreast(page: History.Page, want: Want): boolean {
    const delivered = this.#delivered
    if (delivered?.epoch !== page.epoch) return false
    if (want === undefined || !("since" in want) || !History.countsIn(want.since, page.epoch)) return true
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
    const nothing = { position, publications: [], isRecovered: false }
    if (want === undefined || position === undefined || this.#tail === undefined) return nothing
    if (page === undefined) {
      if (!("since" in want) || !this.#covers(want.since)) return nothing
      return { position, publications: this.#tail.after(want.since.offset), isRecovered: true }
    }
    if (page.epoch !== position.epoch) return nothing
    const known = this.#known(page, position, this.#tail)
    if ("last" in want) {
      // Not those before a hole: a reader would take what comes next for their continuation.
      const end = known.at(-1)?.offset === position.offset ? History.contiguousEnd(known) : []
      return { position, publications: end.slice(-want.last), isRecovered: false }
    }
    const missed =
      known[0]?.offset === want.since.offset + 1 ? known : known.filter(({ offset = 0 }) => offset > want.since.offset)
    const isRecovered =
      History.countsIn(want.since, position.epoch) &&
      want.since.offset <= page.offset &&
      want.since.offset + missed.length === position.offset &&
      History.isContiguous(missed, want.since.offset) &&
      missed.length <= this.#limit.publications
    if (!isRecovered) return nothing
    // The same list for all who come back together, who may have read it together: it is written once.
    const publications = this.recalls(want.since) ? this.#tail.after(want.since.offset) : missed
    return { position, publications, isRecovered }
  }

  /**
   * What was read, and what was delivered since. Of what is in the stream the
   * page alone tells: of that, the tail may have what was removed meanwhile.
   */
  #known(page: History.Page, position: History.Position, tail: Tail): ReadonlyArray<Publication> {
    const { offset: top, publications } = page
    // What this instance has not got to yet comes when it does.
    if (top > position.offset) return publications.filter(({ offset = 0 }) => offset <= position.offset)
    const later = tail.copyAfter(top)
    return later.length === 0 ? publications : [...publications, ...later]
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

  /** Forgets what it keeps. To be called at the end. */
  discard(): void {
    this.sequence?.discard()
    this.#memory = undefined
    this.#tail?.clear()
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
