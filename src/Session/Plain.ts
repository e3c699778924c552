/**
 * The plain socket: one channel, every text frame sent is published, every
 * publication arrives as one text frame. There are no replies: what fails
 * closes the socket with a code that says why.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Codes from "../protocol/Codes.ts"
import * as Publication from "../protocol/Publication.ts"
import { farewell, type Outlet, type Services, type Session } from "../Session.ts"

/** A session on a plain socket of `channel`, of a client that may subscribe to it. */
export const make = (services: Services, outlet: Outlet, client: Publication.ClientInfo, channel: string): Session => {
  const { hooks, hub, publisher } = services

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
      Effect.catchAllDefect((defect) =>
        Effect.zipRight(
          Effect.logError(`publish "${channel}" failed`, Cause.die(defect)),
          Effect.sync(() => outlet.end(Codes.publishFailed, "a defect, logged above"))
        )
      )
    )

  return {
    kind: "plain",
    pingText: undefined,
    established: () => true,
    receive: (text) => {
      outlet.submit({ lane: channel, exclusive: false, run: publish(text) })
      return false
    },
    close: (disconnect) =>
      Effect.zipRight(hub.unsubscribe(channel, outlet.subscriber), farewell(services, client, disconnect))
  }
}
