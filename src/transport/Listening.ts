/** Where an HTTP server listens, as far as the rule about `Host` goes by it (`Origin`). */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Server } from "node:http"
import { Socket } from "node:net"
import type { Duplex } from "node:stream"
import * as Origin from "./Origin.ts"

/** Tells of a connection where the server listens that has accepted it. */
export class Listening extends Context.Tag("fanfare/Listening")<Listening, (socket: Duplex) => Origin.Bound>() {}

/** The address that a server listens on; `""` for a Unix socket, which no browser reaches, `undefined` while it does not listen. */
const addressOf = (server: Server): string | undefined => {
  const address = server.address()
  return typeof address === "string" ? "" : address?.address
}

/**
 * Asks the server itself, once each time that it begins to listen: its program
 * may listen wherever it likes, later than now, and again elsewhere. Where the
 * server does not listen, since its program hands it connections from elsewhere,
 * each connection is asked.
 *
 * `host` is the option, for a server that listens on it by itself; `undefined`
 * for one whose program listens.
 */
export const make = (
  server: Server,
  host: string | undefined
): Effect.Effect<(socket: Duplex) => Origin.Bound, never, Scope.Scope> =>
  Effect.gen(function* () {
    let known: Origin.Bound | undefined
    const boundTo = (address: string): Origin.Bound => ({ toLoopback: Origin.isLoopback(address), host })
    const ask = (): Origin.Bound | undefined => {
      const address = addressOf(server)
      return address === undefined ? undefined : boundTo(address)
    }
    const forget = (): void => {
      known = undefined
    }
    yield* Effect.acquireRelease(
      Effect.sync(() => server.on("listening", forget)),
      () => Effect.sync(() => server.off("listening", forget))
    )
    return (socket) => {
      known ??= ask()
      return known ?? boundTo((socket instanceof Socket && socket.localAddress) || "")
    }
  })
