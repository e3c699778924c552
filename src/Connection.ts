/**
 * The connection: an actor. One resident fiber, one mailbox, one scope.
 *
 * Inward, frames are decoded where they arrive and become tasks in the inbox; at
 * its bound the socket is paused. Tasks are taken only while the mailbox is below
 * its bound; what runs ends with the connection.
 *
 * Outward, frames wait in the mailbox. The hub has them written without waking
 * the fiber; only when the socket pushes back does the fiber write the rest, once
 * it has drained.
 *
 * Whatever ends first ends the whole: the peer, a failed write, a slow reader, a
 * refusal, the shutdown. Then the fiber lets commands finish where that makes
 * sense, leaves the hub, writes what is queued, closes the socket, and
 * terminates it if the peer does not answer.
 */
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import { constVoid } from "effect/Function"
import * as HashMap from "effect/HashMap"
import { setImmediate } from "node:timers"
import type * as Frame from "./Frame.ts"
import type * as Hub from "./Hub.ts"
import { Inbox, type Owner } from "./Inbox.ts"
import { atMost } from "./internal/time.ts"
import { Liveness } from "./Liveness.ts"
import type * as Metrics from "./Metrics.ts"
import type { Outbound, WritableSocket } from "./Outbound.ts"
import * as Codes from "./protocol/Codes.ts"
import type * as ServerConfig from "./ServerConfig.ts"
import type { Outlet, Session, Task } from "./Session.ts"

/** A WebSocket as the connection uses it. Nothing here throws or waits. */
export interface Socket extends WritableSocket {
  /** Sends a ping frame. */
  readonly ping: () => void
  /** Begins the closing handshake, behind what was written. */
  readonly close: (disconnect: Codes.Disconnect) => void
  /** Destroys it. */
  readonly terminate: () => void
  /** Stops and resumes reading. */
  readonly pause: () => void
  readonly resume: () => void
}

/** Lines of what one client sent that are decoded in one turn of the event loop: a message may have 100,000, and others wait meanwhile. */
const LINES = 64

/** How long the peer has to answer a close frame. */
const CLOSE_TIMEOUT = Duration.seconds(5)
/** How long commands received before the end of a connection may take to finish. */
const SETTLE_TIMEOUT = Duration.seconds(5)

/** One client. Its methods are synchronous and may be called from socket callbacks. */
export class Connection implements Outlet, Owner {
  readonly id: string
  readonly encoding: Hub.Encoding
  readonly #metrics: Context.Tag.Service<Metrics.Metrics>
  readonly #config: ServerConfig.Config["client"]
  readonly #outbound: Outbound
  readonly #fork: Owner["fork"]
  #session: Session | undefined
  #socket: Socket | undefined

  // Inward.
  readonly #inbox: Inbox
  #paused = false
  /** Whether what was put back is being decoded, or will be in the next turn. */
  #isResuming = false
  #lines = 0
  /** What came and is not decoded yet, in the order received: the rest of one message, and what the same read held behind it. */
  #unread: Array<string> | undefined

  readonly #liveness: Liveness

  // The end.
  #ended: Codes.Disconnect | undefined
  #detail: string | undefined
  #about: string | undefined
  #closed = false
  #left = false
  #finished = false

  // The resident fiber: what resumes it where it is parked, or that it must not park.
  #wake: ((effect: Effect.Effect<void>) => void) | undefined
  #awake = false

  constructor(
    id: string,
    encoding: Hub.Encoding,
    outbound: Outbound,
    metrics: Context.Tag.Service<Metrics.Metrics>,
    { client: config, websocket }: Pick<ServerConfig.Config, "client" | "websocket">,
    fork: Owner["fork"]
  ) {
    this.#fork = fork
    this.#inbox = new Inbox(this, websocket.message_size_limit)
    this.id = id
    this.encoding = encoding
    this.#outbound = outbound
    this.#metrics = metrics
    this.#config = config
    this.#liveness = new Liveness(config)
  }

  // ── Outward ──────────────────────────────────────────────────────────────

  deliver(frame: Frame.Frame, isPositioned: boolean): boolean {
    const isTaken = this.#outbound.deliver(frame, isPositioned)
    if (!isTaken && this.#config.overflow === "disconnect") this.end(Codes.slow, "mailbox full")
    return isTaken
  }

  send(text: string): void {
    this.#outbound.send(text)
  }

  /** How much waits for the socket, and whether it takes no more at present. */
  get backlog(): Outbound["backlog"] {
    return this.#outbound.backlog
  }

  // ── What the transport tells ─────────────────────────────────────────────

  /** The socket took everything that was written to it. */
  drained(): void {
    if (!this.#outbound.drained()) return
    this.#liveness.drained()
    this.#notify()
  }

  /** A text frame came. */
  received(text: string): void {
    this.#metrics.framesReceived.add()
    if (this.#ended !== undefined || this.#session === undefined) return
    if (this.#unread !== undefined) return void this.#unread.push(text)
    this.#lines = 0
    this.#decode(this.#session, text)
  }

  #decode(session: Session, text: string): void {
    // A throw here would be an uncaught exception of the process; it costs this connection instead.
    const answered = Either.try(() => session.receive(text))
    if (Either.isLeft(answered)) this.end(Codes.serverError, String(answered.left))
    else if (answered.right) this.ponged()
  }

  /** The peer answered a ping. */
  ponged(): void {
    this.#liveness.answered()
  }

  /** The socket is gone. `code` is the peer's. */
  gone(code: number): void {
    this.#closed = true
    this.#session?.gone()
    this.#ended ??= { code, reason: "" }
    this.#outbound.stop()
    this.#notify()
  }

  // ── What the session says ────────────────────────────────────────────────

  submit(task: Task): void {
    this.#put(task)
    this.#take()
  }

  submitLater(task: Task): void {
    this.#put(task)
    this.#notify()
  }

  mayReadOn(): boolean {
    return ++this.#lines <= LINES && !this.#inbox.isFull
  }

  putBack(rest: string): void {
    if (this.#inbox.isStopped) return
    ;(this.#unread ??= []).unshift(rest)
    if (!this.#paused) {
      this.#paused = true
      this.#socket?.pause()
    }
    if (!this.#isResuming && !this.#inbox.isFull) this.#readOnLater()
  }

  /** Others have their turn first. */
  #readOnLater(): void {
    this.#isResuming = true
    setImmediate(() => {
      this.#isResuming = false
      this.changed()
    })
  }

  #put(task: Task): void {
    this.#inbox.push(task)
    if (!this.#inbox.isFull || this.#paused) return
    this.#paused = true
    this.#metrics.pauses.connection.add()
    this.#socket?.pause()
  }

  end(disconnect: Codes.Disconnect, detail?: string, channel?: string): void {
    if (this.#ended !== undefined) return
    this.#metrics.disconnects(disconnect.code).add()
    this.#ended = disconnect
    this.#detail = detail
    this.#about = channel
    this.#outbound.stop()
    this.#unread = undefined
    this.#inbox.close()
    this.#notify()
  }

  isBusy(): boolean {
    return this.#inbox.isFull
  }

  /** No command is taken any more; those that run go on. */
  stop(): void {
    this.#inbox.stop()
    this.#unread = undefined
  }

  /** Whether no command is running that may still be answered. */
  get settled(): boolean {
    return this.#ended !== undefined || this.#inbox.isIdle
  }

  // ── Liveness: called for every connection by one sweep ───────────────────

  /** Looks at every deadline of the connection. Both are in milliseconds: of the monotonic clock, and of the wall clock. */
  sweep(now: number, wallNow: number): void {
    const session = this.#session
    if (this.#ended !== undefined || session === undefined) return
    const overdue = session.overdue()
    const late = this.#liveness.late(now, this.#outbound.isBlocked, overdue)
    if (late !== undefined) return this.end(late.disconnect, late.detail)
    if (overdue !== undefined) return
    session.sweep(wallNow)
    if (this.#ended !== undefined) return
    const beat = this.#liveness.beat(now, this.#paused, this.#outbound.isBlocked)
    if (typeof beat === "object") return this.end(beat.disconnect, beat.detail)
    if (!beat) return
    if (session.pingText === undefined) this.#socket?.ping()
    else this.send(session.pingText)
  }

  // ── The resident fiber ───────────────────────────────────────────────────

  #notify(): void {
    const wake = this.#wake
    if (wake === undefined) {
      this.#awake = true
      return
    }
    this.#wake = undefined
    wake(Effect.void)
  }

  /** A task of the inbox is done. */
  changed(): void {
    this.#take()
    if (this.#ended !== undefined) this.#notify()
  }

  fork(effect: Effect.Effect<void>): Fiber.RuntimeFiber<void> {
    return this.#fork(Effect.annotateLogs(Effect.interruptible(effect), "client", this.id))
  }

  broken(defect: unknown): void {
    this.end(Codes.serverError, String(defect))
  }

  /**
   * Has the fiber, and all that come from it, log the client from now on: it has
   * something to say in the end only, and one that is started with an annotation
   * has its fiber references copied once more (1.8 KB of garbage).
   */
  get #named(): Effect.Effect<void> {
    return FiberRef.update(FiberRef.currentLogAnnotations, HashMap.set("client", this.id as unknown))
  }

  /** Parks until something has happened. Who interrupts it has to forget `#wake`, and to look again. */
  get #park(): Effect.Effect<void> {
    return Effect.async<void>((resume) => {
      if (this.#awake) {
        this.#awake = false
        resume(Effect.void)
      } else {
        this.#wake = resume
      }
    })
  }

  /** Parks until `done`, at most for `limit`; returns whether it was reached. */
  #parkUntil(done: () => boolean, limit: Duration.Duration): Effect.Effect<boolean> {
    return Effect.suspend(() => (done() ? Effect.void : this.#park)).pipe(
      Effect.repeat({ until: done }),
      atMost(limit),
      Effect.map(() => {
        this.#wake = undefined
        return done()
      })
    )
  }

  /** Whether all that came is carried out. */
  get #isDone(): boolean {
    return this.#inbox.isIdle && this.#unread === undefined
  }

  /** Starts tasks while the mailbox is below its bound, and reads again once the inbox has room. */
  #take(): void {
    if (this.#session === undefined) return
    this.#inbox.take(() => this.#closed || this.#outbound.makeRoom())
    if (!this.#paused || this.#isResuming || !this.#inbox.hasRoom) return
    if (!this.#readOn(this.#session)) return
    this.#paused = false
    this.#socket?.resume()
  }

  /** Decodes what has been put back, while the inbox has room, and as much as one turn may; returns whether all of it is. */
  #readOn(session: Session): boolean {
    if (this.#inbox.isStopped) this.#unread = undefined
    this.#isResuming = true
    this.#lines = 0
    while (this.#unread !== undefined && this.mayReadOn()) {
      const text = this.#unread.shift()
      if (text === undefined) this.#unread = undefined
      else this.#decode(session, text)
    }
    this.#isResuming = false
    if (this.#inbox.isFull) return false
    if (this.#unread !== undefined) this.#readOnLater()
    return this.#unread === undefined
  }

  /**
   * Serves the socket from `now`, in milliseconds of the monotonic clock, until it is closed. Never
   * fails; once interrupted, it has to be followed by `abort`. While nothing
   * happens it is a loop that is parked, and nothing else: what stands around it
   * is kept for each connection (a generator and what it closes over, 1.5 KB).
   */
  run(socket: Socket, session: Session, now: number): Effect.Effect<void> {
    this.#socket = socket
    this.#outbound.open(socket)
    this.#session = session
    this.#liveness.begin(now)
    return Effect.whileLoop({
      while: () => !this.#finished,
      body: () => {
        if (this.#ended !== undefined) {
          this.#finished = true
          return Effect.zipRight(this.#named, this.#finish(socket, session, this.#ended))
        }
        this.#outbound.flush()
        this.#take()
        return this.#park
      },
      step: constVoid
    })
  }

  /** The end of one that was interrupted: the socket is terminated at once, and the hub left. */
  abort(socket: Socket, session: Session): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.#wake = undefined
      socket.terminate()
      this.#outbound.stop()
      this.#outbound.discard()
      const left = Effect.zipRight(this.#inbox.discard, this.#leave(session, this.#ended ?? Codes.serverError))
      return Effect.zipRight(this.#named, left)
    })
  }

  /** Leaves the hub and tells the hooks, once. */
  #leave(session: Session, disconnect: Codes.Disconnect): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.#left) return Effect.void
      this.#left = true
      return session.close(disconnect)
    })
  }

  #finish(socket: Socket, session: Session, disconnect: Codes.Disconnect): Effect.Effect<void> {
    return Effect.gen(this, function* () {
      if (this.#closed) {
        this.#take()
        if (!this.#isDone) yield* this.#settle
      } else {
        const why = this.#detail === undefined ? "" : `: ${this.#detail}`
        const channel = this.#about ?? session.channel
        const told = Effect.logInfo(`disconnecting with ${disconnect.code} ${disconnect.reason}${why}`)
        yield* channel === undefined ? told : Effect.annotateLogs(told, "channel", channel)
      }
      yield* this.#inbox.discard
      yield* this.#leave(session, disconnect)
      if (!this.#closed && disconnect !== Codes.slow) yield* this.#empty
      this.#outbound.discard()
      if (this.#closed) return
      socket.resume()
      socket.close(Codes.forCloseFrame(disconnect))
      const patience = disconnect === Codes.slow ? this.#config.write_timeout : CLOSE_TIMEOUT
      if (yield* this.#parkUntil(() => this.#closed, patience)) return
      socket.terminate()
      yield* this.#parkUntil(() => this.#closed, CLOSE_TIMEOUT)
    })
  }

  /** Carries out what the peer sent before it left. */
  get #settle(): Effect.Effect<void> {
    return Effect.gen(this, function* () {
      for (;;) {
        this.#take()
        if (this.#isDone) return
        yield* this.#park
      }
    }).pipe(
      atMost(SETTLE_TIMEOUT),
      Effect.map(() => {
        this.#wake = undefined
      })
    )
  }

  /** Writes what is in the mailbox, as fast as the socket takes it. */
  get #empty(): Effect.Effect<boolean> {
    const emptied = (): boolean => {
      this.#outbound.flush()
      return this.#closed || this.#outbound.isEmpty || this.#socket?.isOpen() === false
    }
    return this.#parkUntil(emptied, this.#config.write_timeout)
  }
}
