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
import { answer } from "../transport/Refusal.ts"

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

/** The headers in which Node's parser finds the option: it takes the one for proxies for the other. */
const CONNECTION = /^(proxy-)?connection$/i

/**
 * The head of a request as it came, but for the offer; never longer, so that it
 * keeps within the bound it has kept. `undefined` where the offer is in no
 * header that is known: with it the request would come back for ever.
 */
const headOf = ({ httpVersion, method, rawHeaders, url }: IncomingMessage): string | undefined => {
  let head = `${method} ${url} HTTP/${httpVersion}\r\n`
  let isWithout = false
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const [name = "", value = ""] = rawHeaders.slice(at, at + 2)
    const isOffer = CONNECTION.test(name) && value.split(",").some(isUpgrade)
    const kept = isOffer ? withoutUpgrade(value) : value
    isWithout ||= isOffer
    if (kept !== "" || !isOffer) head += `${name}:${kept}\r\n`
  }
  return isWithout ? `${head}\r\n` : undefined
}

/** How many names and values Node keeps of the headers of a request, where the server does not say how many headers. */
const MOST_KEPT = 2000

/**
 * Whether Node may have dropped headers. Its parser has gone by them: without
 * the one that says how long the body is, what is in the body would be read as
 * the next request.
 */
const isCut = (server: Server, { rawHeaders }: IncomingMessage): boolean => {
  const { maxHeadersCount } = server
  const most = typeof maxHeadersCount === "number" ? maxHeadersCount * 2 : MOST_KEPT
  return most > 0 && rawHeaders.length >= most
}

/** The response that has the socket; those behind it on the connection wait. Node tells it nowhere else. */
const answering = (socket: Socket): ServerResponse | undefined =>
  (socket as unknown as { readonly _httpMessage?: ServerResponse | null })["_httpMessage"] ?? undefined

/** Sockets whose request waits, by server. Without a parser they are not among its connections. */
const waiting = new WeakMap<Server, Set<Socket>>()

const waitingOn = (server: Server): Set<Socket> => {
  const sockets = waiting.get(server) ?? new Set<Socket>()
  waiting.set(server, sockets)
  return sockets
}

/** Ends the connections on which a request waits to be put back: `closeAllConnections` does not know them. */
export const destroyWaiting = (server: Server): void => {
  for (const socket of waitingOn(server)) socket.destroy()
}

/**
 * Waits until requests that came before on the connection are answered. Node
 * has taken its own listeners off the socket: an error would be an uncaught one,
 * and a response that waits for `drain` would wait for ever.
 */
const whenAnswered = (server: Server, socket: Socket, next: () => void): void => {
  if (answering(socket) === undefined) return next()
  const sockets = waitingOn(server)
  const onClose = (): void => void sockets.delete(socket)
  const onError = (): void => undefined
  const onDrain = (): void => void answering(socket)?.emit("drain")
  const look = (): void => {
    const pending = answering(socket)
    // Node's own listener has run before: it gives the socket to the response after this one.
    if (pending !== undefined) return void pending.once("finish", look)
    sockets.delete(socket)
    socket.off("close", onClose)
    socket.off("error", onError)
    socket.off("drain", onDrain)
    next()
  }
  sockets.add(socket)
  socket.on("close", onClose)
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
  // A server without TLS may have been handed sockets that have it.
  const listeners = ["secureConnection", "connection"].flatMap((event) => server.rawListeners(event))
  const own = listeners.find(({ name }) => name === "connectionListener")
  if (own === undefined) server.emit("encrypted" in socket ? "secureConnection" : "connection", socket)
  else own.call(server, socket)
  removeRepeated(socket, "pause")
  removeRepeated(socket, "resume")
}

/** Gives a request back to the server, with `head`, which is what has come behind the request's own head. */
export const putBack = (server: Server, request: IncomingMessage, socket: Socket, head: Buffer): void =>
  whenAnswered(server, socket, () => {
    // The response before it was the last one on the connection.
    if (socket.destroyed || socket.writableEnded) return
    if (isCut(server, request)) return answer(socket, 431, "too many headers")
    const before = headOf(request)
    if (before === undefined) return answer(socket, 400, "an offer to upgrade that is not understood")
    // The time-out of an idle connection, which the response before it has set.
    socket.setTimeout(0)
    socket.unshift(Buffer.concat([Buffer.from(before, "latin1"), head]))
    read(server, socket)
  })
