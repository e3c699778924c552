/** Channels with and without history, and a client of the protocol by hand. */
import * as Effect from "effect/Effect"
import type * as Server from "./server.ts"
import * as Socket from "./socket.ts"
import type { Json } from "./json.ts"

export const OPEN = {
  allow_subscribe_for_client: true,
  allow_subscribe_for_anonymous: true,
  allow_publish_for_client: true,
  allow_publish_for_anonymous: true
}
const KEPT = { ...OPEN, history_size: 20_000, history_ttl: "10m" }
export const READABLE = { allow_history_for_subscriber: true, allow_history_for_anonymous: true }

export const channel = {
  namespaces: [
    { name: "kept", ...KEPT, ...READABLE, force_recovery: true },
    { name: "asked", ...KEPT, ...READABLE },
    { name: "hidden", ...KEPT },
    { name: "placed", ...KEPT, force_positioning: true },
    { name: "bare", ...OPEN }
  ]
}

export const WIDE = { recovery_max_publication_limit: 20_000, reply_max_size: 2 ** 26 }

/** A connection of the client protocol, by hand; `connect` are the parameters of its first command. */
export const raw = (server: Pick<Server.Running, "ws">, connect: object = {}) =>
  Effect.gen(function* () {
    const socket = yield* Socket.open(`${server.ws}/connection/websocket`)
    socket.send(JSON.stringify({ id: 1, connect }))
    yield* socket.gets('{"id":1,"connect"')
    let id = 1
    const connected = JSON.parse(socket.received[0] ?? "{}") as Record<string, Json>
    /** Sends a command; returns its reply. */
    return {
      socket,
      /** The result of `connect`. */
      connected: connected["connect"] as Record<string, Json>,
      ask: (method: string, params: object) =>
        Effect.gen(function* () {
          const own = ++id
          socket.send(JSON.stringify({ id: own, [method]: params }))
          const isReply = (frame: string): boolean => frame.startsWith(`{"id":${own},`)
          yield* socket.gets(`{"id":${own},`)
          const reply = socket.received.flatMap((frame) => frame.split("\n")).find(isReply) ?? "{}"
          return JSON.parse(reply) as Record<string, Json>
        })
    }
  })

export const publishAll = (server: Server.Running, name: string, count: number) =>
  Effect.forEach(
    Array.from({ length: count }, (_, index) => index + 1),
    (data) => server.publisher.publish(name, data),
    { discard: true }
  )
