/**
 * The channels of a client that the server chooses: with its connection, and
 * while it is connected, in the turn of the client's own commands.
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Channel from "../Channel.ts"
import type * as Hooks from "../Hooks.ts"
import * as Namespace from "../Namespace.ts"
import * as Codes from "../protocol/Codes.ts"
import * as Command from "../protocol/Command.ts"
import * as Json from "../protocol/Json.ts"
import * as ServerConfig from "../ServerConfig.ts"
import type { Asker } from "./Commands.ts"
import { NOTHING, type Subscriptions } from "./Subscriptions.ts"

/** The channels that come with a connection. */
export const channelsOf = ({ channels = [] }: Hooks.Accepted): ReadonlyMap<string, Hooks.Granted> =>
  new Map(channels.map((one) => (typeof one === "string" ? [one, {}] : [one.channel, one])))

/** The first of them that no client can have, and why. */
export const invalid = (
  config: ServerConfig.Config,
  channels: ReadonlyMap<string, Hooks.Granted>
): { readonly channel: string; readonly error: Codes.ErrorCode; readonly detail: string } | undefined => {
  for (const channel of channels.keys()) {
    const parsed = ServerConfig.parseChannel(config, channel)
    if (Either.isLeft(parsed)) return { channel, error: Codes.badRequest, detail: parsed.left }
    if (Namespace.find(config.channel, channel) === undefined) {
      const detail = `no namespace "${Channel.namespace(channel)}"; known: ${Namespace.known(config.channel)}`
      return { channel, error: Codes.unknownChannel, detail }
    }
  }
  return undefined
}

/** Prepares to join all of them, with the recovery that the client asks for; within the scope they can be joined. */
export const prepare = (
  subscriptions: Subscriptions,
  channels: ReadonlyMap<string, Hooks.Granted>,
  subs: Command.Subs,
  replyMaxSize: number
) => {
  if (channels.size === 0) return Effect.succeed([])
  // They share one reply.
  const maxBytes = Math.floor(replyMaxSize / channels.size)
  return Effect.forEach(
    channels,
    ([channel, granted]) => {
      const asked = { ...NOTHING, ...Command.recoveryOf(subs, channel) }
      return Effect.map(subscriptions.prepare(channel, asked, "server", granted, maxBytes), (join) => ({
        channel,
        join
      }))
    },
    { concurrency: "unbounded" }
  )
}

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
        Effect.sync(() => outlet.send(Json.unsubscribePush(channel, Codes.forPush(why))))
      ),
      true
    )
  })
