/** A TCP connection on which a test writes and reads HTTP by itself. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { connect } from "node:net"
import { type NeverHappened, Watched } from "./wait.ts"

export interface Tcp {
  readonly write: (text: string) => void
  /** Everything received so far. */
  readonly received: () => string
  /** Waits until what was received contains a text so many times. */
  readonly gets: (text: string, times?: number) => Effect.Effect<void, NeverHappened>
  readonly isClosed: () => boolean
  /** Waits until the other side has closed it. */
  readonly closed: Effect.Effect<void, NeverHappened>
}

/** Connects to a port of this machine; the connection is destroyed when the scope closes. */
export const open = (port: number): Effect.Effect<Tcp, NeverHappened, Scope.Scope> =>
  Effect.gen(function* () {
    const watched = new Watched()
    let received = ""
    let isConnected = false
    let isClosed = false
    const socket = yield* Effect.acquireRelease(
      Effect.sync(() => connect({ port, host: "127.0.0.1", noDelay: true })),
      (open) => Effect.sync(() => open.destroy())
    )
    socket.on("error", () => undefined)
    socket.setEncoding("latin1").on("data", (text: string) => {
      received += text
      watched.changed()
    })
    socket.on("connect", () => {
      isConnected = true
      watched.changed()
    })
    socket.on("close", () => {
      isClosed = true
      watched.changed()
    })
    yield* watched.until(() => isConnected || isClosed, `a connection to ${port}`)
    return {
      write: (text) => void socket.write(text, "latin1"),
      received: () => received,
      gets: (text, times = 1) =>
        watched.until(
          () => received.split(text).length > times,
          () => `${JSON.stringify(text)}, ${times} times; received:\n${received}`
        ),
      isClosed: () => isClosed,
      closed: watched.until(
        () => isClosed,
        () => `closed by the other side; received:\n${received}`
      )
    }
  })
