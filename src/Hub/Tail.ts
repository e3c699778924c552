/**
 * The end of what the subscriptions of a channel have got, as far as this
 * instance remembers it. While somebody joins it is needed: the history that
 * they read may end before it. What they have read is remembered with it for a
 * moment, so that those who come back together read a stream once.
 */
import type * as History from "../History.ts"
import { type Publication, weight } from "../protocol/Publication.ts"
import type { Budget } from "./Sequence.ts"

/** Of what is remembered without need in all channels together. */
export interface MemoryBudget extends Budget {
  /** What a publication counts for beside its text. */
  readonly each: number
}

/** The most that is remembered of a channel. */
export interface TailLimit {
  readonly publications: number
  readonly bytes: number
}

/** Publications with offsets that follow each other, up to the one that was delivered last. */
export class Tail {
  readonly #limit: TailLimit
  readonly #budget: MemoryBudget
  #publications: Array<Publication> = []
  #bytes = 0
  /** Whether it has its part of the budget, which is as much as it holds. */
  #isCounted = false
  /** The last answer, which all get who ask for the same. */
  #after: { readonly offset: number; readonly publications: ReadonlyArray<Publication> } | undefined

  constructor(limit: TailLimit, budget: MemoryBudget) {
    this.#limit = limit
    this.#budget = budget
  }

  /** After which offset it is whole, in a channel that has got to `delivered`. */
  start(delivered: History.Position): number {
    return (this.#publications[0]?.offset ?? delivered.offset + 1) - 1
  }

  /** What comes after an offset that is not before its start: one list for all who ask for the same, one after the other. */
  after(offset: number): ReadonlyArray<Publication> {
    if (this.#after?.offset !== offset) this.#after = { offset, publications: this.copyAfter(offset) }
    return this.#after.publications
  }

  /** The same, as a list of one's own. */
  copyAfter(offset: number): ReadonlyArray<Publication> {
    return this.#publications.filter((one) => (one.offset ?? 0) > offset)
  }

  /** Appends what was delivered; the oldest go where it is too much. */
  push(publication: Publication): void {
    const before = this.#cost
    this.#after = undefined
    this.#publications.push(publication)
    this.#bytes += weight(publication)
    while (this.#publications.length > this.#limit.publications || this.#bytes > this.#limit.bytes) {
      const first = this.#publications.shift()
      this.#bytes -= first === undefined ? 0 : weight(first)
    }
    if (this.#isCounted) this.#budget.bytes += this.#cost - before
  }

  /** Remembers these instead, which end where it does; `false`: nothing is changed, since there is no room for them. */
  replace(publications: ReadonlyArray<Publication>): boolean {
    const bytes = publications.reduce((sum, one) => sum + weight(one), 0)
    if (publications.length > this.#limit.publications || bytes > this.#limit.bytes) return false
    if (!this.#count(bytes + this.#budget.each * publications.length)) return false
    this.#after = undefined
    this.#publications = Array.from(publications)
    this.#bytes = bytes
    return true
  }

  /** Remembers what it has, as `replace` does. */
  keep(): boolean {
    return this.#count(this.#cost)
  }

  /** Whether more is remembered than the budget has room for. */
  get isTooMuch(): boolean {
    return this.#isCounted && this.#budget.bytes > this.#budget.maxBytes
  }

  clear(): void {
    if (this.#isCounted) this.#budget.bytes -= this.#cost
    this.#isCounted = false
    this.#after = undefined
    this.#publications = []
    this.#bytes = 0
  }

  /** What it counts for. */
  get #cost(): number {
    return this.#bytes + this.#budget.each * this.#publications.length
  }

  /** Takes so much of the budget in place of what it has of it, if there is room. */
  #count(bytes: number): boolean {
    const others = this.#budget.bytes - (this.#isCounted ? this.#cost : 0)
    if (others + bytes > this.#budget.maxBytes) return false
    this.#budget.bytes = others + bytes
    this.#isCounted = true
    return true
  }
}
