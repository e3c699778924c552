/** One direction of a proxied connection: bytes pass in order, late, slowly or not at all, as it is told. */
import type { Socket } from "node:net"

/** How bytes pass. */
export interface Behaviour {
  /** Nothing passes; what comes waits, and its sender with it once the buffers are full. */
  readonly isSilent?: boolean
  /** How much later each byte passes, in milliseconds. */
  readonly delay?: number
  /** Bytes a second. */
  readonly rate?: number
}

/** Bytes that wait here before the sender is not read from any more. */
const BOUND = 256 * 1024

/** Milliseconds between two parts of what passes slowly. */
const STEP = 20

const now = (): number => performance.now()

/** The sender has said that it has ended, or has only vanished. */
const ENDED = "ended"
const BROKEN = "broken"

interface Part {
  what: Buffer | typeof ENDED | typeof BROKEN
  readonly due: number
}

export class Pipe {
  readonly #from: Socket
  readonly #to: Socket
  #behaviour: Behaviour
  #parts: Array<Part> = []
  #waiting = 0
  #passed = 0
  /** When the next part of what passes slowly is due. */
  #free = 0
  #isBlocked = false
  #timer: NodeJS.Timeout | undefined

  constructor(from: Socket, to: Socket, behaviour: Behaviour) {
    this.#from = from
    this.#to = to
    this.#behaviour = behaviour
    from.on("data", (bytes: Buffer) => this.#take(bytes))
    from.on("end", () => this.#take(ENDED))
    to.on("drain", () => {
      this.#isBlocked = false
      this.#pass()
    })
    if (behaviour.isSilent === true) from.pause()
  }

  /** Bytes that have passed. */
  get passed(): number {
    return this.#passed
  }

  get behaviour(): Behaviour {
    return this.#behaviour
  }

  set behaviour(behaviour: Behaviour) {
    this.#behaviour = behaviour
    this.#free = 0
    this.#pass()
  }

  /** Its sender is gone without a goodbye: so its receiver is cut off, once that may pass. */
  broken(): void {
    if (this.#behaviour.isSilent !== true) this.#parts = []
    this.#take(BROKEN)
  }

  /** Nothing passes from now on, and nothing that waits. */
  discard(): void {
    clearTimeout(this.#timer)
    this.#parts = []
    this.#waiting = 0
    this.#behaviour = { isSilent: true }
  }

  #take(what: Part["what"]): void {
    this.#parts.push({ what, due: now() + (this.#behaviour.delay ?? 0) })
    if (typeof what === "object") this.#waiting += what.length
    this.#pass()
  }

  #pass(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    while (!this.#isBlocked && this.#behaviour.isSilent !== true) {
      const part = this.#parts[0]
      if (part === undefined) break
      const due = Math.max(part.due, this.#free)
      const wait = due - now()
      if (wait > 0) {
        this.#timer = setTimeout(() => this.#pass(), Math.ceil(wait))
        break
      }
      this.#send(part)
    }
    const isFull = this.#waiting >= BOUND || this.#behaviour.isSilent === true
    if (isFull) this.#from.pause()
    else this.#from.resume()
  }

  /** Sends a part, or as much of it as may pass in a step. */
  #send(part: Part): void {
    const { what } = part
    if (typeof what === "object") return this.#sendBytes(part, what)
    this.#parts.shift()
    if (what === ENDED) this.#to.end()
    else this.#to.destroy()
  }

  #sendBytes(part: Part, all: Buffer): void {
    const { rate } = this.#behaviour
    const most = rate === undefined ? Infinity : Math.max(1, Math.floor((rate * STEP) / 1000))
    const bytes = all.length <= most ? all : all.subarray(0, most)
    if (bytes === all) this.#parts.shift()
    else part.what = all.subarray(most)
    if (rate !== undefined) this.#free = now() + (bytes.length / rate) * 1000
    this.#waiting -= bytes.length
    this.#passed += bytes.length
    this.#isBlocked = !this.#to.write(bytes)
  }
}
