/**
 * The inbox of a connection: what its client has asked for and is not done yet.
 *
 * Tasks are taken in the order received. Those of one lane run one after
 * another (but for pipelined ones, which only start so), lanes side by side, an exclusive task alone, heavy ones `HEAVY` at a
 * time, so that their replies are bounded. Owner: the connection, which ends
 * what runs when it ends. Capacity: `WAITING` tasks, then the connection stops
 * reading (so that it may be passed by what one read of 64 KiB held); at most
 * `IN_FLIGHT` are taken at a time.
 *
 * A task starts in the step in which it may, without a fiber where it can be
 * done so, or in one of its own: no other fiber has to wake up for it.
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import type { Task } from "./Session.ts"

/** Tasks that wait before the connection stops reading. */
const WAITING = 64
/** Tasks that are taken and not done, at most. */
const IN_FLIGHT = 32
/** Heavy tasks among them, at most. */
const HEAVY = 4

/** Whose inbox it is. */
export interface Owner {
  /** Starts a fiber at once. */
  readonly fork: (effect: Effect.Effect<void>) => Fiber.RuntimeFiber<void>
  /** A task is done. */
  readonly changed: () => void
  /** A task has thrown where it must not. */
  readonly broken: (defect: unknown) => void
}

/** A task that has started, in its place among those of its lane. */
interface Started {
  /** What it has to do once all before it are done. */
  resume: (() => void) | undefined
}

interface Lane {
  /** Tasks that are taken and have not started. */
  readonly waiting: Array<Task>
  /** Those that have and are not done, in the order in which they did. */
  readonly started: Array<Started>
  /** Whether the one that has started last lets another one start. */
  isFree: boolean
}

/** Tasks of one client. What a client that asks for nothing does not need is made when it asks, and then forgotten. */
export class Inbox {
  #waiting: Array<Task> = []
  #inFlight = 0
  #heavy = 0
  #exclusive = false
  #stopped = false
  #closed = false
  /** Those in which there are tasks. */
  #lanes: Map<string, Lane> | undefined
  /** Tasks that may start: they do so one after another, not within each other. */
  #due: Array<() => void> | undefined
  #running: Set<Fiber.RuntimeFiber<void>> | undefined
  readonly #owner: Owner

  constructor(owner: Owner) {
    this.#owner = owner
  }

  push(task: Task): void {
    this.#waiting.push(task)
  }

  /** Whether the connection should stop reading. */
  get isFull(): boolean {
    return this.#waiting.length >= WAITING
  }

  /** Whether it may read again. */
  get hasRoom(): boolean {
    return this.#waiting.length <= WAITING / 2
  }

  /** Whether no task is taken and not done. */
  get isIdle(): boolean {
    return this.#inFlight === 0
  }

  /** No task is taken any more; those that run go on. */
  stop(): void {
    this.#stopped = true
  }

  /** Takes tasks while the bounds and `mayTake` permit it. */
  take(mayTake: () => boolean): void {
    while (this.#isNextDue() && mayTake()) {
      const task = this.#waiting.shift() as Task
      // An array keeps the room that it once had.
      if (this.#waiting.length === 0) this.#waiting = []
      this.#inFlight++
      this.#exclusive = task.exclusive
      if (task.isHeavy) this.#heavy++
      const lanes = (this.#lanes ??= new Map())
      const lane = lanes.get(task.lane) ?? { waiting: [], started: [], isFree: true }
      lanes.set(task.lane, lane)
      lane.waiting.push(task)
      this.#advance(task.lane, lane)
    }
  }

  /** Forgets what has not started; what has is not told of. */
  close(): void {
    this.#stopped = true
    this.#closed = true
    this.#waiting = []
    for (const { waiting } of this.#lanes?.values() ?? []) {
      this.#inFlight -= waiting.length
      waiting.length = 0
    }
  }

  /** Closes it, and interrupts what runs. */
  get discard(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.close()
      return Fiber.interruptAll([...(this.#running ?? [])])
    })
  }

  #isNextDue(): boolean {
    const next = this.#waiting[0]
    if (next === undefined || this.#stopped || this.#exclusive || this.#inFlight >= IN_FLIGHT) return false
    if (next.isHeavy && this.#heavy >= HEAVY) return false
    return !next.exclusive || this.#inFlight === 0
  }

  /** Starts what may start in a lane. */
  #advance(name: string, lane: Lane): void {
    for (;;) {
      const next = lane.waiting[0]
      if (next === undefined || !lane.isFree || (lane.started.length > 0 && next.isPipelined !== true)) break
      lane.waiting.shift()
      lane.isFree = false
      const started: Started = { resume: undefined }
      lane.started.push(started)
      this.#start(() => this.#run(next, lane, started))
    }
    if (lane.started.length > 0 || lane.waiting.length > 0 || this.#lanes?.get(name) !== lane) return
    this.#lanes.delete(name)
    if (this.#lanes.size === 0) this.#lanes = undefined
  }

  #start(run: () => void): void {
    if (this.#due !== undefined) {
      this.#due.push(run)
      return
    }
    const due = (this.#due = [run])
    for (let next = due.shift(); next !== undefined; next = due.shift()) next()
    this.#due = undefined
  }

  #run(task: Task, lane: Lane, own: Started): void {
    let hasTurn = true
    let isOver = false
    const passOn = (): void => {
      if (!hasTurn) return
      hasTurn = false
      lane.isFree = true
      this.#advance(task.lane, lane)
    }
    const ended = (): void => {
      if (isOver) return
      isOver = true
      this.#inFlight--
      if (task.isHeavy) this.#heavy--
      this.#exclusive = false
      lane.started.splice(lane.started.indexOf(own), 1)
      const [first] = lane.started
      const resume = first?.resume
      if (first !== undefined) first.resume = undefined
      resume?.()
      passOn()
      this.#advance(task.lane, lane)
      this.#owner.changed()
    }
    /** Answers of a lane come in the order of its tasks: what needs a fiber waits for those before it. */
    const inFiber = (effect: () => Effect.Effect<void>): void => {
      if (this.#closed) return ended()
      if (lane.started[0] !== own) {
        own.resume = () => inFiber(effect)
        return
      }
      const fiber = this.#owner.fork(Effect.suspend(effect))
      const running = (this.#running ??= new Set())
      running.add(fiber)
      // Also one that ends as interrupted, from within, has ended.
      fiber.addObserver(() => {
        running.delete(fiber)
        if (running.size === 0) this.#running = undefined
        ended()
      })
    }
    const { now, run } = task
    if (now === undefined) return inFiber(run)
    const isDone = Either.try(() => now(passOn, (rest) => (rest === undefined ? ended() : inFiber(() => rest))))
    if (Either.isLeft(isDone)) {
      this.#owner.broken(isDone.left)
      ended()
    } else if (!isDone.right) {
      inFiber(run)
    }
  }
}
