/**
 * The inbox of a connection: what its client has asked for and is not done yet.
 *
 * Tasks are taken in the order received. Those of one lane run one after
 * another (but for pipelined ones, which only start so), lanes side by side, an exclusive task alone, heavy ones `HEAVY` at a
 * time, so that their replies are bounded. Owner: the connection, which ends
 * what runs when it ends. Capacity: `WAITING` tasks, and tasks of as much text as
 * the largest message has (`websocket.message_size_limit`), those that run
 * included; then the connection stops reading, in the middle of a message too. At
 * most `IN_FLIGHT` are taken at a time.
 *
 * A task starts in the step in which it may, without a fiber where it can be
 * done so, or in one of its own: no other fiber has to wake up for it.
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import type { Task, Turn } from "./Session.ts"

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

/**
 * A task that is taken and not done. An object with methods, not functions that
 * close over each other: a client's every command makes one.
 */
class Run implements Turn {
  readonly task: Task
  readonly #inbox: Progress
  isStarted = false
  /** Whether the next one of its lane may not start yet. */
  hasTurn = true
  isOver = false
  /** What it has left to do in a fiber, once all before it are done. */
  rest: (() => Effect.Effect<void>) | undefined

  constructor(task: Task, inbox: Progress) {
    this.task = task
    this.#inbox = inbox
  }

  passOn(): void {
    this.#inbox.passOn(this)
  }

  done(rest?: Effect.Effect<void>): void {
    if (rest === undefined) this.#inbox.ended(this)
    else this.#inbox.inFiber(this, () => rest)
  }
}

/** What a task tells of itself. */
interface Progress {
  readonly passOn: (run: Run) => void
  readonly inFiber: (run: Run, rest: () => Effect.Effect<void>) => void
  readonly ended: (run: Run) => void
}

/** Tasks of one client. What a client that asks for nothing does not need is made when it asks, and then forgotten. */
export class Inbox implements Progress {
  #waiting: Array<Task> = []
  /** Those that are taken and not done, in the order received. There are few: a lane is found by looking through them. */
  readonly #taken: Array<Run> = []
  #heavy = 0
  #exclusive = false
  #stopped = false
  #closed = false
  /** Tasks start one after another, not within each other: whether one is at it, and those that may next. */
  #isStarting = false
  #due: Array<Run> | undefined
  #running: Set<Fiber.RuntimeFiber<void>> | undefined
  readonly #owner: Owner
  /** Characters of those that wait and of those that are taken, and how many make it full. */
  #size = 0
  readonly #maxSize: number

  constructor(owner: Owner, maxSize: number) {
    this.#owner = owner
    this.#maxSize = maxSize
  }

  push(task: Task): void {
    this.#size += task.size ?? 0
    this.#waiting.push(task)
  }

  /** Whether the connection should stop reading. */
  get isFull(): boolean {
    return this.#waiting.length >= WAITING || this.#size >= this.#maxSize
  }

  /** Whether it may read again. */
  get hasRoom(): boolean {
    return this.#waiting.length <= WAITING / 2 && this.#size <= this.#maxSize / 2
  }

  /** Whether no task is taken and not done. */
  get isIdle(): boolean {
    return this.#taken.length === 0
  }

  /** Whether no task is taken any more. */
  get isStopped(): boolean {
    return this.#stopped
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
      this.#exclusive = task.exclusive
      if (task.isHeavy) this.#heavy++
      this.#taken.push(new Run(task, this))
      this.#advance(task.lane)
    }
  }

  /** Forgets what has not started; what has is not told of. */
  close(): void {
    this.#stopped = true
    this.#closed = true
    this.#waiting = []
    const started = this.#taken.filter(({ isStarted }) => isStarted)
    this.#size = started.reduce((sum, { task }) => sum + (task.size ?? 0), 0)
    this.#taken.splice(0, Infinity, ...started)
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
    if (next === undefined || this.#stopped || this.#exclusive || this.#taken.length >= IN_FLIGHT) return false
    if (next.isHeavy && this.#heavy >= HEAVY) return false
    return !next.exclusive || this.#taken.length === 0
  }

  /** Starts what may start in a lane. */
  #advance(lane: string): void {
    for (let next = this.#next(lane); next !== undefined; next = this.#next(lane)) {
      next.isStarted = true
      this.#start(next)
    }
  }

  /** The first of a lane that has not started, if it may. */
  #next(lane: string): Run | undefined {
    let last: Run | undefined
    for (const run of this.#taken) {
      if (run.task.lane !== lane) continue
      if (run.isStarted) {
        last = run
        continue
      }
      return last === undefined || (!last.hasTurn && run.task.isPipelined === true) ? run : undefined
    }
    return undefined
  }

  #start(run: Run): void {
    if (this.#isStarting) {
      ;(this.#due ??= []).push(run)
      return
    }
    this.#isStarting = true
    this.#run(run)
    while (this.#due !== undefined) {
      const due = this.#due
      this.#due = undefined
      for (const next of due) this.#run(next)
    }
    this.#isStarting = false
  }

  #run(run: Run): void {
    const { task } = run
    const inFiber = (): Effect.Effect<void> => task.run()
    if (task.now === undefined) return this.inFiber(run, inFiber)
    const isUnderWay = Either.try(() => task.now?.(run))
    if (Either.isLeft(isUnderWay)) {
      this.#owner.broken(isUnderWay.left)
      this.ended(run)
    } else if (isUnderWay.right !== true) {
      this.inFiber(run, inFiber)
    }
  }

  // ── What tasks tell ──────────────────────────────────────────────────────

  passOn(run: Run): void {
    if (!run.hasTurn) return
    run.hasTurn = false
    this.#advance(run.task.lane)
  }

  /** Answers of a lane come in the order of its tasks: what needs a fiber waits for those before it. */
  inFiber(run: Run, effect: () => Effect.Effect<void>): void {
    if (this.#closed) return this.ended(run)
    if (this.#first(run.task.lane) !== run) {
      run.rest = effect
      return
    }
    const fiber = this.#owner.fork(Effect.suspend(effect))
    const running = (this.#running ??= new Set())
    running.add(fiber)
    // Also one that ends as interrupted, from within, has ended.
    fiber.addObserver(() => {
      running.delete(fiber)
      if (running.size === 0) this.#running = undefined
      this.ended(run)
    })
  }

  ended(run: Run): void {
    if (run.isOver) return
    run.isOver = true
    const { isHeavy, lane } = run.task
    // One that was forgotten is not there any more.
    const place = this.#taken.indexOf(run)
    if (place !== -1) {
      this.#taken.splice(place, 1)
      this.#size -= run.task.size ?? 0
    }
    if (isHeavy) this.#heavy--
    this.#exclusive = false
    const first = this.#first(lane)
    const rest = first?.rest
    if (first !== undefined && rest !== undefined) {
      first.rest = undefined
      this.inFiber(first, rest)
    }
    this.#advance(lane)
    this.#owner.changed()
  }

  /** The first of a lane that has started. */
  #first(lane: string): Run | undefined {
    return this.#taken.find(({ isStarted, task }) => isStarted && task.lane === lane)
  }
}
