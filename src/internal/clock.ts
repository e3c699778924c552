/**
 * The two clocks of a server, and which of them is for what. Nothing else in
 * `src` reads a clock: the lint rules see to it.
 *
 * - `monotonic`: for every duration (pings, time-outs, outages, rates, what is
 *   kept for a while). Nobody sets it: it goes on at the same pace when the
 *   machine's clock is set back or forward.
 * - `wall`: the machine's clock, for what is shown, or compared with the clock of
 *   another machine (`exp` of a token).
 *
 * Effect's own clock is monotonic where it counts nanoseconds, and the machine's
 * where it counts milliseconds (effect 3.22, `internal/clock.ts`). Nanoseconds are
 * a `bigint`, which is garbage for each call: of Effect's own clock
 * `performance.now()` is read instead, which is the same one.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as DefaultServices from "effect/DefaultServices"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Decision from "effect/ScheduleDecision"
import * as Interval from "effect/ScheduleInterval"

/** Milliseconds of a clock, with a fraction where it has one. */
export type Now = () => number

/** The clocks of a server, as its fibers have them: under a test those of the test. */
export interface Clocks {
  /** Milliseconds since some moment in the past. Only the difference of two of them means something. */
  readonly monotonic: Now
  /** Milliseconds since the beginning of 1970 (Unix time). Jumps when the machine's clock is set. */
  readonly wall: Now
}

const own = Context.get(DefaultServices.liveServices, Clock.Clock)

const performanceNow: Now = () => performance.now()

const of = (clock: Clock.Clock): Clocks => ({
  monotonic: clock === own ? performanceNow : () => Number(clock.unsafeCurrentTimeNanos()) / 1e6,
  wall: () => clock.unsafeCurrentTimeMillis()
})

/** The clocks, for code that reads them again and again, or without a fiber. */
export const clocks: Effect.Effect<Clocks> = Effect.map(Effect.clock, of)

/** The monotonic clock now, in milliseconds. */
export const monotonic: Effect.Effect<number> = Effect.map(clocks, (clock) => clock.monotonic())

/** The wall clock now, in milliseconds of Unix time. */
export const wall: Effect.Effect<number> = Effect.map(clocks, (clock) => clock.wall())

/** Milliseconds since the first step. */
const elapsed = Schedule.makeWithState<number | undefined, unknown, number>(undefined, (now, _, began) =>
  Effect.map(monotonic, (at) => [began ?? at, at - (began ?? at), Decision.continueWith(Interval.after(now))] as const)
)

/** The schedule, until `limit` has passed since its first step. `Schedule.upTo` measures that by the wall clock. */
export const upTo = <Out, In, R>(
  schedule: Schedule.Schedule<Out, In, R>,
  limit: Duration.Duration
): Schedule.Schedule<Out, In, R> =>
  Schedule.zipLeft(
    schedule,
    Schedule.whileOutput(elapsed, (millis) => millis < Duration.toMillis(limit))
  )
