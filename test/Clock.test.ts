import { describe, expect, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as TestClock from "effect/TestClock"
import * as Duration from "effect/Duration"
import { clocks, monotonic, upTo, wall } from "../src/internal/clock.ts"
import { HOUR, settable } from "./support/clock.ts"

describe("clocks", () => {
  it.live("monotonic goes on when the machine's clock is set, wall follows it", () => {
    const clock = settable()
    return Effect.gen(function* () {
      const { monotonic, wall } = yield* clocks
      const before = [monotonic(), wall()] as const
      yield* clock.set(-HOUR)
      expect(monotonic() - before[0]).toBeGreaterThanOrEqual(0)
      expect(monotonic() - before[0]).toBeLessThan(HOUR / 2)
      expect(wall() - before[1]).toBeLessThan(-HOUR / 2)
      yield* clock.pass(HOUR)
      expect(monotonic() - before[0]).toBeGreaterThanOrEqual(HOUR)
    }).pipe(Effect.provide(clock.layer))
  })

  it.live("of Effect's own clock are performance.now() and Date.now()", () =>
    Effect.gen(function* () {
      const [one, other] = [performance.now(), yield* monotonic]
      expect(other).toBeGreaterThanOrEqual(one)
      expect(other - one).toBeLessThan(60_000)
      expect(Math.abs((yield* wall) - Date.now())).toBeLessThan(60_000)
      expect((yield* clocks).monotonic()).toBeGreaterThanOrEqual(other)
    })
  )

  it.effect("are those of the test under a TestClock", () =>
    Effect.gen(function* () {
      const before = yield* monotonic
      yield* TestClock.adjust("90 seconds")
      expect((yield* monotonic) - before).toBe(90_000)
      expect(yield* wall).toBe(yield* Clock.currentTimeMillis)
    })
  )
})

describe("upTo", () => {
  const attempts = (set: Effect.Effect<void>) =>
    Effect.gen(function* () {
      let count = 0
      const again = upTo(Schedule.spaced("10 millis"), Duration.millis(100))
      const [took] = yield* Effect.timed(
        Effect.ignore(
          Effect.retry(
            Effect.suspend(() => Effect.zipRight(++count === 2 ? set : Effect.void, Effect.fail("again"))),
            again
          )
        )
      )
      return { count, millis: Duration.toMillis(took) }
    })

  for (const by of [-HOUR, HOUR]) {
    it.live(`lasts as long as it says when the machine's clock is set by ${by / HOUR} h meanwhile`, () => {
      const clock = settable()
      return Effect.gen(function* () {
        const { count, millis } = yield* attempts(clock.set(by)).pipe(Effect.timeout("10 seconds"))
        expect(count).toBeGreaterThan(2)
        expect(millis).toBeGreaterThanOrEqual(95)
      }).pipe(Effect.provide(clock.layer))
    })
  }
})
