/**
 * The streams of the in-process broker. They behave as those in Redis do:
 * bounded by size and time for each channel, and by bytes and number for all of
 * them together. What has to go is what was not used for longest, of channels
 * without subscribers; whoever needed it is told, since it is missing or its
 * epoch is another.
 */
import * as Duration from "effect/Duration"
import * as History from "../History.ts"
import type { Publication } from "../protocol/Publication.ts"

/** Most streams that are kept without a subscriber: of those with publications, and of those that never had one. */
export const MAX_STREAMS = 100_000
export const MAX_EMPTY_STREAMS = 10_000

/** What a publication takes beside its texts, in bytes. */
const OVERHEAD = 512

/** What a publication takes, in bytes: a text in memory has two for each of its units. */
const sizeOf = ({ data, info, tags }: Publication): number =>
  OVERHEAD + 2 * (data.length + (info === undefined && tags === undefined ? 0 : JSON.stringify([info, tags]).length))

interface Stream {
  readonly epoch: string
  offset: number
  /** Without holes; the last one has `offset`. */
  publications: Array<Publication>
  bytes: number
  /** When the publications go, in milliseconds of the monotonic clock. */
  expiresAt: number
  /** When epoch and offset go. */
  metaExpiresAt: number
}

/** All streams of a process. `now` is in milliseconds of the monotonic clock. */
export class MemoryStreams {
  readonly #streams = new Map<string, Stream>()
  /** Those that nobody is subscribed to, the least recently used first. */
  readonly #idle = { used: new Set<string>(), empty: new Set<string>() }
  /** Channels that somebody is subscribed to: their streams are not forgotten to make room for others. */
  readonly #pinned = new Set<string>()
  /** Those that have publications, the least recently written first. */
  readonly #written = new Set<Stream>()
  readonly #maxBytes: number
  #bytes = 0

  /** `maxBytes`: bound of the publications of all streams. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  /** Adds a publication; returns it with its position. */
  append(now: number, channel: string, retention: History.Retention, publication: Publication): Publication {
    const stream = this.#use(now, channel, retention)
    const positioned = { ...publication, offset: ++stream.offset, epoch: stream.epoch }
    stream.publications.push(positioned)
    this.#count(stream, sizeOf(positioned))
    this.#touch(channel, stream)
    while (stream.publications.length > retention.size) this.#dropOldest(stream)
    stream.expiresAt = now + Duration.toMillis(retention.ttl)
    stream.metaExpiresAt = now + Duration.toMillis(retention.metaTtl)
    this.#written.delete(stream)
    this.#written.add(stream)
    for (const oldest of this.#written) {
      while (this.#bytes > this.#maxBytes && oldest.publications.length > 0) this.#dropOldest(oldest)
      if (this.#bytes <= this.#maxBytes) break
      this.#written.delete(oldest)
    }
    return positioned
  }

  read(now: number, channel: string, retention: History.Retention, range: History.Range): History.Page {
    const stream = this.#use(now, channel, retention)
    const { epoch, offset } = stream
    return { epoch, offset, publications: select(stream, range) }
  }

  /** Where a stream stands; `undefined` where there is none. */
  position(now: number, channel: string, retention: History.Retention): History.Position | undefined {
    const known = this.#streams.get(channel)
    if (known === undefined || known.metaExpiresAt <= now) return undefined
    const { epoch, offset } = this.#use(now, channel, retention)
    return { epoch, offset }
  }

  /** Somebody is subscribed to the channel, or nobody any more. */
  pin(channel: string, isPinned: boolean): void {
    if (isPinned) this.#pinned.add(channel)
    else this.#pinned.delete(channel)
    const stream = this.#streams.get(channel)
    if (stream !== undefined) this.#touch(channel, stream)
  }

  /** Removes the publications of a stream; its position stays. */
  remove(channel: string): void {
    const stream = this.#streams.get(channel)
    if (stream !== undefined) this.#clear(stream)
  }

  /** Removes what has expired. */
  sweep(now: number): void {
    for (const [channel, stream] of this.#streams) {
      if (stream.expiresAt <= now) this.#clear(stream)
      if (stream.metaExpiresAt <= now) this.#forget(channel, stream)
    }
  }

  /** How much there is, for tests. */
  get size(): { readonly streams: number; readonly bytes: number } {
    return { streams: this.#streams.size, bytes: this.#bytes }
  }

  /** The stream of a channel as it is now, made the most recently used. */
  #use(now: number, channel: string, retention: History.Retention): Stream {
    const known = this.#streams.get(channel)
    if (known !== undefined && known.metaExpiresAt <= now) this.#forget(channel, known)
    const stream: Stream = this.#streams.get(channel) ?? {
      epoch: History.newEpoch(),
      offset: 0,
      publications: [],
      bytes: 0,
      expiresAt: 0,
      metaExpiresAt: 0
    }
    if (stream.expiresAt <= now) this.#clear(stream)
    stream.metaExpiresAt = now + Duration.toMillis(stream.offset > 0 ? retention.metaTtl : History.emptyTtl(retention))
    this.#streams.set(channel, stream)
    this.#touch(channel, stream)
    return stream
  }

  /** Makes it the most recently used of its kind, and makes room. */
  #touch(channel: string, stream: Stream): void {
    const { used, empty } = this.#idle
    used.delete(channel)
    empty.delete(channel)
    if (this.#pinned.has(channel)) return
    const kind = stream.offset > 0 ? used : empty
    kind.add(channel)
    const [oldest] = kind.size > (kind === used ? MAX_STREAMS : MAX_EMPTY_STREAMS) ? kind : []
    const its = oldest === undefined ? undefined : this.#streams.get(oldest)
    if (oldest !== undefined && its !== undefined) this.#forget(oldest, its)
  }

  #count(stream: Stream, bytes: number): void {
    stream.bytes += bytes
    this.#bytes += bytes
  }

  #dropOldest(stream: Stream): void {
    const oldest = stream.publications.shift()
    if (oldest !== undefined) this.#count(stream, -sizeOf(oldest))
  }

  #clear(stream: Stream): void {
    this.#count(stream, -stream.bytes)
    stream.publications = []
    this.#written.delete(stream)
  }

  #forget(channel: string, stream: Stream): void {
    this.#clear(stream)
    this.#streams.delete(channel)
    this.#idle.used.delete(channel)
    this.#idle.empty.delete(channel)
  }
}

/** The publications of a stream in a range. They have no holes, so offsets are indices. */
const select = (stream: Stream, { since, limit, maxBytes, reverse = false, whole = false }: History.Range) => {
  if (since !== undefined && !History.countsIn(since, stream.epoch)) return []
  const { publications, offset } = stream
  const first = offset - publications.length + 1
  const index = (at: number): number => Math.min(Math.max(at - first, 0), publications.length)
  const from = since === undefined || reverse ? 0 : index(since.offset + 1)
  const to = since === undefined || !reverse ? publications.length : index(since.offset)
  const count = Math.min(limit, to - from)
  const page: Array<Publication> = []
  let bytes = 0
  while (page.length < count) {
    const next = publications[reverse ? to - 1 - page.length : from + page.length] as Publication
    bytes += next.data.length
    if (page.length > 0 && bytes > maxBytes) break
    page.push(next)
  }
  return whole && page.length < to - from ? [] : page
}
