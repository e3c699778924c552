/** The timers of `node:timers` stand still, those that are set within the scope: they go off when they are told to. */
import * as Effect from "effect/Effect"
import { syncBuiltinESMExports } from "node:module"
import timers from "node:timers"

class Timer {
  readonly at: number
  readonly callback: () => void

  constructor(at: number, callback: () => void) {
    this.at = at
    this.callback = callback
  }
}

const replace = (own: object) =>
  Effect.sync(() => {
    Object.assign(timers, own)
    syncBuiltinESMExports()
  })

export const stillTimers = Effect.gen(function* () {
  const { clearTimeout, setTimeout } = timers
  const pending = new Set<Timer>()
  let now = 0
  const still = {
    setTimeout: (callback: () => void, delay: number): Timer => {
      const timer = new Timer(now + delay, callback)
      pending.add(timer)
      return timer
    },
    clearTimeout: (timer: Timer | undefined): void => {
      if (timer !== undefined) pending.delete(timer)
    }
  }
  yield* Effect.acquireRelease(replace(still), () => replace({ clearTimeout, setTimeout }))
  return {
    pending: () => pending.size,
    /** So many milliseconds later. */
    advance: (millis: number): void => {
      now += millis
      for (const timer of Array.from(pending)) {
        if (timer.at <= now && pending.delete(timer)) timer.callback()
      }
    }
  }
})
