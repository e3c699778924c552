/**
 * The ways on which a server may carry a command out: as it comes, with a tracer
 * on, and with hooks that yield. What is promised is promised on each of them.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { noting } from "./tracer.ts"
import type * as Server from "./server.ts"

/** A way of its own for each test that takes it. */
export interface Way {
  /** What a server has to be started with. */
  readonly options: Pick<Server.Options, "layer" | "hooks">
  /** How often what makes it another way was used. */
  readonly used: () => number
}

const yielding = Effect.sync((): Way => {
  let asked = 0
  const hook = (): Effect.Effect<void> => {
    asked++
    return Effect.yieldNow()
  }
  const onSubscribe = () => Effect.as(hook(), {})
  return {
    options: { hooks: { onSubscribe, onPublish: hook, onHistory: hook, onPresence: hook } },
    used: () => asked
  }
})

const traced = Effect.map(noting, ({ names, tracer }): Way => ({
  options: { layer: Layer.setTracer(tracer) },
  used: () => names.length
}))

export const ways: ReadonlyArray<readonly [name: string, way: Effect.Effect<Way>]> = [
  ["as it comes", Effect.succeed({ options: {}, used: () => 1 })],
  ["with a tracer on", traced],
  ["with hooks that yield", yielding]
]
