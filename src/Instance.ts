/** This instance of the server, as the others know it. */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { randomUUID } from "node:crypto"
import * as ServerConfig from "./ServerConfig.ts"

/** This instance of the server. */
export class Instance extends Context.Tag("fanfare/Instance")<
  Instance,
  {
    /** Unique: another one after a restart. */
    readonly id: string
    /** For people: `name` of the configuration. */
    readonly name: string
    /** Milliseconds since the epoch. */
    readonly startedAt: number
  }
>() {}

/** An instance that starts now. */
export const layer: Layer.Layer<Instance, never, ServerConfig.ServerConfig> = Layer.effect(
  Instance,
  Effect.gen(function* () {
    const { host, name, port } = yield* ServerConfig.ServerConfig
    const startedAt = yield* Clock.currentTimeMillis
    return { id: randomUUID(), name: name ?? `${host}:${port}`, startedAt }
  })
)
