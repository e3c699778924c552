/** How an upgrade is refused: with a status and a line of text, and a line in the log that says what would permit it. */
import * as Effect from "effect/Effect"
import { Buffer } from "node:buffer"
import { STATUS_CODES } from "node:http"
import type { Duplex } from "node:stream"
import { clearTimeout, setTimeout } from "node:timers"
import type * as Hooks from "../Hooks.ts"
import type * as Metrics from "../Metrics.ts"
import * as Codes from "../protocol/Codes.ts"

/** Why a client may not come in. */
export interface Refusal {
  readonly status: number
  readonly reason: Metrics.RefusalReason
  /** For the client. */
  readonly message: string
  /** For the log, beside the message. */
  readonly detail?: string
  readonly retryAfter?: number
}

/** How long a refused client may take to take the answer, in milliseconds. */
const ANSWER_TIMEOUT = 2000

/** Answers an upgrade with a status, and closes the socket once that is written. */
export const answer = (socket: Duplex, status: number, message: string, retryAfter?: number): void => {
  const body = `${message}\n`
  // Node has taken its own listeners off an upgraded socket: a reset would be an uncaught exception.
  socket.on("error", () => undefined)
  socket.once("finish", () => socket.destroy())
  const impatient = setTimeout(() => socket.destroy(), ANSWER_TIMEOUT)
  socket.once("close", () => clearTimeout(impatient))
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\n${retryAfter === undefined ? "" : `Retry-After: ${retryAfter}\r\n`}\r\n${body}`
  )
}

const STATUS_OF_CODE: Readonly<Record<number, number>> = {
  [Codes.unknownChannel.code]: 404,
  [Codes.unauthorized.code]: 401,
  [Codes.invalidToken.code]: 401,
  [Codes.tokenExpired.code]: 401
}

/** When a client may try again. */
export const RETRY_AFTER_SECONDS = 1

/** What a hook has decided. */
export const refusalOf = (rejected: Hooks.Rejected): Refusal => {
  const status = STATUS_OF_CODE[rejected.code] ?? 403
  return {
    status,
    reason: status === 401 ? "token" : status === 404 ? "channel" : "permission",
    message: rejected.message,
    ...(rejected.detail === undefined ? {} : { detail: rejected.detail })
  }
}

/** The broker does not do it now. */
export const brokerRefusal = (detail: string): Refusal => ({
  status: 503,
  reason: "broker",
  message: "the broker is not live",
  detail,
  retryAfter: RETRY_AFTER_SECONDS
})

/** The query asks for what there is not. */
export const badQuery = (message: string) => Effect.fail<Refusal>({ status: 400, reason: "path", message })
