/** What exports traces, in one piece that is loaded only where they are: it needs a package that not everybody has. */
export { make } from "@effect/opentelemetry/OtlpTracer"
export { layerJson } from "@effect/opentelemetry/OtlpSerialization"
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
