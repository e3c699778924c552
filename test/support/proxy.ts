/** A TCP proxy that can go silent without closing, as a network does that has lost a host. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type AddressInfo, connect, createServer, type Socket } from "node:net"

export interface Proxy {
  readonly port: number
  /** No byte passes any more on the connections that are open now, and none is closed. */
  readonly silence: Effect.Effect<void>
  /** Connections ever accepted. */
  readonly accepted: () => number
  /** Bytes that each of them has sent by now, to the target. */
  readonly sent: () => ReadonlyArray<number>
}

/** Passes connections on to a port; `target` is asked for each of them, counted from 0. */
export const start = (target: (index: number) => number): Effect.Effect<Proxy, never, Scope.Scope> =>
  Effect.gen(function* () {
    const sockets = new Set<Socket>()
    const silent = new Set<Socket>()
    const sent: Array<number> = []
    let accepted = 0
    const server = createServer({ allowHalfOpen: true }, (inner) => {
      const own = accepted++
      const outer = connect(target(own), "127.0.0.1")
      sent[own] = 0
      inner.on("data", (bytes: Uint8Array) => {
        sent[own] = (sent[own] ?? 0) + bytes.length
      })
      for (const socket of [inner, outer]) {
        sockets.add(socket)
        socket.on("error", () => undefined)
      }
      inner.pipe(outer)
      outer.pipe(inner)
      const together = (one: Socket, other: Socket): void => {
        one.on("close", () => {
          if (!silent.has(one)) other.destroy()
        })
      }
      together(inner, outer)
      together(outer, inner)
    })
    yield* Effect.acquireRelease(
      Effect.async<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
      () =>
        Effect.async<void>((resume) => {
          for (const socket of sockets) socket.destroy()
          server.close(() => resume(Effect.void))
        })
    )
    return {
      port: (server.address() as AddressInfo).port,
      accepted: () => accepted,
      sent: () => Array.from(sent),
      silence: Effect.sync(() => {
        for (const socket of sockets) {
          silent.add(socket)
          socket.unpipe()
          socket.pause()
        }
      })
    }
  })
