/**
 * A round-robin TCP proxy whose connections can be cut, each in the ways in
 * which networks cut them. A connection belongs to the client that names itself
 * in the URL of its upgrade (`?client=17`), so that a cut can choose its client.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type AddressInfo, connect, createServer, type Socket } from "node:net"
import { clock } from "./clock.ts"

/**
 * - `reset`: both ends get a reset at once; what is on its way is lost.
 * - `close`: both ends see the other one close.
 * - `tear`: the next bytes from the server pass in part, then it ends.
 */
export const KINDS = ["reset", "close", "tear"] as const

export type Kind = (typeof KINDS)[number]

/** A connection was cut. */
export interface Cut {
  readonly client: number
  readonly at: number
}

export interface RoundRobin {
  readonly port: number
  /** Cuts the connection of a client; `false`: it has none now. `part` is how much of the bytes a `tear` lets pass. */
  readonly cut: (client: number, kind: Kind, part: number) => boolean
  /** In the order in which they happened. */
  readonly cuts: ReadonlyArray<Cut>
}

/** The first connections of many clients come in one instant. */
const BACKLOG = 4096

const clientOf = (firstBytes: Buffer): number => Number(/^GET \S*[?&]client=(\d+)/.exec(firstBytes.toString())?.[1])

/** Passes connections on to the ports in turn. */
export const start = (ports: ReadonlyArray<number>): Effect.Effect<RoundRobin, never, Scope.Scope> =>
  Effect.gen(function* () {
    const sockets = new Set<Socket>()
    const connections = new Map<number, readonly [inner: Socket, outer: Socket]>()
    const cuts: Array<Cut> = []
    let accepted = 0

    const server = createServer({ allowHalfOpen: true, noDelay: true }, (inner) => {
      const port = ports[accepted++ % ports.length] ?? 0
      const outer = connect({ host: "127.0.0.1", port, allowHalfOpen: true, noDelay: true })
      let client: number | undefined
      inner.once("data", (bytes) => {
        client = clientOf(bytes)
        connections.set(client, [inner, outer])
      })
      inner.pipe(outer)
      outer.pipe(inner)
      const together = (one: Socket, other: Socket): void => {
        sockets.add(one)
        one.on("error", () => undefined)
        one.on("close", () => {
          sockets.delete(one)
          other.destroy()
          if (client !== undefined && connections.get(client)?.[0] === inner) connections.delete(client)
        })
      }
      together(inner, outer)
      together(outer, inner)
    })

    yield* Effect.acquireRelease(
      Effect.async<void>((resume) => void server.listen(0, "127.0.0.1", BACKLOG, () => resume(Effect.void))),
      () =>
        Effect.async<void>((resume) => {
          for (const socket of sockets) socket.destroy()
          server.close(() => resume(Effect.void))
        })
    )

    return {
      port: (server.address() as AddressInfo).port,
      cuts,
      cut: (client, kind, part) => {
        const [inner, outer] = connections.get(client) ?? []
        if (inner === undefined || outer === undefined) return false
        connections.delete(client)
        const now = (): void => void cuts.push({ client, at: clock() })
        switch (kind) {
          case "reset":
            now()
            inner.resetAndDestroy()
            outer.resetAndDestroy()
            break
          case "close":
            now()
            inner.destroy()
            outer.destroy()
            break
          case "tear":
            outer.unpipe(inner)
            outer.once("data", (bytes: Buffer) => {
              now()
              inner.write(bytes.subarray(0, Math.floor(part * bytes.length)))
              inner.destroySoon()
              outer.resetAndDestroy()
            })
            // A pipe that was taken away has paused it.
            outer.resume()
        }
        return true
      }
    }
  })
