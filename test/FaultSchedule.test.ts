import { describe, expect, it } from "@effect/vitest"
import { kindOf, names } from "./faults/kinds.ts"
import { print, schedule } from "./faults/schedule.ts"

const MINUTES = 60_000

describe("the schedule of a chaos run", () => {
  it("is the same for the same seed, and another one for another", () => {
    expect(schedule(7, MINUTES)).toEqual(schedule(7, MINUTES))
    expect(schedule(7, MINUTES)).not.toEqual(schedule(8, MINUTES))
    // As it was when this was written: a seed that somebody reports is worth something tomorrow.
    expect(print(schedule(7, 6000))).toBe(
      "0.3 client-cut, 0.8 client-delay 2458 ms, 1.3 redis-memory 649 ms, 3.1 redis-pause 2421 ms, 3.9 client-reset, 4.5 node-kill 230 ms"
    )
  })

  it("is the begin of a longer one", () => {
    const short = schedule(7, MINUTES)
    const before = schedule(7, 2 * MINUTES).filter(({ at, lasts }) => at + lasts <= 50_000)
    expect(short).toEqual(expect.arrayContaining([...before]))
  })

  it("has every fault within eight minutes, one at a time of each track, all over by the end", () => {
    const steps = schedule(7, 8 * MINUTES)
    expect(new Set(steps.map(({ name }) => name))).toEqual(new Set(names))
    for (const track of ["redis", "nodes", "clients"]) {
      const own = steps.filter(({ name }) => kindOf(name).track === track)
      own.forEach(({ at, lasts }, index) => {
        expect(at + lasts).toBeLessThan(own[index + 1]?.at ?? 8 * MINUTES)
      })
    }
  })

  it("has the faults that were chosen, and no others", () => {
    const steps = schedule(7, MINUTES, ["link-cut", "node-kill"])
    expect(new Set(steps.map(({ name }) => name))).toEqual(new Set(["link-cut", "node-kill"]))
    expect(schedule(7, MINUTES, [])).toEqual([])
  })

  it("leaves the system in peace for long enough, each time", () => {
    const steps = schedule(7, 8 * MINUTES)
    const ends = steps.map(({ at, lasts }) => at + lasts)
    const pauses = steps.filter(({ at }, index) => index > 0 && at - Math.max(...ends.slice(0, index)) > 8000)
    expect(pauses.length).toBeGreaterThanOrEqual(8)
  })
})
