/**
 * The inbox of a connection: what its client has asked for and is not done yet.
 *
 * Tasks are taken in the order received. Those of one lane run one after
 * another, lanes side by side, an exclusive task alone, heavy ones `HEAVY` at a
 * time, so that their replies are bounded. Owner: the connection,
 * whose fiber takes tasks and is the parent of those that run. Capacity:
 * `WAITING` tasks, then the connection stops reading (so that it may be passed
 * by what one read of 64 KiB held); at most `IN_FLIGHT` are taken at a time.
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
  #lanes: Map<string, Array<Task>> | undefined
  #running: Set<Fiber.RuntimeFiber<void>> | undefined
  readonly #owner: Owner

  constructor(owner: Owner) {
    this.#owner = owner
  }

  push(task: Task): void {
    this.#waiting.push(task)
  }

  /** Whether no task waits. */
  get isEmpty(): boolean {
    return this.#waiting.length === 0
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

  /** Starts tasks, as children of the fiber that runs this, while the bounds and `mayTake` permit it. */
  take(mayTake: () => boolean): Effect.Effect<void> {
    return Effect.whileLoop({
      while: () => this.#isNextDue() && mayTake(),
      body: () => {
        const task = this.#waiting.shift() as Task
        // An array keeps the room that it once had.
        if (this.#waiting.length === 0) this.#waiting = []
        return this.#start(task)
      },
      step: () => undefined
    })
  }

  /** Interrupts what runs, and forgets what waits. */
  get discard(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.#waiting = []
      return Fiber.interruptAll([...(this.#running ?? [])])
    })
  }

  #isNextDue(): boolean {
    const next = this.#waiting[0]
    if (next === undefined || this.#stopped || this.#exclusive || this.#inFlight >= IN_FLIGHT) return false
    if (next.isHeavy && this.#heavy >= HEAVY) return false
    return !next.exclusive || this.#inFlight === 0
  }

  #start(task: Task): Effect.Effect<void> {
    this.#inFlight++
    this.#exclusive = task.exclusive
    if (task.isHeavy) this.#heavy++
    const lanes = (this.#lanes ??= new Map())
    const lane = lanes.get(task.lane)
    if (lane !== undefined) {
      lane.push(task)
      return Effect.void
    }
    const tasks = [task]
    lanes.set(task.lane, tasks)
    return Effect.map(Effect.fork(this.#runLane(lanes, task.lane, tasks)), (fiber) => {
      const running = (this.#running ??= new Set())
      running.add(fiber)
      fiber.addObserver(() => {
        running.delete(fiber)
        if (running.size === 0) this.#running = undefined
        this.#owner.changed()
      })
    })
  }

  #runLane(lanes: Map<string, Array<Task>>, lane: string, tasks: Array<Task>): Effect.Effect<void> {
    return Effect.whileLoop({
      while: () => {
        if (tasks.length > 0) return true
        lanes.delete(lane)
        if (lanes.size === 0) this.#lanes = undefined
        return false
      },
      body: () => {
        const { isHeavy, run } = tasks.shift() as Task
        // Also one that ends as interrupted, from within, has ended.
        return Effect.as(Effect.exit(run), isHeavy)
      },
      step: (isHeavy) => {
        this.#inFlight--
        if (isHeavy) this.#heavy--
        this.#exclusive = false
        this.#owner.changed()
      }
    })
  }
}
