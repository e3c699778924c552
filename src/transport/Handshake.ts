/** Whether a request is a WebSocket handshake (RFC 6455, section 4.1), and what keeps it from being one. */
import type { IncomingMessage } from "node:http"

const lists = (value: string | undefined, option: string): boolean =>
  value !== undefined && value.split(",").some((part) => part.trim().toLowerCase() === option)

const offers = (request: IncomingMessage, protocol: string): boolean =>
  request.headers.upgrade?.trim().toLowerCase() === protocol

/** Whether a request asks for a WebSocket. Its key and version are the library's to check. */
export const isHandshake = (request: IncomingMessage): boolean =>
  request.method === "GET" && offers(request, "websocket") && lists(request.headers.connection, "upgrade")

/** Whether a request offers HTTP/2, as every request of some clients does. */
export const isHttp2 = (request: IncomingMessage): boolean => lists(request.headers.upgrade, "h2c")

/** Whether a request means a WebSocket, however little of its handshake is left. */
export const isMeant = ({ headers }: IncomingMessage): boolean =>
  lists(headers.upgrade, "websocket") || headers["sec-websocket-key"] !== undefined

/** Whether the connection ends with the answer to a request. */
export const isLast = ({ headers, httpVersion }: IncomingMessage): boolean =>
  lists(headers.connection, "close") || (httpVersion === "1.0" && !lists(headers.connection, "keep-alive"))

/** What keeps a request from being a handshake. */
export const missing = ({ headers, httpVersion, method }: IncomingMessage): string => {
  if (method !== "GET") return `the method of the request is ${method}`
  if (httpVersion === "1.0") return "the request came over HTTP/1.0"
  if (headers.upgrade === undefined) return "the request has no header Upgrade"
  if (headers.upgrade.trim().toLowerCase() !== "websocket") return `the request offers Upgrade: ${headers.upgrade}`
  return "the header Connection of the request does not name Upgrade"
}
