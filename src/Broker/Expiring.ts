/** A bounded map whose entries are forgotten after one and the same time. `now` is in milliseconds of the monotonic clock. */
export class Expiring<A> {
  /** In the order in which they expire. */
  readonly #entries = new Map<string, { readonly value: A; readonly expiresAt: number }>()
  readonly #ttl: number
  readonly #capacity: number

  /** Beyond `capacity` the oldest entry goes. */
  constructor(ttl: number, capacity: number) {
    this.#ttl = ttl
    this.#capacity = capacity
  }

  get(now: number, key: string): A | undefined {
    const entry = this.#entries.get(key)
    return entry === undefined || entry.expiresAt <= now ? undefined : entry.value
  }

  set(now: number, key: string, value: A): void {
    this.#entries.delete(key)
    this.#entries.set(key, { value, expiresAt: now + this.#ttl })
    for (const [oldest, { expiresAt }] of this.#entries) {
      if (expiresAt > now && this.#entries.size <= this.#capacity) break
      this.#entries.delete(oldest)
    }
  }
}
