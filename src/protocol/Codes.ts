/**
 * The codes of the Centrifugal client protocol: errors in replies, unsubscribe
 * pushes and disconnects (centrifugal.dev, "Client protocol codes"). The
 * client reconnects after a disconnect of 3000 to 3499 and stays away after
 * 3500 to 3999.
 */

import { Buffer } from "node:buffer"

/** An error in a reply. */
export interface ErrorCode {
  readonly code: number
  readonly message: string
  /** The same command may succeed later. */
  readonly temporary?: true
}

export const internal = { code: 100, message: "internal server error", temporary: true } as const satisfies ErrorCode
export const unauthorized = { code: 101, message: "unauthorized" } as const satisfies ErrorCode
export const unknownChannel = { code: 102, message: "unknown channel" } as const satisfies ErrorCode
export const permissionDenied = { code: 103, message: "permission denied" } as const satisfies ErrorCode
export const methodNotFound = { code: 104, message: "method not found" } as const satisfies ErrorCode
export const alreadySubscribed = { code: 105, message: "already subscribed" } as const satisfies ErrorCode
export const limitExceeded = { code: 106, message: "limit exceeded" } as const satisfies ErrorCode
export const badRequest = { code: 107, message: "bad request" } as const satisfies ErrorCode
export const notAvailable = { code: 108, message: "not available" } as const satisfies ErrorCode
export const tokenExpired = { code: 109, message: "token expired" } as const satisfies ErrorCode
export const expired = { code: 110, message: "expired" } as const satisfies ErrorCode
export const tooManyRequests = {
  code: 111,
  message: "too many requests",
  temporary: true
} as const satisfies ErrorCode
export const unrecoverable = { code: 112, message: "unrecoverable position" } as const satisfies ErrorCode

/** Why the server has ended a subscription: 2500 and above, the client subscribes again. */
export interface Unsubscribe {
  readonly code: number
  readonly reason: string
}

export const serverUnsubscribe: Unsubscribe = { code: 2000, reason: "server unsubscribe" }
export const insufficient: Unsubscribe = { code: 2500, reason: "insufficient state" }
export const subscriptionExpired: Unsubscribe = { code: 2501, reason: "subscription expired" }

/** Why a connection ends: WebSocket close code and reason. */
export interface Disconnect {
  readonly code: number
  readonly reason: string
}

export const connectionClosed: Disconnect = { code: 3000, reason: "connection closed" }
export const shutdown: Disconnect = { code: 3001, reason: "shutdown" }
export const serverError: Disconnect = { code: 3004, reason: "internal server error" }
export const connectionExpired: Disconnect = { code: 3005, reason: "connection expired" }
export const subscriptionExpiredDisconnect: Disconnect = { code: 3006, reason: "subscription expired" }
export const slow: Disconnect = { code: 3008, reason: "slow" }
export const insufficientState: Disconnect = { code: 3010, reason: "insufficient state" }
export const noPong: Disconnect = { code: 3012, reason: "no pong" }
export const tooManyRequestsDisconnect: Disconnect = { code: 3013, reason: "too many requests" }
export const invalidToken: Disconnect = { code: 3500, reason: "invalid token" }
export const badRequestDisconnect: Disconnect = { code: 3501, reason: "bad request" }
export const stale: Disconnect = { code: 3502, reason: "stale" }
export const forceDisconnect: Disconnect = { code: 3503, reason: "force disconnect" }
export const connectionLimit: Disconnect = { code: 3504, reason: "connection limit" }
export const channelLimit: Disconnect = { code: 3505, reason: "channel limit" }
export const permissionDeniedDisconnect: Disconnect = { code: 3507, reason: "permission denied" }
export const notAvailableDisconnect: Disconnect = { code: 3508, reason: "not available" }
export const tooManyErrors: Disconnect = { code: 3509, reason: "too many errors" }

/** Whether a number is what `client.proto` has for a code: 32 bits, without a sign. */
const isCode = (code: number): boolean => Number.isInteger(code) && code > 0 && code < 2 ** 32

/** What a reply can carry of an error: one whose code is none, as a hook may give it, is 100. */
export const forReply = (error: ErrorCode): ErrorCode => (isCode(error.code) ? error : internal)

/** What a push can carry of the end of a subscription: one whose code is none is 2000. */
export const forPush = (why: Unsubscribe): Unsubscribe =>
  isCode(why.code) ? why : { code: serverUnsubscribe.code, reason: why.reason }

/** Closes of RFC 6455, section 7.4.1. */
export const unsupportedData: Disconnect = { code: 1003, reason: "text frames only" }
export const publishFailed: Disconnect = { code: 1011, reason: "publish failed" }

const PROTOCOL_ERRORS: Readonly<Record<string, number>> = {
  WS_ERR_UNSUPPORTED_MESSAGE_LENGTH: 1009,
  WS_ERR_UNSUPPORTED_DATA_PAYLOAD_LENGTH: 1009,
  WS_ERR_TOO_MANY_BUFFERED_PARTS: 1008,
  WS_ERR_INVALID_UTF8: 1007
}

/** Any other error of a frame. */
const PROTOCOL_ERROR = 1002

/** The close codes for frames that break the protocol. */
export const protocolErrors: ReadonlyArray<number> = [PROTOCOL_ERROR, ...new Set(Object.values(PROTOCOL_ERRORS))]

/** The close code for a frame that a WebSocket library refused with this error. */
export const protocolError = (error: Error): Disconnect => ({
  code: PROTOCOL_ERRORS["code" in error && typeof error.code === "string" ? error.code : ""] ?? PROTOCOL_ERROR,
  reason: ""
})

/** Longest reason of a close frame, in bytes (RFC 6455, section 5.5: 125 less the code). */
const MAX_REASON = 123

const isCloseCode = (code: number): boolean =>
  (Number.isInteger(code) && code >= 3000 && code <= 4999) ||
  (code >= 1000 && code <= 1011 && code !== 1004 && code !== 1005 && code !== 1006)

/** What a close frame can carry of it: a valid code (else 3004), and a reason cut to fit, between characters. */
export const forCloseFrame = (disconnect: Disconnect): Disconnect => {
  const characters = Array.from(disconnect.reason).slice(0, MAX_REASON)
  while (Buffer.byteLength(characters.join("")) > MAX_REASON) characters.pop()
  return { code: isCloseCode(disconnect.code) ? disconnect.code : serverError.code, reason: characters.join("") }
}
