/** What the server does with the channels of a client that is connected, in the turn of the client's own commands. */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as Hooks from "../Hooks.ts"
import type * as Codes from "../protocol/Codes.ts"
import * as Json from "../protocol/Json.ts"
import type * as ServerConfig from "../ServerConfig.ts"
import type { Asker } from "./Commands.ts"
import { NOTHING } from "./Subscriptions.ts"

/** Subscribes it, and tells it; `false` where it cannot be done. One that it has already stays as it is. */
export const subscribe = (
  { outlet, subscriptions }: Asker,
  { client }: ServerConfig.Config,
  channel: string,
  granted: Hooks.Granted
): Effect.Effect<boolean> =>
  Effect.suspend(() => {
    if (subscriptions.has(channel)) return Effect.succeed(true)
    return Effect.gen(function* () {
      if (!(yield* subscriptions.place(channel))) {
        yield* Effect.logWarning(`not subscribed to "${channel}": client.channel_limit is ${client.channel_limit}`)
        return false
      }
      const join = yield* subscriptions.prepare(channel, NOTHING, "server", granted)
      const joined = join()
      if (Either.isLeft(joined)) return false
      outlet.send(Json.subscribePush(channel, joined.right))
      yield* subscriptions.announce(channel)
      return true
    }).pipe(
      Effect.scoped,
      Effect.catchTag("BrokerError", (error) =>
        Effect.as(Effect.logDebug(`not subscribed to "${channel}": ${error.message}`), false)
      )
    )
  })

/** Ends a subscription, if there is one, and tells it. */
export const unsubscribe = (
  { outlet, subscriptions }: Asker,
  channel: string,
  why: Codes.Unsubscribe
): Effect.Effect<boolean> =>
  Effect.suspend(() => {
    if (!subscriptions.has(channel)) return Effect.succeed(true)
    const left = subscriptions.leave(channel)
    return Effect.as(
      Effect.zipLeft(
        left,
        Effect.sync(() => outlet.send(Json.unsubscribePush(channel, why)))
      ),
      true
    )
  })
