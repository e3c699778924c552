/**
 * Gives an HTTP server a request again that Node has handed over as an upgrade,
 * so that it is answered as the ordinary request that it is: an offer to upgrade
 * may be declined (RFC 9110, section 7.8).
 *
 * For releases of Node without `shouldUpgradeCallback` (before 24.9). Node has
 * taken its parser off the socket by then. The head of the request and what has
 * come of its body go back to the front of the socket's input, without the
 * offer, and Node's own listener for new connections reads on from there.
 */
import { Buffer } from "node:buffer"
import type { IncomingMessage, Server, ServerResponse } from "node:http"
import type { Socket } from "node:net"

// deno-lint-ignore no-explicit-any
type Listener = (...args: ReadonlyArray<any>) => void

const isUpgrade = (option: string): boolean => option.trim().toLowerCase() === "upgrade"

/** The options of a `Connection` header, without the one that makes `Upgrade` count. */
const withoutUpgrade = (value: string): string =>
  value
    .split(",")
    .filter((option) => !isUpgrade(option))
    .join(",")
    .trim()

/** The head of a request as it came, but for the offer; never longer, so that it keeps within the bound it has kept. */
const headOf = ({ httpVersion, method, rawHeaders, url }: IncomingMessage): string => {
  let head = `${method} ${url} HTTP/${httpVersion}\r\n`
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const [name = "", value = ""] = rawHeaders.slice(at, at + 2)
    const kept = name.toLowerCase() === "connection" ? withoutUpgrade(value) : value
    if (kept !== "" || value === "") head += `${name}:${kept}\r\n`
  }
  return `${head}\r\n`
}

/** The response that has the socket; those behind it on the connection wait. Node tells it nowhere else. */
const answering = (socket: Socket): ServerResponse | undefined =>
  (socket as unknown as { readonly _httpMessage?: ServerResponse | null })["_httpMessage"] ?? undefined

/**
 * Waits until requests that came before on the connection are answered. Node
 * has taken its own listeners off the socket: an error would be an uncaught one,
 * and a response that waits for `drain` would wait for ever.
 */
const whenAnswered = (socket: Socket, next: () => void): void => {
  const onError = (): void => undefined
  const onDrain = (): void => void answering(socket)?.emit("drain")
  const look = (): void => {
    const pending = answering(socket)
    // Node's own listener has run before: it gives the socket to the response after this one.
    if (pending !== undefined) return void pending.once("finish", look)
    socket.off("error", onError)
    socket.off("drain", onDrain)
    next()
  }
  socket.on("error", onError)
  socket.on("drain", onDrain)
  look()
}

/** Node's own listener is the same function each time. A long-lived connection would get one more for each request. */
const removeRepeated = (socket: Socket, event: "pause" | "resume"): void => {
  const seen = new Set<unknown>()
  for (const listener of socket.rawListeners(event)) {
    if (seen.has(listener)) socket.off(event, listener as Listener)
    seen.add(listener)
  }
}

/**
 * Has Node read from a socket as from a new connection. Not with `emit`: other
 * listeners for connections know this one already.
 */
const read = (server: Server, socket: Socket): void => {
  const event = "encrypted" in socket ? "secureConnection" : "connection"
  const own = server.rawListeners(event).find(({ name }) => name === "connectionListener")
  if (own === undefined) server.emit(event, socket)
  else own.call(server, socket)
  removeRepeated(socket, "pause")
  removeRepeated(socket, "resume")
}

/** Gives a request back to the server, with `head`, which is what has come behind the request's own head. */
export const putBack = (server: Server, request: IncomingMessage, socket: Socket, head: Buffer): void =>
  whenAnswered(socket, () => {
    // The response before it was the last one on the connection.
    if (socket.destroyed || socket.writableEnded) return
    // The time-out of an idle connection, which the response before it has set.
    socket.setTimeout(0)
    socket.unshift(Buffer.concat([Buffer.from(headOf(request), "latin1"), head]))
    read(server, socket)
  })
