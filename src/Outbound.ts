/**
 * The way outward of a connection. Frames wait in the mailbox; at the end of the
 * turn of the event loop, or a moment later, the hub has them written, in one
 * write. Once the socket pushes back they wait until it has drained.
 */
import type * as Context from "effect/Context"
import { Buffer } from "node:buffer"
import * as Frame from "./Frame.ts"
import * as Hub from "./Hub.ts"
import type * as Mailbox from "./Mailbox.ts"
import type * as Metrics from "./Metrics.ts"

/** A socket as it is written to. Nothing here throws or waits. */
export interface WritableSocket {
  /** Writes whole frames. `false`: not all of it was taken; wait for `drained`. */
  readonly write: (bytes: Buffer) => boolean
  /** Whether frames may be written: no close frame has been sent or received. */
  readonly isOpen: () => boolean
}

/** Bytes in one write, or those of a single frame: a reader that takes no more in `client.write_timeout` is slow. */
const WRITE_BYTES = 64 * 1024

/** What stands between the hub, the session and the socket of one connection. Nothing here throws or waits. */
export class Outbound implements Hub.Writer {
  readonly #mailbox: Mailbox.Mailbox
  readonly #hub: Context.Tag.Service<Hub.Hub>
  readonly #metrics: Context.Tag.Service<Metrics.Metrics>
  #socket: WritableSocket | undefined
  #takesMore = true
  #isTouched = false
  #isBlocked = false
  // What it was given in this turn of the event loop.
  #givenBytes = 0
  #givenFrames = 0

  constructor(
    mailbox: Mailbox.Mailbox,
    hub: Context.Tag.Service<Hub.Hub>,
    metrics: Context.Tag.Service<Metrics.Metrics>
  ) {
    this.#mailbox = mailbox
    this.#hub = hub
    this.#metrics = metrics
  }

  /** From now on frames are written to this socket. */
  open(socket: WritableSocket): void {
    this.#socket = socket
  }

  /** Nothing is taken from now on; what waits may still be written. */
  stop(): void {
    this.#takesMore = false
  }

  /** Queues publications; `false`: some were dropped, since the mailbox is full. */
  deliver(frame: Frame.Frame, isPositioned: boolean): boolean {
    const count = Frame.count(frame)
    if (!this.#takesMore || this.#socket?.isOpen() === false) {
      this.#metrics.dropped.connection_closed.add(count)
      return true
    }
    const kind = isPositioned ? "kept" : "lossy"
    // While the socket takes what is written, the mailbox is emptied instead of overflowing.
    let rest = frame
    while (this.#mailbox.room(rest) < Frame.count(rest) && this.#socket?.isOpen() === true && !this.#isBlocked) {
      const fit = this.#mailbox.room(rest)
      if (fit > 0) this.#mailbox.offer(Frame.slice(rest, 0, fit), kind)
      rest = Frame.slice(rest, fit, Frame.count(rest))
      this.#write()
    }
    const dropped = this.#mailbox.offer(rest, kind)
    // Older ones may have made room for it, and they were counted: more than it has itself.
    const queued = Math.max(0, count - dropped)
    this.#metrics.deliveries.add(queued)
    if (dropped > 0) this.#metrics.dropped.mailbox_full.add(dropped)
    // What was dropped does not count: one that is stuck would make the turns of all others short.
    if (dropped === 0) this.#givenBytes += frame.bytes.length
    this.#givenFrames += queued
    if (this.#givenBytes >= Hub.ENOUGH_BYTES || this.#givenFrames >= Hub.ENOUGH_PUBLICATIONS) this.#hub.giveBack()
    this.#touch()
    return dropped === 0
  }

  /** Queues a reply or a control push: never dropped. */
  send(text: string): void {
    if (!this.#takesMore) return
    this.#mailbox.offerControl(Frame.text(text))
    this.#touch()
  }

  /** Writes what is queued, as far as the socket takes it. */
  flush(): void {
    this.#isTouched = false
    this.#givenBytes = 0
    this.#givenFrames = 0
    this.#write()
  }

  #write(): void {
    const socket = this.#socket
    if (socket === undefined) return
    while (!this.#isBlocked && socket.isOpen() && !this.#mailbox.isEmpty) {
      const frames = this.#mailbox.take(WRITE_BYTES)
      const first = frames[0]
      const bytes =
        frames.length === 1 && first !== undefined ? first.bytes : Buffer.concat(frames.map((frame) => frame.bytes))
      this.#isBlocked = !socket.write(bytes)
    }
  }

  // One that is blocked too: what it was given counts for one turn.
  #touch(): void {
    if (this.#isTouched) return
    this.#isTouched = true
    this.#hub.touch(this)
  }

  /** The socket took everything that was written to it; returns whether that is news. */
  drained(): boolean {
    const wasBlocked = this.#isBlocked
    this.#isBlocked = false
    return wasBlocked
  }

  /** Whether the socket takes no more at present. */
  get isBlocked(): boolean {
    return this.#isBlocked
  }

  get isEmpty(): boolean {
    return this.#mailbox.isEmpty
  }

  /** Writes what can be written where the mailbox is at its bound; returns whether it is below it. */
  makeRoom(): boolean {
    if (this.#mailbox.full) this.flush()
    return !this.#mailbox.full
  }

  /** How much waits for the socket, and whether it takes no more at present. */
  get backlog(): { readonly frames: number; readonly bytes: number; readonly isBlocked: boolean } {
    return { frames: this.#mailbox.frames, bytes: this.#mailbox.bytes, isBlocked: this.#isBlocked }
  }

  /** Drops what waits. */
  discard(): void {
    this.#metrics.dropped.connection_closed.add(this.#mailbox.discard())
  }
}
