/**
 * The inbox of a connection: what its client has asked for and is not done yet.
 *
 * Tasks are taken in the order received. Those of one lane run one after
 * another, lanes side by side, an exclusive task alone, heavy ones `HEAVY` at a
 * time, so that their replies are bounded. Owner: the connection, which ends
 * what runs when it ends. Capacity: `WAITING` tasks, then the connection stops
 * reading (so that it may be passed by what one read of 64 KiB held); at most
 * `IN_FLIGHT` are taken at a time.
 *
 * A task starts in the step in which it may, in the callback of the socket that
 * read it, without a fiber where it can be done so, or in one of its own: no
 * other fiber has to wake up for it.
 */
import * as Effect from "effect/Effect"
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
}

/** Tasks of one client. What a client that asks for nothing does not need is made when it asks, and then forgotten. */
export class Inbox {
  #waiting: Array<Task> = []
  #inFlight = 0
  #heavy = 0
  #exclusive = false
  #stopped = false
  /** Lanes in which a task has its turn, and the tasks that come after it there. */
  #lanes: Map<string, Array<Task>> | undefined
  /** Tasks whose turn has come: they start one after another, not within each other. */
  #due: Array<Task> | undefined
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
      const lane = lanes.get(task.lane)
      if (lane !== undefined) {
        lane.push(task)
        continue
      }
      lanes.set(task.lane, [])
      this.#start(task)
    }
  }

  /** Interrupts what runs, and forgets what waits. */
  get discard(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.#stopped = true
      this.#waiting = []
      for (const lane of this.#lanes?.values() ?? []) {
        this.#inFlight -= lane.length
        lane.length = 0
      }
      return Fiber.interruptAll([...(this.#running ?? [])])
    })
  }

  #isNextDue(): boolean {
    const next = this.#waiting[0]
    if (next === undefined || this.#stopped || this.#exclusive || this.#inFlight >= IN_FLIGHT) return false
    if (next.isHeavy && this.#heavy >= HEAVY) return false
    return !next.exclusive || this.#inFlight === 0
  }

  #start(first: Task): void {
    if (this.#due !== undefined) {
      this.#due.push(first)
      return
    }
    const due = (this.#due = [first])
    for (let task = due.shift(); task !== undefined; task = due.shift()) this.#run(task)
    this.#due = undefined
  }

  #passOn(lane: string): void {
    const lanes = this.#lanes
    const next = lanes?.get(lane)?.shift()
    if (next !== undefined) return this.#start(next)
    lanes?.delete(lane)
    if (lanes?.size === 0) this.#lanes = undefined
  }

  #run(task: Task): void {
    let hasTurn = true
    const passOn = (): void => {
      if (hasTurn) {
        hasTurn = false
        this.#passOn(task.lane)
      }
    }
    const ended = (): void => {
      this.#inFlight--
      if (task.isHeavy) this.#heavy--
      this.#exclusive = false
      passOn()
      this.#owner.changed()
    }
    const inFiber = (effect: Effect.Effect<void>): void => {
      const fiber = this.#owner.fork(effect)
      const running = (this.#running ??= new Set())
      running.add(fiber)
      // Also one that ends as interrupted, from within, has ended.
      fiber.addObserver(() => {
        running.delete(fiber)
        if (running.size === 0) this.#running = undefined
        ended()
      })
    }
    const isDone = task.now?.(passOn, (rest) => (rest === undefined ? ended() : inFiber(rest)))
    if (isDone !== true) inFiber(task.run(passOn))
  }
}
