/**
 * Effect's scheduler, with one queue for all fibers. The default has one for
 * each fiber, in a weak map that grows with every fiber there has been since the
 * last full collection, and keeps their queues alive until then.
 */
import * as Scheduler from "effect/Scheduler"

/** Turns of the queue after which the event loop goes on; that of Effect's default. */
const TURNS = 2048

class OneQueue extends Scheduler.MixedScheduler {
  override scheduleTask(task: Scheduler.Task, priority: number): void {
    // Without the fiber, which is what would give it a queue of its own.
    super.scheduleTask(task, priority)
  }
}

/** Runs the fibers of a program. */
export const make = (): Scheduler.Scheduler => new OneQueue(TURNS)
