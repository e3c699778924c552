/** What exports traces; loaded only where they are exported: the optional package @effect/opentelemetry, and an HTTP client. */
// By name: the rest of that module, undici, stays out of the program.
import { HttpAgent, layerWithoutAgent, makeAgent } from "@effect/platform-node/NodeHttpClient"
import * as Effect from "effect/Effect"
import { constVoid } from "effect/Function"
import * as Layer from "effect/Layer"
import type { Agent } from "node:http"
import type { Duplex } from "node:stream"

type Connect = (...args: ReadonlyArray<unknown>) => Duplex | null | undefined

/** The platform takes its listeners off a socket that a collector has upgraded (101): an error of it would end the process. */
const listening = (agent: Agent): void => {
  const connecting = agent as unknown as { createConnection: Connect }
  const connect = connecting.createConnection
  connecting.createConnection = (...args) => {
    const socket = connect.apply(agent, args as Array<unknown>)
    socket?.on("error", constVoid)
    return socket
  }
}

const layerAgent = Layer.scoped(
  HttpAgent,
  Effect.tap(makeAgent(), ({ http, https }) =>
    Effect.sync(() => {
      listening(http)
      listening(https)
    })
  )
)

/** The HTTP client of the exporter. */
export const layerClient = Layer.provide(layerWithoutAgent, layerAgent)

// A bundler leaves out a package that is not installed only where the failure of the import itself is handled.
const missing = (error: unknown): never => {
  throw error
}

/** Imports the package; rejects where it is not installed. */
export const load = () =>
  Promise.all([
    import("@effect/opentelemetry/OtlpTracer").catch(missing),
    import("@effect/opentelemetry/OtlpSerialization").catch(missing)
  ]).then(([{ make }, { layerJson }]) => ({ make, layerJson }))
