/**
 * Stands between an HTTP server and the listeners of the program that it belongs
 * to: they get what is not Fanfare's, and only that, whenever they come and go.
 *
 * `emit` of the server is wrapped, once for all listeners of Fanfare's on it.
 * Nothing is added to the server's own listeners, and nothing taken out of them,
 * so their order, and what removes them, stays the program's matter.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Buffer } from "node:buffer"
import type { IncomingMessage, Server, ServerResponse } from "node:http"
import type { Socket } from "node:net"
import type { Duplex } from "node:stream"
import * as Handshake from "../transport/Handshake.ts"
import { putBack } from "./PutBack.ts"

/** A part of what comes to an HTTP server. */
export interface Listener {
  /** Whether a request is its own. */
  readonly takesRequest: (request: IncomingMessage) => boolean
  /** Whether a WebSocket handshake is its own. */
  readonly takesUpgrade: (request: IncomingMessage) => boolean
  /** Gets its own requests, and those for which the program has no listener. */
  readonly request: (request: IncomingMessage, response: ServerResponse) => void
  /** Gets its own handshakes, and those for which the program has no listener. */
  readonly upgrade: (request: IncomingMessage, socket: Duplex, head: Buffer) => void
}

/** What has wrapped the methods of a server. */
interface Attachment {
  /** The oldest first. */
  readonly listeners: Array<Listener>
  /** Whether a call of `emit` comes here still. */
  readonly isReached: () => boolean
  /** Puts the methods back as they were, unless somebody has wrapped them since. */
  readonly restore: () => void
}

// deno-lint-ignore no-explicit-any
type Method = (...args: Array<any>) => any

/** Of all copies of this package in the process: they share one attachment a server. The number is that of `Attachment`. */
const ATTACHMENT = Symbol.for("fanfare/http/Attachment/1")

type Attachable = Server & { [ATTACHMENT]?: Attachment | undefined }

/** A method of one object, wrapped. */
interface Wrapped {
  readonly isOutermost: () => boolean
  readonly restore: () => void
}

const wrap = (target: object, name: string, make: (original: Method) => Method): Wrapped => {
  const object = target as Record<string, unknown>
  const own = Object.getOwnPropertyDescriptor(object, name)
  // Looked up with each call: tracing libraries patch the prototype, and may do so later.
  const inherited: Method = (...args) =>
    (Object.getPrototypeOf(object) as Record<string, Method>)[name]?.apply(object, args)
  const method = make(own === undefined ? inherited : (own.value as Method))
  Object.defineProperty(object, name, {
    value: method,
    writable: true,
    configurable: true,
    enumerable: own?.enumerable ?? false
  })
  return {
    isOutermost: () => object[name] === method,
    restore: () => {
      if (own === undefined) Reflect.deleteProperty(object, name)
      else Object.defineProperty(object, name, own)
    }
  }
}

/** Where a request goes that offers an upgrade. */
type Decision =
  /** To one of Fanfare's listeners, as an upgrade. */
  | Listener
  /** To the program's listeners, as an upgrade. */
  | "others"
  /** Where it would go if it offered nothing. */
  | "request"

const install = (server: Attachable, listeners: Array<Listener>): Attachment => {
  const probe = Symbol("probe")
  let isReached = false
  let othersCount: Method = () => 0

  const takerOf = (request: IncomingMessage): Listener | undefined =>
    listeners.findLast(({ takesRequest }) => takesRequest(request))

  /** Without a listener of the program's nobody would answer, and the client wait. */
  const orNewest = (taker: Listener | undefined, event: string): Listener | undefined =>
    taker ?? (othersCount(event) === 0 ? listeners.at(-1) : undefined)

  const decide = (request: IncomingMessage): Decision => {
    const isHandshake = Handshake.isHandshake(request)
    const taker = isHandshake ? listeners.findLast(({ takesUpgrade }) => takesUpgrade(request)) : undefined
    if (taker !== undefined) return taker
    if (takerOf(request) !== undefined) return "request"
    // No listener for upgrades answers this one: clients offer it with any request, in case the server speaks HTTP/2.
    if (othersCount("upgrade") > 0) return Handshake.isHttp2(request) ? "request" : "others"
    return (isHandshake ? listeners.at(-1) : undefined) ?? "request"
  }

  /** Whether an event was for one of the listeners. */
  const handle = (event: unknown, args: ReadonlyArray<unknown>): boolean => {
    if (event === "upgrade") {
      const [request, socket, head] = args as [IncomingMessage, Socket, Buffer]
      const decision = decide(request)
      if (decision === "others") return false
      if (decision === "request") putBack(server, request, socket, head)
      else decision.upgrade(request, socket, head)
      return true
    }
    // The last two are of requests with `Expect`, and come only where the program listens for them.
    if (event !== "request" && event !== "checkContinue" && event !== "checkExpectation") return false
    const [request, response] = args as [IncomingMessage, ServerResponse]
    const taker = orNewest(takerOf(request), event)
    if (taker === undefined) return false
    if (event === "checkExpectation") {
      response.writeHead(417).end()
      return true
    }
    if (event === "checkContinue") response.writeContinue()
    taker.request(request, response)
    return true
  }

  const wrapped = [
    wrap(server, "emit", (original) => (event: unknown, ...args: ReadonlyArray<unknown>) => {
      if (event === probe) return (isReached = true)
      return (listeners.length > 0 && handle(event, args)) || original.call(server, event, ...args)
    }),
    // Node hands an upgrade over only where somebody listens.
    wrap(server, "listenerCount", (original) => {
      othersCount = (event) => original.call(server, event) as number
      return (event: unknown, ...args: ReadonlyArray<unknown>) => {
        const count = original.call(server, event, ...args) as number
        return event === "upgrade" && args.length === 0 && listeners.length > 0 ? Math.max(count, 1) : count
      }
    }),
    ...("shouldUpgradeCallback" in server
      ? [
          wrap(server, "shouldUpgradeCallback", (original) => (request: IncomingMessage) => {
            const decision = listeners.length === 0 ? "others" : decide(request)
            return decision === "others" ? original.call(server, request) : decision !== "request"
          })
        ]
      : [])
  ]

  const attachment: Attachment = {
    listeners,
    isReached: () => {
      isReached = false
      server.emit(probe as unknown as "close")
      return isReached
    },
    restore: () => {
      if (!wrapped.every(({ isOutermost }) => isOutermost())) return
      for (const { restore } of wrapped) restore()
      delete server[ATTACHMENT]
    }
  }
  Object.defineProperty(server, ATTACHMENT, { value: attachment, configurable: true, enumerable: false })
  return attachment
}

/** The attachment of a server; another one where somebody has put back what was there before it. */
const attachmentOf = (server: Attachable): Attachment => {
  const known = server[ATTACHMENT]
  return known?.isReached() === true ? known : install(server, known?.listeners ?? [])
}

/** Puts a listener before those of the program, until the scope closes. Of several, the newest is asked first. */
export const attach = (server: Server, listener: Listener): Effect.Effect<void, never, Scope.Scope> =>
  Effect.asVoid(
    Effect.acquireRelease(
      Effect.sync(() => {
        attachmentOf(server).listeners.push(listener)
      }),
      () =>
        Effect.sync(() => {
          const attachment = (server as Attachable)[ATTACHMENT]
          if (attachment === undefined) return
          const { listeners } = attachment
          listeners.splice(listeners.indexOf(listener), 1)
          if (listeners.length === 0) attachment.restore()
        })
    )
  )
