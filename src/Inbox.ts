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

/** Starts a fiber at once. */
export type Fork = (effect: Effect.Effect<void>) => Fiber.RuntimeFiber<void>

/** Tasks of one client. */
export class Inbox {
  #waiting: Array<Task> = []
  #inFlight = 0
  #heavy = 0
  #exclusive = false
  #stopped = false
  /** Lanes in which a task has its turn, and the tasks that come after it there. */
  readonly #lanes = new Map<string, Array<Task>>()
  /** Tasks whose turn has come: they start one after another, not within each other. */
  readonly #due: Array<Task> = []
  #isStarting = false
  readonly #running = new Set<Fiber.RuntimeFiber<void>>()
  readonly #changed: () => void

  /** `changed` is called when a task is done. */
  constructor(changed: () => void) {
    this.#changed = changed
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
  take(fork: Fork, mayTake: () => boolean): void {
    while (this.#isNextDue() && mayTake()) {
      const task = this.#waiting.shift() as Task
      this.#inFlight++
      this.#exclusive = task.exclusive
      if (task.isHeavy) this.#heavy++
      const lane = this.#lanes.get(task.lane)
      if (lane !== undefined) {
        lane.push(task)
        continue
      }
      this.#lanes.set(task.lane, [])
      this.#start(fork, task)
    }
  }

  /** Interrupts what runs, and forgets what waits. */
  get discard(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.#stopped = true
      this.#waiting = []
      for (const lane of this.#lanes.values()) {
        this.#inFlight -= lane.length
        lane.length = 0
      }
      return Fiber.interruptAll([...this.#running])
    })
  }

  #isNextDue(): boolean {
    const next = this.#waiting[0]
    if (next === undefined || this.#stopped || this.#exclusive || this.#inFlight >= IN_FLIGHT) return false
    if (next.isHeavy && this.#heavy >= HEAVY) return false
    return !next.exclusive || this.#inFlight === 0
  }

  #start(fork: Fork, first: Task): void {
    this.#due.push(first)
    if (this.#isStarting) return
    this.#isStarting = true
    for (let task = this.#due.shift(); task !== undefined; task = this.#due.shift()) this.#run(fork, task)
    this.#isStarting = false
  }

  #run(fork: Fork, task: Task): void {
    let hasTurn = true
    const passOn = (): void => {
      if (!hasTurn) return
      hasTurn = false
      const next = this.#lanes.get(task.lane)?.shift()
      if (next === undefined) this.#lanes.delete(task.lane)
      else this.#start(fork, next)
    }
    const ended = (): void => {
      this.#inFlight--
      if (task.isHeavy) this.#heavy--
      this.#exclusive = false
      passOn()
      this.#changed()
    }
    const inFiber = (effect: Effect.Effect<void>): void => {
      const fiber = fork(effect)
      this.#running.add(fiber)
      // Also one that ends as interrupted, from within, has ended.
      fiber.addObserver(() => {
        this.#running.delete(fiber)
        ended()
      })
    }
    const isDone = task.now?.(passOn, (rest) => (rest === undefined ? ended() : inFiber(rest)))
    if (isDone !== true) inFiber(task.run(passOn))
  }
}
