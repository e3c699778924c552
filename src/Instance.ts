/** This instance of the server, as the others know it. */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { randomUUID } from "node:crypto"
import { hostname } from "node:os"

/** This instance of the server. */
export class Instance extends Context.Tag("fanfare/Instance")<
  Instance,
  {
    /** Unique: another one after a restart. */
    readonly id: string
    /** The host that it runs on. */
    readonly name: string
    /** Milliseconds since the epoch. */
    readonly startedAt: number
  }
>() {}

/** An instance that starts now. */
export const layer: Layer.Layer<Instance> = Layer.effect(
  Instance,
  Effect.map(Clock.currentTimeMillis, (startedAt) => ({ id: randomUUID(), name: hostname(), startedAt }))
)
