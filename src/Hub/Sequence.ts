/**
 * The order of one channel with history, as this instance has heard it: passes
 * publications on in the order of their offsets, each once, and holds them back
 * while something before them is missing. What is missing is read from history
 * and filled in here. Pure: it neither reads nor waits.
 */
import * as History from "../History.ts"
import { type Publication, weight } from "../protocol/Publication.ts"

/** Publications held back in a channel, at most; what comes beyond is left out, and read from history like what is missing. */
export const HELD = 256

/** What is held back in all channels together; the same happens at its bound. */
export interface Budget {
  readonly maxBytes: number
  bytes: number
}

/** What can be passed on. */
export interface Filled {
  /** What comes does not follow what was passed on before: it begins anew, and who needs all of it is told. */
  readonly isBroken: boolean
  /** After which position it begins anew; `undefined`: that is not known yet, and nothing can be passed on. */
  readonly from: History.Position | undefined
  readonly publications: ReadonlyArray<Publication>
}

const hasOffset = (publication: Publication): boolean => publication.offset !== undefined

const bytesOf = (publications: ReadonlyArray<Publication>): number =>
  publications.reduce((sum, publication) => sum + weight(publication), 0)

/** The order of one channel. It has no position until it begins, and holds everything back until then. */
export class Sequence {
  readonly #budget: Budget
  /** After what was passed on last. */
  #position: History.Position | undefined
  /** The same, where it has been given up: it does not begin before that. */
  #last: History.Position | undefined
  #isHolding = true
  #held: Array<Publication> = []
  /** How many of them had come when the page that is being read was asked for. */
  #heldBefore = 0
  #isCut = false
  /** Never passed on: gone from history, or never in it. */
  #lost = 0

  constructor(budget: Budget = { maxBytes: Infinity, bytes: 0 }) {
    this.#budget = budget
  }

  get position(): History.Position | undefined {
    return this.#position
  }

  /** Whether something is missing: publications are held back until it is filled. */
  get isHolding(): boolean {
    return this.#isHolding
  }

  /** Whether a stream whose top is this has something that was not passed on. */
  isBehind(top: History.Position): boolean {
    const position = this.#position
    return position === undefined || position.epoch !== top.epoch || position.offset < top.offset
  }

  /** Takes a publication from the broker; returns what can be passed on. */
  offer(publication: Publication): ReadonlyArray<Publication> {
    if (!this.#isHolding) {
      if (this.#follows(publication)) return [publication]
      if (this.#isOld(publication)) return []
    }
    this.#isHolding = true
    if (this.#held.length < HELD && this.#budget.bytes < this.#budget.maxBytes) {
      this.#held.push(publication)
      this.#budget.bytes += weight(publication)
    } else if (hasOffset(publication)) this.#isCut = true
    else this.#lost++
    return []
  }

  /** Begins at the top of the stream, or with what is held of its end, unless it has begun. */
  begin(read: History.Position): Filled | undefined {
    if (this.#position !== undefined) return undefined
    // A page that was read long ago is no reason to pass something on again.
    const last = this.#last
    const top = last?.epoch === read.epoch && last.offset > read.offset ? last : read
    const known = this.#held.filter(
      ({ epoch, offset }) => epoch === top.epoch && offset !== undefined && offset <= top.offset
    )
    return this.#beginAnew(top, endOf(known, top), known.length)
  }

  /** Holds back what comes from now on. To be called before a page is asked for. */
  hold(): void {
    this.#isHolding = true
    this.#isCut = false
    this.#heldBefore = this.#held.length
  }

  /** Takes the page of history after `from`, its position when it was asked for, after `hold`. Holds on if it takes another one. */
  fill(from: History.Position, page: History.Page): Filled {
    // What had come before the page was read is in it, or in the pages after it, or is of an older stream.
    const before = this.#held.slice(0, this.#heldBefore)
    this.#hold([...before.filter((publication) => !hasOffset(publication)), ...this.#held.slice(this.#heldBefore)])
    if (!continues(page, from)) {
      if (page.epoch === from.epoch) {
        const end = History.contiguousEnd(page.publications)
        const first = end[0]?.offset ?? page.offset + 1
        return this.#beginAnew(page, end, end.length + Math.max(0, first - 1 - from.offset))
      }
      const known = before.filter(({ epoch }) => epoch === page.epoch).filter(hasOffset)
      return this.#beginAnew(page, endOf(known, page), known.length)
    }
    return { isBroken: false, from, publications: this.#moveOn(page, page.publications) }
  }

  /** Gives up what is missing, since it cannot be read: it has to begin again. */
  giveUp(): Filled {
    this.#last = this.#position
    this.#position = undefined
    this.#isHolding = true
    return { isBroken: true, from: undefined, publications: [] }
  }

  /** Forgets what is held. To be called at the end. */
  discard(): void {
    this.#hold([])
  }

  /** How many publications are known to be lost since this was asked last. */
  takeLost(): number {
    const lost = this.#lost
    this.#lost = 0
    return lost
  }

  /** Passes on a part of a stream that does not follow what came before, of `known` that there were. */
  #beginAnew(top: History.Position, passed: ReadonlyArray<Publication>, known: number): Filled {
    const from = { epoch: top.epoch, offset: (passed[0]?.offset ?? top.offset + 1) - 1 }
    this.#lost += known - passed.length
    return { isBroken: true, from, publications: this.#moveOn(top, passed) }
  }

  /** Moves on over publications of a page, and over what is held once that was the last page. */
  #moveOn(top: History.Position, publications: ReadonlyArray<Publication>): ReadonlyArray<Publication> {
    const offset = publications.at(-1)?.offset ?? top.offset
    this.#position = { epoch: top.epoch, offset }
    return offset === top.offset ? [...publications, ...this.#release()] : publications
  }

  #hold(publications: Array<Publication>): void {
    this.#budget.bytes += bytesOf(publications) - bytesOf(this.#held)
    this.#held = publications
    this.#heldBefore = 0
  }

  /** What is held, as far as it follows without a hole. */
  #release(): ReadonlyArray<Publication> {
    const held = this.#held
    this.#hold([])
    this.#isHolding = false
    const released = held.flatMap((publication) => this.offer(publication))
    this.#isHolding ||= this.#isCut
    return released
  }

  /** Whether it comes next; if so, the position moves on. One without an offset is next whenever it comes. */
  #follows({ epoch, offset }: Publication): boolean {
    if (epoch === undefined || offset === undefined) return true
    const position = this.#position
    if (position?.epoch !== epoch || position.offset + 1 !== offset) return false
    this.#position = { epoch, offset }
    return true
  }

  /** Whether it was passed on before. */
  #isOld({ epoch, offset }: Publication): boolean {
    const position = this.#position
    return position !== undefined && position.epoch === epoch && offset !== undefined && offset <= position.offset
  }
}

/** The end of a stream as far as it is known without a hole; nothing where its very end is not. */
const endOf = (known: ReadonlyArray<Publication>, top: History.Position): ReadonlyArray<Publication> => {
  const end = History.contiguousEnd(known)
  return end.at(-1)?.offset === top.offset ? end : []
}

/** Whether a page holds what comes after a position, without a hole: all of it, or a first part. */
const continues = (page: History.Page, from: History.Position): boolean =>
  page.epoch === from.epoch &&
  page.offset >= from.offset &&
  (page.publications.length > 0 || page.offset === from.offset) &&
  History.isContiguous(page.publications, from.offset)
