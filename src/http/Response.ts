/** Responses of Node's whose end is always told. */
import type { IncomingMessage, ServerResponse } from "node:http"
import type { Socket } from "node:net"

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
