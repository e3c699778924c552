/** A WebSocket client for tests: what it got, in order, and how it ended. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { WebSocket } from "ws"
import { NeverHappened, Watched } from "./wait.ts"

export interface Closed {
  readonly code: number
  readonly reason: string
}

export interface Socket {
  readonly ws: WebSocket
  /** Text frames, in the order received. */
  readonly received: ReadonlyArray<string>
  readonly send: (text: string | Uint8Array) => void
  /** Stops and resumes reading. */
  readonly pause: () => void
  readonly resume: () => void
  /** Waits until so many frames have come. */
  readonly count: (count: number) => Effect.Effect<void, NeverHappened>
  /** Waits for a frame that contains a text. */
  readonly gets: (text: string) => Effect.Effect<void, NeverHappened>
  /** Whether it is closed by now. */
  readonly isClosed: () => boolean
  /** Waits for the end, and tells the close code. */
  readonly closed: Effect.Effect<Closed, NeverHappened>
  /** Fails when it is closed, with the close code: to be raced with what must happen before. */
  readonly lost: Effect.Effect<never, NeverHappened>
}

export interface Options {
  readonly headers?: Record<string, string>
  /** Subprotocols to offer. */
  readonly protocols?: Array<string>
  /** Whether pings are answered; they are. */
  readonly autoPong?: boolean
  /** For sockets that get very much: called for each frame, which is then not kept. */
  readonly onText?: (text: string) => void
}

/** The server answered the upgrade with a status instead of a handshake. */
export interface Refused {
  readonly _tag: "Refused"
  readonly status: number
  readonly body: string
  readonly headers: NodeJS.Dict<string | Array<string>>
}

/** Opens a WebSocket; it is terminated when the scope closes. Fails where the upgrade is refused. */
export const open = (url: string, options: Options = {}): Effect.Effect<Socket, Refused | NeverHappened, Scope.Scope> =>
  Effect.gen(function* () {
    const watched = new Watched()
    const received: Array<string> = []
    let opened = false
    let refused: Refused | undefined
    let closed: Closed | undefined
    const ws = yield* Effect.acquireRelease(
      Effect.sync(
        () =>
          new WebSocket(url, options.protocols ?? [], {
            headers: options.headers ?? {},
            autoPong: options.autoPong ?? true,
            perMessageDeflate: false
          })
      ),
      (socket) =>
        Effect.sync(() => {
          socket.resume()
          socket.terminate()
        })
    )
    ws.on("open", () => {
      opened = true
      watched.changed()
    })
    ws.on("message", (data) => {
      const text = String(data)
      if (options.onText === undefined) received.push(text)
      else options.onText(text)
      watched.changed()
    })
    ws.on("unexpected-response", (_request, response) => {
      let body = ""
      response.setEncoding("utf8")
      response.on("data", (part: string) => {
        body += part
      })
      response.on("end", () => {
        refused = { _tag: "Refused", status: response.statusCode ?? 0, body, headers: response.headers }
        watched.changed()
      })
    })
    ws.on("error", () => undefined)
    ws.on("close", (code, reason) => {
      closed = { code, reason: reason.toString() }
      watched.changed()
    })
    yield* watched.until(() => opened || refused !== undefined || closed !== undefined, `${url} answers`)
    if (refused !== undefined) return yield* Effect.fail(refused)
    const seen = (): string => `received ${received.length} frames, the last: ${received.slice(-3).join(" | ")}`
    return {
      ws,
      received,
      send: (text) => ws.send(text),
      pause: () => ws.pause(),
      resume: () => ws.resume(),
      count: (count) =>
        watched.until(
          () => received.length >= count,
          () => `${count} frames; ${seen()}`
        ),
      gets: (text) =>
        watched.until(
          () => received.some((frame) => frame.includes(text)),
          () => `a frame with ${text}; ${seen()}`
        ),
      isClosed: () => closed !== undefined,
      closed: Effect.map(
        watched.until(
          () => closed !== undefined,
          () => `closed; ${seen()}`,
          "20 seconds"
        ),
        () => closed as unknown as Closed
      ),
      lost: Effect.zipRight(
        watched.until(() => closed !== undefined, url, "1 day"),
        Effect.suspend(() =>
          Effect.fail(new NeverHappened({ message: `closed with ${closed?.code} ${closed?.reason}` }))
        )
      )
    }
  })

/** Opens a WebSocket that must be refused; returns the answer. */
export const refusal = (url: string, options: Options = {}): Effect.Effect<Refused, unknown, Scope.Scope> =>
  Effect.flatMap(Effect.either(open(url, options)), (result) =>
    result._tag === "Left" && result.left._tag === "Refused"
      ? Effect.succeed(result.left)
      : Effect.dieMessage(`${url} was not refused`)
  )
