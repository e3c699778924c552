/**
 * Stands in front of the listeners that an HTTP server has already: they get
 * what is not ours, and only that. Frameworks answer whatever reaches them, if
 * only with a 404, and `ws` answers every upgrade that is not its own with a 400.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { IncomingMessage, Server } from "node:http"

/** Handles an event that is its own; `false` leaves it to the others. */
export type Handler<Rest extends ReadonlyArray<unknown>> = (request: IncomingMessage, ...rest: Rest) => boolean

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
        server.on(event, first as (...args: ReadonlyArray<any>) => void)
        return { first, others }
      }),
      ({ first, others }) =>
        Effect.sync(() => {
          server.off(event, first as (...args: ReadonlyArray<any>) => void)
          for (const other of others) server.on(event, other)
        })
    )
  )
