import { describe, expect, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as TestClock from "effect/TestClock"
import * as Redis from "../src/Broker/Redis.ts"

const HEALTHY = Duration.seconds(5)

interface Attempt {
  readonly opened: number
  readonly lost: number
}

/** A link that lives for each of `lives`, in milliseconds, and then for none; it keeps record of its attempts. */
const links = (lives: ReadonlyArray<number>, end: Effect.Effect<never, string> = Effect.fail("lost")) => {
  const attempts: Array<Attempt> = []
  const link = Effect.gen(function* () {
    const opened = yield* Clock.currentTimeMillis
    const life = lives[attempts.length] ?? 0
    if (life > 0) yield* Effect.sleep(life)
    attempts.push({ opened, lost: yield* Clock.currentTimeMillis })
    return yield* end
  })
  return { attempts, link }
}

/** The delay before each attempt but the first. */
const delays = (attempts: ReadonlyArray<Attempt>): ReadonlyArray<number> =>
  attempts.slice(1).map(({ opened }, index) => opened - (attempts[index]?.lost ?? Number.NaN))

/** What the delay after `failures` failures in a row is without the jitter. */
const plain = (failures: number): number => Math.min(100 * 2 ** (failures - 1), 4000 / 1.2)

/** `failures`: how many in a row preceded each delay. The clock counts whole milliseconds. */
const expectDelays = (measured: ReadonlyArray<number>, failures: ReadonlyArray<number>): void => {
  expect(measured.length).toBe(failures.length)
  for (const [index, count] of failures.entries()) {
    expect(measured[index], `delay ${index}`).toBeGreaterThanOrEqual(plain(count) * 0.8 - 1)
    expect(measured[index], `delay ${index}`).toBeLessThanOrEqual(plain(count) * 1.2 + 1)
  }
}

/** Supervises `link` until there were `count` attempts, on the clock of the test. */
const attemptsOf = (
  link: Effect.Effect<never, string>,
  attempts: ReadonlyArray<Attempt>,
  count: number,
  seed = "one"
) =>
  Effect.gen(function* () {
    const supervisor = yield* Effect.fork(Redis.supervise(link, Redis.retrySchedule, HEALTHY))
    // No delay and no life is longer than this; each step lets at most a few attempts happen.
    while (attempts.length < count) yield* TestClock.adjust("10 seconds")
    yield* Fiber.interrupt(supervisor)
    return delays(attempts.slice(0, count))
  }).pipe(Effect.withRandom(Random.make(seed)))

/** A clock on which every sleep is over at once: for thousands of attempts. */
const instantClock = (): Clock.Clock => {
  const clock = Clock.make()
  let now = 0
  return {
    ...clock,
    unsafeCurrentTimeMillis: () => now,
    unsafeCurrentTimeNanos: () => BigInt(Math.round(now * 1e6)),
    currentTimeMillis: Effect.sync(() => now),
    currentTimeNanos: Effect.sync(() => BigInt(Math.round(now * 1e6))),
    sleep: (duration) =>
      Effect.sync(() => {
        now += Duration.toMillis(duration)
      })
  }
}

describe("supervise with retrySchedule", () => {
  it.effect("opens the link at once, then after 100 ms, doubled each time, at most 4 s, each jittered by a fifth", () =>
    Effect.gen(function* () {
      const { attempts, link } = links([])
      const measured = yield* attemptsOf(link, attempts, 12)
      expect(attempts[0]?.opened).toBe(0)
      expectDelays(measured, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])
    })
  )

  it.effect("begins anew with 100 ms after a link that lived 5 s, and not after one that lived 1 ms less", () =>
    Effect.gen(function* () {
      const { attempts, link } = links([0, 0, 0, 0, 5000, 0, 0, 4999, 0, 60_000, 0])
      const measured = yield* attemptsOf(link, attempts, 12)
      expectDelays(measured, [1, 2, 3, 4, 1, 2, 3, 4, 5, 1, 2])
    })
  )

  it.effect("begins anew after each healthy link, so that a link that flaps every 5 s is back within 120 ms", () =>
    Effect.gen(function* () {
      const { attempts, link } = links(Array.from({ length: 8 }, () => 5000))
      const measured = yield* attemptsOf(link, attempts, 8)
      expectDelays(measured, [1, 1, 1, 1, 1, 1, 1])
    })
  )

  it.effect("does not storm where a link lives a moment: the delays grow on", () =>
    Effect.gen(function* () {
      const { attempts, link } = links(Array.from({ length: 10 }, () => 200))
      const measured = yield* attemptsOf(link, attempts, 10)
      expectDelays(measured, [1, 2, 3, 4, 5, 6, 7, 8, 9])
    })
  )

  it.effect("stops when it is interrupted, and interrupts the link", () =>
    Effect.gen(function* () {
      let interrupted = 0
      const link = Effect.onInterrupt(Effect.never, () => Effect.sync(() => interrupted++))
      const supervisor = yield* Effect.fork(Redis.supervise(link, Redis.retrySchedule, HEALTHY))
      yield* TestClock.adjust("1 minute")
      yield* Fiber.interrupt(supervisor)
      yield* TestClock.adjust("1 minute")
      expect(interrupted).toBe(1)
    })
  )

  it.effect("goes on after a defect of the link as after a failure", () =>
    Effect.gen(function* () {
      const { attempts, link } = links([], Effect.die(new Error("a bug")))
      const supervisor = yield* Effect.fork(Redis.supervise(link, Redis.retrySchedule, HEALTHY))
      for (let step = 0; step < 3; step++) yield* TestClock.adjust("10 seconds")
      yield* Fiber.interrupt(supervisor)
      expect(attempts.length).toBeGreaterThan(3)
    })
  )
})

describe("supervise for a long outage", () => {
  /** The delays of so many attempts in a row. */
  const outage = (count: number, seed: string) =>
    Effect.gen(function* () {
      const { attempts, link } = links([])
      const enough = Effect.suspend(() => (attempts.length > count ? Effect.interrupt : link))
      yield* Effect.exit(Redis.supervise(enough, Redis.retrySchedule, HEALTHY))
      return delays(attempts)
    }).pipe(Effect.withClock(instantClock()), Effect.withRandom(Random.make(seed)))

  // 2^1024 is above every number: the exponent must not end the schedule, nor its pauses.
  it.effect("tries again 3000 times, always between 2.6 s and 4 s apart", () =>
    Effect.gen(function* () {
      const measured = yield* outage(3000, "long")
      expectDelays(
        measured,
        Array.from({ length: 3000 }, (_, index) => index + 1)
      )
      for (const delay of measured.slice(7)) {
        expect(delay).toBeGreaterThan(2600)
        expect(delay).toBeLessThanOrEqual(4000)
      }
    })
  )

  it.effect("spreads instances over the whole jitter, so that they do not come back in step", () =>
    Effect.gen(function* () {
      const seeds = Array.from({ length: 100 }, (_, index) => `instance ${index}`)
      const all = yield* Effect.forEach(seeds, (seed) => outage(10, seed))
      for (let attempt = 0; attempt < 10; attempt++) {
        const factors = all.map((measured) => (measured[attempt] ?? Number.NaN) / plain(attempt + 1))
        expect(Math.min(...factors)).toBeGreaterThanOrEqual(0.8 - 0.01)
        expect(Math.min(...factors)).toBeLessThan(0.85)
        expect(Math.max(...factors)).toBeGreaterThan(1.15)
        expect(Math.max(...factors)).toBeLessThanOrEqual(1.2 + 0.01)
      }
    })
  )
})

describe("supervise", () => {
  it.effect("waits as its schedule says, whatever ends the link", () =>
    Effect.gen(function* () {
      const { attempts, link } = links([1, 2, 3])
      const supervisor = yield* Effect.fork(Redis.supervise(link, Schedule.spaced("7 seconds"), HEALTHY))
      for (let step = 0; step < 5; step++) yield* TestClock.adjust("7 seconds")
      yield* Fiber.interrupt(supervisor)
      expect(delays(attempts).slice(0, 3)).toEqual([7000, 7000, 7000])
    })
  )
})
