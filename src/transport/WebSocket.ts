/**
 * A WebSocket of the `ws` library as a connection uses it. `ws` does the
 * handshake and the reading; frames of the hub are written to the upgraded
 * socket beside it, since `ws` would build a frame for each connection. Both
 * write whole frames, so their order is the order of the calls.
 */
import type { Buffer } from "node:buffer"
import type { Duplex } from "node:stream"
import { WebSocket, WebSocketServer } from "ws"
import type * as Connection from "../Connection.ts"
import * as Codes from "../protocol/Codes.ts"

/** Largest message of a client, in bytes; more is closed with 1009. */
export const MAX_PAYLOAD = 64 * 1024

/** Most fragments of one message. */
const MAX_FRAGMENTS = 64

/** How long the library waits for a peer's close frame after it has sent one by itself, in milliseconds. */
const CLOSE_TIMEOUT = 5000

// A variable, since @types/ws does not know `maxFragments` and `closeTimeout` yet.
const OPTIONS = {
  noServer: true,
  clientTracking: false,
  perMessageDeflate: false,
  maxPayload: MAX_PAYLOAD,
  maxFragments: MAX_FRAGMENTS,
  closeTimeout: CLOSE_TIMEOUT
}

/** Completes handshakes; listens to nothing, keeps nothing. */
export const makeServer = (): WebSocketServer => new WebSocketServer(OPTIONS)

/** Binds a WebSocket and its connection to each other. */
export const bind = (ws: WebSocket, raw: Duplex, connection: Connection.Connection): Connection.Socket => {
  raw.on("drain", () => connection.drained())
  ws.on("message", (data: Buffer, isBinary: boolean) => {
    if (isBinary) connection.end(Codes.unsupportedData, "a binary frame")
    else connection.received(data.toString("utf8"))
  })
  ws.on("pong", () => connection.ponged())
  ws.on("close", (code) => connection.gone(code))
  // A frame that breaks the protocol: the library has sent the close frame already.
  ws.on("error", (error) => connection.end(Codes.protocolError(error), error.message))
  return {
    // A socket that took everything at once has nothing left to drain, whatever `write` returned.
    write: (bytes) => raw.write(bytes) || raw.writableLength === 0,
    isOpen: () => ws.readyState === WebSocket.OPEN,
    ping: () => {
      if (ws.readyState === WebSocket.OPEN) ws.ping()
    },
    close: ({ code, reason }) => ws.close(code, reason),
    terminate: () => ws.terminate(),
    pause: () => ws.pause(),
    resume: () => ws.resume()
  }
}
