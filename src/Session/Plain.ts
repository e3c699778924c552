/**
 * The plain socket: one channel, every text frame sent is published, every
 * publication arrives as one text frame. There are no replies: what fails
 * closes the socket with a code that says why.
 */
import * as Effect from "effect/Effect"
import type * as Hub from "../Hub.ts"
import * as Codes from "../protocol/Codes.ts"
import * as Publication from "../protocol/Publication.ts"
import { farewell, type Outlet, type Services, type Session, Subscription } from "../Session.ts"

/** A plain session, and the step in which it joins its channel. */
export interface Plain extends Session {
  /** Joins; what it gets of the past is queued first. */
  readonly join: (prepared: Hub.Prepared) => void
}

/** A session on a plain socket of `channel`, of a client that may subscribe to it; `hasHistory`: the channel has. */
export const make = (
  services: Services,
  outlet: Outlet,
  client: Publication.ClientInfo,
  channel: string,
  hasHistory: boolean
): Plain => {
  const { hooks, hub, publisher } = services

  // It cannot be told in any other way than by its end that it misses something.
  const subscription = new Subscription(outlet, "plain", channel, hasHistory, (_, why) =>
    outlet.end(why === "overflow" ? Codes.slow : Codes.insufficientState, `"${channel}": ${why}`)
  )

  const publish = (data: string): Effect.Effect<void> =>
    hooks.onPublish({ client, channel, data, subscribed: true }).pipe(
      Effect.zipRight(publisher.publishRaw(channel, Publication.fromText(data, client))),
      Effect.catchTags({
        Rejected: (rejected) =>
          Effect.sync(() =>
            outlet.end(
              rejected.disconnect
                ? { code: rejected.code, reason: rejected.message }
                : { code: Codes.permissionDeniedDisconnect.code, reason: rejected.message },
              `publish "${channel}": ${rejected.detail ?? rejected.message}`
            )
          ),
        BrokerError: (error) => Effect.sync(() => outlet.end(Codes.publishFailed, error.message)),
        InvalidPublication: (error) => Effect.sync(() => outlet.end(Codes.publishFailed, error.message))
      }),
      Effect.catchAllCause((cause) =>
        Effect.zipRight(
          Effect.logError(`publish "${channel}" failed`, cause),
          Effect.sync(() => outlet.end(Codes.publishFailed, "a defect, logged above"))
        )
      )
    )

  return {
    kind: "plain",
    join: (prepared) => {
      const { position, publications } = prepared.join(subscription)
      for (const { data } of publications) outlet.send(data)
      if (hasHistory && position === undefined) outlet.end(Codes.insufficientState, `"${channel}": gap`)
    },
    pingText: undefined,
    established: () => true,
    receive: (text) => {
      outlet.submit({ lane: channel, exclusive: false, isHeavy: false, run: publish(text) })
      return false
    },
    close: (disconnect) =>
      Effect.suspend(() => {
        hub.leave(channel, subscription)
        return farewell(services, client, disconnect)
      })
  }
}
