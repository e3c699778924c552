/** What is answered to requests for what is not served, with a line in the log and a count. */
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Effect from "effect/Effect"
import * as LogLevel from "effect/LogLevel"
import type { IncomingMessage } from "node:http"
import type * as Metrics from "../Metrics.ts"
import * as Handshake from "../transport/Handshake.ts"
import * as Target from "../transport/Target.ts"

/** Sockets are not on the internal port. */
export const NOT_HERE = "not found: sockets are on the main port, not on http_server.internal_port"

/** What a proxy in front has to do. */
const FORWARD =
  "a WebSocket handshake is needed here; a proxy in front has to speak HTTP/1.1 and to forward the headers Upgrade and Connection"

interface Refused {
  readonly status: number
  readonly reason: Metrics.RefusalReason
  /** For the client, and for the log. */
  readonly message: string
  /** For the log, beside the message. */
  readonly detail?: string | undefined
  readonly headers?: Record<string, string>
  /** Whether it is likely that a client of ours wanted in; there are many others who look for what is not here. */
  readonly isOurs: boolean
}

const wrongMethod = (allow: string, isOurs: boolean): Refused => ({
  status: 405,
  reason: isOurs ? "handshake" : "path",
  message: `the method has to be ${allow.replaceAll(", ", " or ")}`,
  headers: { allow },
  isOurs
})

/** A request to a socket's path. Answered with 426 (RFC 9110, section 15.5.22) where it only lacks the headers. */
const atSocket = (request: IncomingMessage): Refused =>
  request.method !== "GET" && request.method !== "HEAD"
    ? wrongMethod("GET", true)
    : {
        status: 426,
        reason: "handshake",
        message: `${Handshake.missing(request)}: ${FORWARD}`,
        // Where Node finds `Connection` among the headers, it does not say by itself that it closes.
        headers: { upgrade: "websocket", connection: Handshake.isLast(request) ? "Upgrade, close" : "Upgrade" },
        isOurs: true
      }

/** Says no to a request; `allow`: the methods of its path, where it has the wrong one. */
export type NotServed = (
  request: HttpServerRequest.HttpServerRequest,
  allow?: string
) => Effect.Effect<HttpServerResponse.HttpServerResponse>

/** What is answered on a server. `hasSockets`: whether sockets are served there. */
export const make =
  (prefix: string, metrics: Metrics.Metrics["Type"], hasSockets: boolean): NotServed =>
  (request, allow) =>
    Effect.suspend(() => {
      const source = request.source as IncomingMessage
      const url = source.url ?? ""
      const refused = ((): Refused => {
        if (allow !== undefined) return wrongMethod(allow, false)
        const target = Target.below(prefix, url)
        const isSocket = target !== undefined && Target.kindOf(target) !== undefined
        if (isSocket && hasSockets) return atSocket(source)
        if (isSocket) return { status: 404, reason: "path", message: NOT_HERE, isOurs: true }
        const detail = Target.hint(prefix, url)
        return { status: 404, reason: "path", message: "not found", detail, isOurs: detail !== undefined }
      })()
      const { detail, headers = {}, isOurs, message, reason, status } = refused
      metrics.refused[reason].add()
      const why = detail === undefined ? message : `${message}: ${detail}`
      return Effect.as(
        Effect.logWithLevel(
          isOurs ? LogLevel.Info : LogLevel.Debug,
          `refused ${source.method} ${url} with ${status}: ${why}`
        ),
        HttpServerResponse.text(`${message}\n`, { status, headers })
      )
    })
