/** When the fan-out waits for what its own instance has published. */
import { describe, expect, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { Gathering, LIMIT, MANY, MOST_SKIPPED } from "../src/Hub/Gathering.ts"
import { live } from "./support/it.ts"
import { stillTimers } from "./support/stillTimers.ts"

/** One behind a turn that has written to many, with something asked of the broker. */
const make = (wake: () => void = () => undefined) => {
  const progress = { asked: 1, answered: 0 }
  const gathering = new Gathering(progress, wake)
  gathering.wrote(MANY)
  return { gathering, progress }
}

/** Asks something more, and waits until that is answered and there are `then` publications instead of `first`. */
const wait = ({ gathering, progress }: ReturnType<typeof make>, first: number, then: number): boolean => {
  progress.asked++
  const hasWaited = gathering.holds(first)
  progress.answered = progress.asked
  if (hasWaited) expect(gathering.holds(then)).toBe(false)
  return hasWaited
}

describe("Gathering", () => {
  it("waits until what was asked before is answered and more has come, whatever is asked meanwhile", () => {
    const { gathering, progress } = make()
    expect(gathering.holds(1)).toBe(true)
    progress.asked = 5
    expect(gathering.holds(3)).toBe(true)
    progress.answered = 1
    expect(gathering.holds(1)).toBe(true)
    expect(gathering.holds(2)).toBe(false)
    // And again: something else is asked.
    expect(gathering.holds(2)).toBe(true)
    gathering.stop()
  })

  it("not where the last turn wrote to few, nothing is asked, or there is nothing to be fanned out", () => {
    const few = make()
    few.gathering.wrote(MANY - 1)
    expect(few.gathering.holds(1)).toBe(false)
    const silent = make()
    silent.progress.answered = 1
    expect(silent.gathering.holds(1)).toBe(false)
    expect(make().gathering.holds(0)).toBe(false)
  })

  live("at most until the limit: it wakes up, and goes on with what there is", () =>
    Effect.gen(function* () {
      const timers = yield* stillTimers
      let woken = 0
      const wake = (): void => void woken++
      const stopped = make(wake)
      expect(stopped.gathering.holds(1)).toBe(true)
      stopped.gathering.stop()
      const { gathering } = make(wake)
      expect(gathering.holds(1)).toBe(true)
      timers.advance(Duration.toMillis(LIMIT) - 1)
      expect([woken, gathering.holds(1)]).toEqual([0, true])
      timers.advance(1)
      expect([woken, gathering.holds(1)]).toEqual([1, false])
    })
  )

  live("a wait that took as long as the limit has not paid, whatever it has brought", () =>
    Effect.gen(function* () {
      const timers = yield* stillTimers
      const { gathering } = make()
      expect(gathering.holds(1)).toBe(true)
      timers.advance(Duration.toMillis(LIMIT))
      expect([gathering.holds(9), gathering.holds(1), gathering.holds(1)]).toEqual([false, false, true])
      gathering.stop()
    })
  )

  it("after a wait that has not paid, more and more turns go without, until one pays", () => {
    const one = make()
    const skipped = (then: number): number => {
      for (let turns = 0; ; turns++) if (wait(one, 4, then)) return turns
    }
    expect(Array.from({ length: 9 }, () => skipped(5))).toEqual([0, 1, 2, 4, 8, 16, 32, 64, 64])
    expect(skipped(6)).toBe(MOST_SKIPPED)
    expect([skipped(6), skipped(5), skipped(5)]).toEqual([0, 0, 1])
  })
})
