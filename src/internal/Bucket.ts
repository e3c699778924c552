/**
 * A token bucket: so much at once, and so much a second in the long run
 * (https://en.wikipedia.org/wiki/Token_bucket). What is taken beyond that is
 * remembered, at most as far as the bucket is deep.
 */
export class Bucket {
  readonly #capacity: number
  readonly #perMilli: number
  #tokens: number
  #filledAt: number | undefined

  /** A full bucket. `capacity`: most that can be taken at once; `perSecond`: how fast it fills again. */
  constructor(capacity: number, perSecond: number) {
    this.#capacity = capacity
    this.#perMilli = perSecond / 1000
    this.#tokens = capacity
  }

  /** Takes one at a time in milliseconds of the monotonic clock; returns what is left, below 0 where it was too much. */
  take(now: number): number {
    const passed = Math.max(0, now - (this.#filledAt ?? now))
    this.#filledAt = now
    this.#tokens = Math.min(this.#capacity, this.#tokens + passed * this.#perMilli)
    this.#tokens = Math.max(-this.#capacity, this.#tokens - 1)
    return this.#tokens
  }
}
