/** Which publication is where in which stream, as anybody has seen it. */
import type { Position, Violation } from "./history.ts"

/** Of one channel. */
export class Positions {
  readonly #channel: string
  readonly #byPosition = new Map<string, Map<number, string>>()
  readonly #byId = new Map<string, Map<string, number>>()
  readonly violations: Array<Violation> = []

  constructor(channel: string) {
    this.#channel = channel
  }

  /** The epochs in which a publication has a place, and its offsets there. */
  of(id: string): ReadonlyMap<string, number> {
    return this.#byId.get(id) ?? new Map()
  }

  /** Somebody has seen a publication at a position. */
  see(id: string, { epoch, offset }: Position, by: string, at: number): void {
    const stream = this.#byPosition.get(epoch) ?? new Map<number, string>()
    this.#byPosition.set(epoch, stream)
    const offsets = this.#byId.get(id) ?? new Map<string, number>()
    this.#byId.set(id, offsets)
    const other = stream.get(offset)
    const elsewhere = offsets.get(epoch)
    if (other !== undefined && other !== id) {
      this.#violation(at, `${by} has ${id} at ${offset} of ${epoch}, where others have ${other}`)
    } else if (elsewhere !== undefined && elsewhere !== offset) {
      this.#violation(at, `${by} has ${id} at ${offset} of ${epoch}, others have it at ${elsewhere}`)
    } else {
      stream.set(offset, id)
      offsets.set(epoch, offset)
    }
  }

  #violation(at: number, message: string): void {
    this.violations.push({ kind: "position", channel: this.#channel, at, message })
  }
}
