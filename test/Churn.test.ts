import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { live } from "./support/it.ts"
import * as Redis from "./support/redis.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"
import { valuesOf } from "./support/metrics.ts"
import { eventually } from "./support/wait.ts"

const ROUNDS = 5
const CLIENTS = 200

describe("200 connections that join, publish, vanish without a close frame and come back", () => {
  for (const name of ["memory", "redis"] as const) {
    live(
      `over ${name}: leave no connection, subscription, channel, fiber or Redis subscription behind`,
      () =>
        Effect.gen(function* () {
          const redis = yield* Redis.start()
          const server = yield* Server.start({ config: name === "redis" ? { redis_url: redis.url } : {} })
          const roots = Effect.map(Fiber.roots, (fibers) => fibers.length)
          // Counted in the same way before and after: the wait has a fiber of its own.
          const before = yield* eventually(roots, () => true, "a census")
          const client = (index: number) =>
            Effect.scoped(
              Effect.gen(function* () {
                const channel = `public:room-${index % 20}`
                if (index % 2 === 0) {
                  const socket = yield* Socket.open(`${server.ws}/channels/${channel}`)
                  socket.send(`hello from ${index}`)
                  yield* socket.gets(`hello from ${index}`)
                } else {
                  const socket = yield* Socket.open(`${server.ws}/connection/websocket`)
                  socket.send(
                    `{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"${channel}"}}\n` +
                      `{"id":3,"publish":{"channel":"${channel}","data":"hello from ${index}"}}`
                  )
                  yield* socket.gets(`"data":"hello from ${index}"`)
                }
                // The scope ends here: the socket is destroyed, without a close frame.
              })
            )
          yield* Effect.forEach(
            Array.from({ length: CLIENTS }, (_, index) => index),
            (index) => Effect.repeatN(client(index), ROUNDS - 1),
            { concurrency: "unbounded", discard: true }
          )
          yield* eventually(Effect.sync(server.connections.count), (count) => count === 0, "all connections are gone")
          expect(server.metrics.connectionsOpened.value).toBe(ROUNDS * CLIENTS)
          const { channels, connections, publishFailed, subscriptions } = server.metrics
          expect(valuesOf({ ...connections, channels, publishFailed, subscriptions })).toEqual({
            plain: 0,
            protocol: 0,
            channels: 0,
            publishFailed: 0,
            subscriptions: 0
          })
          if (name === "redis") {
            yield* eventually(
              redis.use((client) => client.pubsub("CHANNELS", "fanfare:pub:*")),
              (channels) => Array.isArray(channels) && channels.length === 0,
              "Redis holds no subscription"
            )
          }
          yield* eventually(roots, (now) => now <= before, "no fiber is left")
        }),
      60_000
    )
  }
})
