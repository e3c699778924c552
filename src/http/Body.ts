/**
 * The bodies of requests: read up to a bound, or not at all.
 *
 * Node reads what is left of a body once the request is answered, however long
 * it is, and a connection that is closed at once loses the answer where the
 * client is still sending. So the answer to a request whose body is not read
 * says `Connection: close`, and the connection stays for a moment, in which
 * nothing more is read, so that the client finds the answer.
 */
import type * as HttpApp from "@effect/platform/HttpApp"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Stream from "effect/Stream"
import { Buffer } from "node:buffer"
import type { IncomingMessage } from "node:http"

/** Largest body, in bytes. A larger one is refused by its `Content-Length`, or once it has come so far. */
export const MAX_BODY = 1024 * 1024

/** What of a body is not worth closing the connection for, in bytes: Node reads ahead about so much anyway. */
const NEGLIGIBLE = 64 * 1024

/** How long a client has to find the answer to a request whose body is not read. */
const LINGER = Duration.seconds(1)

const sourceOf = (request: HttpServerRequest.HttpServerRequest): IncomingMessage => request.source as IncomingMessage

/** Why a body cannot be used. */
export type Problem = "too large" | "not UTF-8"

const decode = (bytes: Buffer): Either.Either<string, Problem> =>
  Either.try({ try: () => new TextDecoder("utf-8", { fatal: true }).decode(bytes), catch: () => "not UTF-8" })

/** Reads a body of at most `MAX_BODY` bytes; nothing of one that says that it is larger. */
export const read = (request: HttpServerRequest.HttpServerRequest): Effect.Effect<string, Problem> =>
  Effect.suspend(() => {
    const source = sourceOf(request)
    if (Number(source.headers["content-length"] ?? 0) > MAX_BODY) return Effect.fail<Problem>("too large")
    return Effect.async<string, Problem>((resume) => {
      const chunks: Array<Buffer> = []
      let bytes = 0
      const onData = (chunk: Buffer): void => {
        bytes += chunk.length
        if (bytes <= MAX_BODY) return void chunks.push(chunk)
        stop()
        source.pause()
        resume(Effect.fail("too large"))
      }
      const onEnd = (): void => {
        stop()
        resume(decode(Buffer.concat(chunks)))
      }
      // A client that goes away interrupts the request; without a listener its error would be an uncaught one.
      const onError = (): void => undefined
      const stop = (): void => {
        source.off("data", onData)
        source.off("end", onEnd)
      }
      source.on("error", onError)
      source.on("data", onData)
      source.on("end", onEnd)
      return Effect.sync(stop)
    })
  })

/** Whether so much of the body has not come yet that it is better not waited for. */
const isUnread = ({ complete, headers }: IncomingMessage): boolean =>
  !complete && (headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > NEGLIGIBLE)

const linger = (response: HttpServerResponse.HttpServerResponse): HttpServerResponse.HttpServerResponse => {
  const { body, headers, status } = response
  if (body._tag !== "Uint8Array") return response
  const answer = Stream.concat(Stream.make(body.body), Stream.drain(Stream.fromEffect(Effect.sleep(LINGER))))
  return HttpServerResponse.stream(answer, {
    status,
    headers: { ...headers, connection: "close" },
    contentType: body.contentType,
    contentLength: body.body.byteLength
  })
}

/** An app whose answers reach clients that are still sending what is not read. */
export const leavingUnread = <E, R>(app: HttpApp.Default<E, R>): HttpApp.Default<E, R> =>
  Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) =>
    Effect.map(app, (response) => (isUnread(sourceOf(request)) ? linger(response) : response))
  )

/** An app whose answers close their connections while `isLeaving`: clients open others, elsewhere. */
export const closingWhile = <E, R>(isLeaving: () => boolean, app: HttpApp.Default<E, R>): HttpApp.Default<E, R> =>
  Effect.map(app, (response) =>
    isLeaving() ? HttpServerResponse.setHeader(response, "connection", "close") : response
  )
