/** The stock Centrifugal client (npm `centrifuge`): the newest version, and the one before it. */
import { Centrifuge, type Options, type Subscription, type SubscriptionOptions } from "centrifuge"
import { Centrifuge as Centrifuge57 } from "centrifuge-5.7"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { WebSocket } from "ws"

/** A version of the client. */
export interface Version {
  readonly name: string
  /** What it is imported as. */
  readonly module: "centrifuge" | "centrifuge-5.7"
  readonly Client: typeof Centrifuge
}

/** The versions that have to work. */
export const versions: ReadonlyArray<Version> = [
  { name: "centrifuge 5.8", module: "centrifuge", Client: Centrifuge },
  // What tests use of it has not changed; its types have members of their own.
  { name: "centrifuge 5.7", module: "centrifuge-5.7", Client: Centrifuge57 as unknown as typeof Centrifuge }
]

/** A connected client; it disconnects when the scope closes. */
export const connect = (
  ws: string,
  options: Partial<Options> = {},
  Client: typeof Centrifuge = Centrifuge
): Effect.Effect<Centrifuge, unknown, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => new Client(`${ws}/connection/websocket`, { websocket: WebSocket, ...options })),
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
export const subscribe = (
  client: Centrifuge,
  channel: string,
  options: Partial<SubscriptionOptions> = {}
): Effect.Effect<Subscription, unknown> =>
  Effect.tryPromise(async () => {
    const subscription = client.newSubscription(channel, options)
    subscription.subscribe()
    await subscription.ready(10_000)
    return subscription
  })
