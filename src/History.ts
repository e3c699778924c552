/**
 * Streams of publications: the words for them, and when a part of one is whole.
 *
 * A channel with history has a stream. Its publications have the offsets 1, 2,
 * 3 … without holes; its `epoch` is a random text that is new whenever the
 * stream begins anew, so that an offset of a lost stream is never taken for one
 * of its successor.
 */
import * as Duration from "effect/Duration"
import { randomUUID } from "node:crypto"
import type { Publication } from "./protocol/Publication.ts"

/** A place in a stream: after the publication with this offset; 0 is before the first. */
export interface Position {
  readonly epoch: string
  readonly offset: number
}

/** What a stream keeps. */
export interface Retention {
  /** The newest so many publications. */
  readonly size: number
  /** All of them for so long after the last one. */
  readonly ttl: Duration.Duration
  /** Epoch and offset for so long after the last use. A stream that never had a publication: `EMPTY_TTL` at most. */
  readonly metaTtl: Duration.Duration
}

/** Anybody who may subscribe begins streams by it; so one without a publication does not stay for as long as others. */
const EMPTY_TTL = Duration.hours(1)

/** How long the epoch of a stream without a publication is kept after its last use. */
export const emptyTtl = ({ metaTtl }: Retention): Duration.Duration => Duration.min(metaTtl, EMPTY_TTL)

/** Which publications of a stream to read. */
export interface Range {
  /**
   * After this position (`reverse`: before it). Nothing is read where its epoch
   * is not the stream's; an empty epoch is that of any stream.
   */
  readonly since?: Position
  /** At most so many; 0: only the position. */
  readonly limit: number
  /** At most so many bytes of payload, but one publication at least. */
  readonly maxBytes: number
  /** From the newest to the oldest. */
  readonly reverse?: boolean
  /** None at all where `limit` or `maxBytes` leaves some of them out. */
  readonly whole?: boolean
}

/** What a client asks for: a `limit` below 0 is as many as there may be. */
export interface Asked {
  readonly limit: number
  readonly since?: Position | undefined
  readonly reverse: boolean
}

/** The range that a client asks for, within the bounds that it has. */
export const bounded = ({ limit, reverse, since }: Asked, most: number, maxBytes: number): Range => ({
  limit: limit < 0 ? most : Math.min(limit, most),
  maxBytes,
  reverse,
  ...(since === undefined ? {} : { since })
})

/** Publications of a stream; `epoch` and `offset` are its top at the moment in which they were read. */
export interface Page extends Position {
  readonly publications: ReadonlyArray<Publication>
}

/** An epoch that was never there before: 48 random bits. */
export const newEpoch = (): string => randomUUID().slice(0, 13)

/** Whether a position counts in the stream with this epoch. An empty epoch is that of any stream. */
export const countsIn = (position: Position, epoch: string): boolean =>
  position.epoch === "" || position.epoch === epoch

/** Whether a page is of another stream than the one that was asked for. */
export const isOfAnother = (page: Page, { since }: Asked): boolean =>
  since !== undefined && !countsIn(since, page.epoch)

/**
 * Whether the first `shown` publications of a page are fewer than were asked
 * for and there are. Of a page from the newest to the oldest it is not known
 * whether there are older ones.
 */
export const isCut = ({ offset, publications }: Page, { limit, reverse }: Range, shown: number): boolean => {
  if (shown < publications.length) return true
  const last = publications.at(-1)?.offset
  return reverse !== true && shown < limit && last !== undefined && last < offset
}

/** Whether two positions are the same. */
export const isSame = (one: Position | undefined, other: Position | undefined): boolean =>
  one !== undefined && other !== undefined && one.epoch === other.epoch && one.offset === other.offset

/** Whether publications follow each other, and an offset, without a hole. */
export const isContiguous = (publications: ReadonlyArray<Publication>, after: number): boolean =>
  publications.every((publication, index) => publication.offset === after + index + 1)

/** The longest end of a list of publications that has no hole. */
export const contiguousEnd = (publications: ReadonlyArray<Publication>): ReadonlyArray<Publication> => {
  let first = publications.length - 1
  while (first > 0 && publications[first - 1]?.offset === (publications[first]?.offset ?? 0) - 1) first--
  return publications.slice(Math.max(first, 0))
}
