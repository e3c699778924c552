/** This instance of the server, as the others know it. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { randomUUID } from "node:crypto"
import { clocks } from "./internal/clock.ts"
import * as ServerConfig from "./ServerConfig.ts"

/** This instance of the server. */
export class Instance extends Context.Tag("fanfare/Instance")<
  Instance,
  {
    /** Unique: another one after a restart. */
    readonly id: string
    /** For people: `name` of the configuration. */
    readonly name: string
    /** How long it has been running, in milliseconds. */
    readonly uptime: () => number
  }
>() {}

/** An instance that starts now. */
export const layer: Layer.Layer<Instance, never, ServerConfig.ServerConfig> = Layer.effect(
  Instance,
  Effect.gen(function* () {
    const { host, name, port } = yield* ServerConfig.ServerConfig
    const { monotonic } = yield* clocks
    const startedAt = monotonic()
    return { id: randomUUID(), name: name ?? `${host}:${port}`, uptime: () => monotonic() - startedAt }
  })
)
