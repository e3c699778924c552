/**
 * Stands in front of the listeners that an HTTP server has already: they get
 * what is not ours, and only that. Frameworks answer whatever reaches them, if
 * only with a 404, and `ws` answers every upgrade that is not its own with a 400.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { IncomingMessage, Server, ServerResponse } from "node:http"
import type { Socket } from "node:net"

/** Handles an event that is its own; `false` leaves it to the others. */
export type Handler<Rest extends ReadonlyArray<unknown>> = (request: IncomingMessage, ...rest: Rest) => boolean

// deno-lint-ignore no-explicit-any
type Listener = (...args: ReadonlyArray<any>) => void

/** Puts `handler` before the listeners of `event`; they are put back when the scope closes. */
export const intercept = <Rest extends ReadonlyArray<unknown>>(
  server: Server,
  event: "request" | "upgrade",
  handler: Handler<Rest>
): Effect.Effect<void, never, Scope.Scope> =>
  Effect.asVoid(
    Effect.acquireRelease(
      Effect.sync(() => {
        const others = server.rawListeners(event) as unknown as ReadonlyArray<(...args: ReadonlyArray<unknown>) => void>
        const first = (request: IncomingMessage, ...rest: Rest): void => {
          if (handler(request, ...rest)) return
          for (const other of others) other.call(server, request, ...rest)
        }
        for (const other of others) server.off(event, other)
        server.on(event, first as Listener)
        return { first, others }
      }),
      ({ first, others }) =>
        Effect.sync(() => {
          server.off(event, first as Listener)
          for (const other of others) server.on(event, other)
        })
    )
  )

/** What waits for the end of responses on a connection. */
const waiting = new WeakMap<Socket, Set<() => void>>()

const waitingOn = (socket: Socket): Set<() => void> => {
  const known = waiting.get(socket)
  if (known !== undefined) return known
  const callbacks = new Set<() => void>()
  waiting.set(socket, callbacks)
  socket.once("close", () => {
    for (const callback of callbacks) callback()
  })
  return callbacks
}

/**
 * A response whose `end` calls back in any case. Node calls back once it has
 * sent everything: never, where the client is gone before that, and so the
 * fiber of the platform that waits for it, and the answer that it holds, would
 * stay for good. A client that asks many times, reads nothing and leaves would
 * fill the memory.
 */
export const ending = ({ socket }: IncomingMessage, response: ServerResponse): ServerResponse => {
  const end = response.end.bind(response) as (...args: ReadonlyArray<unknown>) => ServerResponse
  const patched = (...args: ReadonlyArray<unknown>): ServerResponse => {
    const last = args.at(-1)
    if (typeof last !== "function") return end(...args)
    const callbacks = waitingOn(socket)
    const done = (): void => {
      if (callbacks.delete(done)) last()
    }
    callbacks.add(done)
    const ended = end(...args.slice(0, -1), done)
    // Answers that waited for others on the connection are sent by nobody, once it is closed.
    if (socket.destroyed) queueMicrotask(done)
    return ended
  }
  response.end = patched as typeof response.end
  return response
}
