/**
 * A WebSocket of the `ws` library as a connection uses it. `ws` does the
 * handshake and the reading; frames of the hub are written to the upgraded
 * socket beside it, since `ws` would build a frame for each connection. Both
 * write whole frames, so their order is the order of the calls.
 */
import type { Buffer } from "node:buffer"
import type { Duplex } from "node:stream"
import { type Server, WebSocket, WebSocketServer } from "ws"
import type * as Connection from "../Connection.ts"
import type * as Hub from "../Hub.ts"
import * as Codes from "../protocol/Codes.ts"
import * as Publisher from "../Publisher.ts"

/** Largest frame of a plain socket, in bytes: it is a publication. */
const MAX_PUBLICATION = Publisher.MAX_BYTES

/** Most fragments of one message: that of a client which writes 1 KiB at a time (that of Go writes 4), and 64 at least. */
const maxFragments = (maxPayload: number): number => Math.max(64, Math.ceil(maxPayload / 1024))

/** How long the library waits for a peer's close frame after it has sent one by itself, in milliseconds. */
const CLOSE_TIMEOUT = 5000

/** A WebSocket that knows its connection, so that its listeners are the same functions as those of all others. */
class Peer extends WebSocket {
  connection: Connection.Connection | undefined
}

// A value of its own, since @types/ws does not know `closeTimeout` yet.
const options = (maxPayload: number) => ({
  noServer: true,
  clientTracking: false,
  perMessageDeflate: false,
  maxPayload,
  maxFragments: maxFragments(maxPayload),
  closeTimeout: CLOSE_TIMEOUT,
  WebSocket: Peer
})

/** Completes handshakes; listens to nothing, keeps nothing. */
export type Servers = Readonly<Record<Hub.Encoding, Server<typeof Peer>>>

/** Those of both protocols. A larger message of a client than `maxMessage` bytes, or than a publication has on a plain socket, is closed with 1009. */
export const makeServers = (maxMessage: number): Servers => ({
  protocol: new WebSocketServer(options(maxMessage)),
  plain: new WebSocketServer(options(Math.min(maxMessage, MAX_PUBLICATION)))
})

function onMessage(this: WebSocket, data: Buffer, isBinary: boolean): void {
  const { connection } = this as Peer
  if (isBinary) connection?.end(Codes.unsupportedData, "a binary frame")
  else connection?.received(data.toString("utf8"))
}

function onPong(this: WebSocket): void {
  ;(this as Peer).connection?.ponged()
}

function onClose(this: WebSocket, code: number): void {
  ;(this as Peer).connection?.gone(code)
}

// A frame that breaks the protocol: the library has sent the close frame already.
function onError(this: WebSocket, error: Error): void {
  ;(this as Peer).connection?.end(Codes.protocolError(error), error.message)
}

class Bound implements Connection.Socket {
  readonly #ws: Peer
  readonly #raw: Duplex

  constructor(ws: Peer, raw: Duplex) {
    this.#ws = ws
    this.#raw = raw
  }

  // A socket that took everything at once has nothing left to drain, whatever `write` returned.
  write(bytes: Buffer): boolean {
    return this.#raw.write(bytes) || this.#raw.writableLength === 0
  }

  isOpen(): boolean {
    return this.#ws.readyState === WebSocket.OPEN
  }

  ping(): void {
    if (this.#ws.readyState === WebSocket.OPEN) this.#ws.ping()
  }

  close({ code, reason }: Codes.Disconnect): void {
    this.#ws.close(code, reason)
  }

  terminate(): void {
    this.#ws.terminate()
  }

  pause(): void {
    this.#ws.pause()
  }

  resume(): void {
    this.#ws.resume()
  }
}

/** Binds a WebSocket and its connection to each other. */
export const bind = (ws: Peer, raw: Duplex, connection: Connection.Connection): Connection.Socket => {
  ws.connection = connection
  raw.on("drain", () => connection.drained())
  ws.on("message", onMessage)
  ws.on("pong", onPong)
  ws.on("close", onClose)
  ws.on("error", onError)
  return new Bound(ws, raw)
}
