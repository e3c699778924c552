/** Clocks that are set while a server runs on them. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

export interface Settable {
  readonly layer: Layer.Layer<never>
  /** Sets the wall clock so many milliseconds forward, or back. Time passes as before. */
  readonly set: (by: number) => Effect.Effect<void>
  /** So many milliseconds pass at once, on both clocks. Timers do not know. */
  readonly pass: (millis: number) => Effect.Effect<void>
}

/** The clock of the machine, which the test may set. */
export const settable = (): Settable => {
  const base = Clock.make()
  let ahead = 0
  let passed = 0
  const millis = (): number => base.unsafeCurrentTimeMillis() + ahead + passed
  const nanos = (): bigint => base.unsafeCurrentTimeNanos() + BigInt(Math.round(passed * 1e6))
  const clock = Object.assign(Object.create(base) as Clock.Clock, {
    unsafeCurrentTimeMillis: millis,
    currentTimeMillis: Effect.sync(millis),
    unsafeCurrentTimeNanos: nanos,
    currentTimeNanos: Effect.sync(nanos)
  })
  return {
    layer: Layer.setClock(clock),
    set: (by) =>
      Effect.sync(() => {
        ahead += by
      }),
    pass: (millis) =>
      Effect.sync(() => {
        passed += millis
      })
  }
}

export const HOUR = 3_600_000
