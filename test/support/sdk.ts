/** The stock Centrifugal client (npm `centrifuge`). */
import { Centrifuge, type Options, type Subscription } from "centrifuge"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { WebSocket } from "ws"

/** A connected client; it disconnects when the scope closes. */
export const connect = (ws: string, options: Partial<Options> = {}): Effect.Effect<Centrifuge, unknown, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => new Centrifuge(`${ws}/connection/websocket`, { websocket: WebSocket, ...options })),
    (client) => Effect.sync(() => client.disconnect())
  ).pipe(
    Effect.tap((client) =>
      Effect.tryPromise(() => {
        client.connect()
        return client.ready(10_000)
      })
    )
  )

/** A subscription that is established. */
export const subscribe = (client: Centrifuge, channel: string): Effect.Effect<Subscription, unknown> =>
  Effect.tryPromise(async () => {
    const subscription = client.newSubscription(channel)
    subscription.subscribe()
    await subscription.ready(10_000)
    return subscription
  })
