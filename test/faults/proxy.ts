/**
 * A TCP proxy that behaves as networks do: it cuts connections, resets them,
 * goes silent without closing, delays, throttles, and each of that in one
 * direction only, for all connections or for some.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type AddressInfo, connect, createServer, type Socket } from "node:net"
import { type Behaviour, Pipe } from "./pipe.ts"

/** `up`: to the server; `down`: from it. */
export type Direction = "up" | "down" | "both"

/** One connection through the proxy. */
export interface Connection {
  /** Counted from 0. */
  readonly index: number
  /** The port to which it goes. */
  readonly target: number
  /** Bytes that have passed. */
  readonly passed: () => { readonly up: number; readonly down: number }
}

/** Which of the open connections; all by default. */
export type Selection = (connection: Connection) => boolean

export interface Proxy {
  readonly port: number
  /** Connections ever accepted. */
  readonly accepted: () => number
  /** Those that are open. */
  readonly connections: () => ReadonlyArray<Connection>
  /** Both ends of connections see the other one close, behind what has passed. Returns how many there were. */
  readonly cut: (selection?: Selection) => Effect.Effect<number>
  /** Both ends of connections get a reset; what is on its way is lost. */
  readonly reset: (selection?: Selection) => Effect.Effect<number>
  /** How bytes pass from now on in open connections, until they are told otherwise. */
  readonly behave: (behaviour: Behaviour, direction?: Direction, selection?: Selection) => Effect.Effect<number>
  /** The same in all connections, those that are not open yet, too. */
  readonly behaveAll: (behaviour: Behaviour, direction?: Direction) => Effect.Effect<void>
  /** Everything passes at once again, in all connections; what has waited first. */
  readonly heal: Effect.Effect<void>
}

interface Open extends Connection {
  readonly inner: Socket
  readonly outer: Socket
  readonly up: Pipe
  readonly down: Pipe
}

const NORMAL: Behaviour = {}

const discard = ({ down, up }: Open): void => {
  up.discard()
  down.discard()
}

/** Passes connections on to a port of 127.0.0.1; `target` is asked for each of them, counted from 0. `undefined`: it is refused. */
export const start = (target: (index: number) => number | undefined): Effect.Effect<Proxy, never, Scope.Scope> =>
  Effect.gen(function* () {
    const open = new Set<Open>()
    const normal = { up: NORMAL, down: NORMAL }
    let accepted = 0

    const accept = (inner: Socket): void => {
      const index = accepted++
      const port = target(index)
      inner.on("error", () => undefined)
      if (port === undefined) return void inner.resetAndDestroy()
      const outer = connect({ host: "127.0.0.1", port, allowHalfOpen: true, noDelay: true })
      outer.on("error", () => undefined)
      const up = new Pipe(inner, outer, normal.up)
      const down = new Pipe(outer, inner, normal.down)
      const connection: Open = {
        index,
        target: port,
        passed: () => ({ up: up.passed, down: down.passed }),
        inner,
        outer,
        up,
        down
      }
      open.add(connection)
      const together = (one: Socket, other: Socket, pipe: Pipe): void => {
        one.on("close", (isBroken) => {
          if (other.destroyed) {
            discard(connection)
            open.delete(connection)
          } else if (isBroken) {
            pipe.broken()
          }
        })
      }
      together(inner, outer, up)
      together(outer, inner, down)
    }

    const server = createServer({ allowHalfOpen: true, noDelay: true }, accept)
    yield* Effect.acquireRelease(
      Effect.async<void>((resume) => void server.listen(0, "127.0.0.1", 4096, () => resume(Effect.void))),
      () =>
        Effect.async<void>((resume) => {
          for (const connection of open) {
            discard(connection)
            connection.inner.destroy()
            connection.outer.destroy()
          }
          server.close(() => resume(Effect.void))
        })
    )

    const each = (selection: Selection, act: (connection: Open) => void): Effect.Effect<number> =>
      Effect.sync(() => {
        const selected = Array.from(open).filter(selection)
        for (const connection of selected) act(connection)
        return selected.length
      })
    const all: Selection = () => true

    const set = ({ down, up }: Open, behaviour: Behaviour, direction: Direction): void => {
      if (direction !== "down") up.behaviour = behaviour
      if (direction !== "up") down.behaviour = behaviour
    }

    const behaveAll: Proxy["behaveAll"] = (behaviour, direction = "both") =>
      Effect.sync(() => {
        if (direction !== "down") normal.up = behaviour
        if (direction !== "up") normal.down = behaviour
        for (const connection of open) set(connection, behaviour, direction)
      })

    return {
      port: (server.address() as AddressInfo).port,
      accepted: () => accepted,
      connections: () => Array.from(open),
      cut: (selection = all) =>
        each(selection, (connection) => {
          discard(connection)
          connection.inner.destroySoon()
          connection.outer.destroySoon()
        }),
      reset: (selection = all) =>
        each(selection, (connection) => {
          discard(connection)
          connection.inner.resetAndDestroy()
          connection.outer.resetAndDestroy()
        }),
      behave: (behaviour, direction = "both", selection = all) =>
        each(selection, (connection) => set(connection, behaviour, direction)),
      behaveAll,
      heal: behaveAll(NORMAL)
    }
  })
