/**
 * The plain socket: one channel, every text frame sent is published, every
 * publication arrives as one text frame. There are no replies: what fails
 * closes the socket with a code that says why.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Broker from "../Broker.ts"
import type * as Clients from "../Clients.ts"
import * as Hooks from "../Hooks.ts"
import type * as Hub from "../Hub.ts"
import { Bucket } from "../internal/Bucket.ts"
import { value } from "../internal/exit.ts"
import * as Codes from "../protocol/Codes.ts"
import * as Publication from "../protocol/Publication.ts"
import type * as Publisher from "../Publisher.ts"
import {
  commandSpan,
  farewell,
  isOver,
  type Outlet,
  type Services,
  type Session,
  Subscription,
  type Task
} from "../Session.ts"
import * as Tracing from "../Tracing.ts"
import { Attendance } from "./Attendance.ts"

/** A plain session, and the step in which it joins its channel. */
export interface Plain extends Session {
  /** Joins; what it gets of the past is queued first. Where it fails there is nothing to undo. */
  readonly join: (prepared: Hub.Prepared) => Effect.Effect<void, Broker.BrokerError>
}

/** What a plain socket is: one of a client that may subscribe to a channel. */
export interface About {
  readonly client: Publication.ClientInfo
  readonly channel: string
  /** The channel has history: it gets everything, or is closed. */
  readonly hasHistory: boolean
  /** What was granted with the connection and with the subscription; the earlier end counts. */
  readonly expiresAt: number | undefined
  readonly granted: Hooks.Granted
}

/** How something is carried out, of what it takes in its channel. */
type Carried = Pick<Task, "isPipelined" | "run" | "now" | "size">

type Failure = Hooks.Rejected | Broker.BrokerError | Publisher.InvalidPublication

/** A session on a plain socket. */
export const make = (services: Services, outlet: Outlet, about: About): Plain => {
  const { clients, clock, config, hooks, hub, publisher } = services
  const { channel, granted, hasHistory } = about
  const { command_rate, user_connection_limit } = config.client
  let { client, expiresAt } = about
  const attendance = new Attendance(services, { info: () => client })
  const rate = command_rate === 0 ? undefined : new Bucket(command_rate, command_rate)

  // It cannot be told in any other way than by its end that it misses something.
  const subscription = new Subscription(
    outlet,
    channel,
    {
      ended: (_, why) => outlet.end(why === "overflow" ? Codes.slow : Codes.insufficientState, `"${channel}": ${why}`)
    },
    {
      encoding: "plain",
      isPositioned: hasHistory,
      hearsAttendance: false,
      excludes: granted.echo === false ? client.client : undefined
    }
  )

  const author = (): Publication.ClientInfo =>
    granted.info === undefined ? client : { ...client, chanInfo: granted.info }

  /** What a publication fails with costs the connection: it has no other way to be told. */
  const guarded = (publish: () => Effect.Effect<unknown, Failure>): Effect.Effect<void> =>
    Effect.suspend(publish).pipe(
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
      ),
      Effect.asVoid,
      Tracing.span("command.publish", () => commandSpan(client, channel)),
      Effect.annotateLogs("channel", channel)
    )

  const publish = (data: string): Carried => {
    // Asked once, whichever way the command takes.
    let decision: Effect.Effect<void, Hooks.Rejected> | undefined
    const ask = () => (decision ??= Hooks.ask(() => hooks.onPublish({ client, channel, data, subscribed: true })))
    const publication = () => Publication.fromText(data, author())
    return {
      isPipelined: true,
      size: data.length,
      run: () =>
        guarded(() =>
          Effect.zipRight(
            ask(),
            Effect.suspend(() => publisher.publishRaw(channel, publication()))
          )
        ),
      now: (turn) => {
        if (value(ask()) === undefined) return false
        return publisher.unsafePublishRaw(channel, publication(), {
          sent: () => turn.passOn(),
          done: (result) => turn.done(Exit.isSuccess(result) ? undefined : guarded(() => result))
        })
      }
    }
  }

  const submit = (carried: Carried): void =>
    outlet.submit({ lane: channel, exclusive: false, isHeavy: false, ...carried })

  const handle: Clients.Client = {
    info: () => client,
    // It is in one channel for as long as it lives.
    subscribe: () => Effect.succeed(true),
    unsubscribe: (name, why) =>
      Effect.sync(() => {
        if (name === channel) outlet.end(Codes.forceDisconnect, `unsubscribed: ${why.reason}`)
        return true
      }),
    refresh: (refreshed) => {
      if (refreshed.info !== undefined && outlet.isBusy()) return false
      expiresAt = refreshed.expiresAt
      if (refreshed.info === undefined) return true
      client = { ...client, connInfo: refreshed.info }
      submit({ run: () => attendance.showAll })
      return true
    },
    send: () => undefined,
    disconnect: (disconnect, detail) => outlet.end(disconnect, detail)
  }

  return {
    kind: "plain",
    channel,
    join: (prepared) =>
      Effect.zipRight(
        attendance.enter(channel, granted.info),
        Effect.sync(() => {
          if (!clients.add(handle)) {
            return outlet.end(
              Codes.connectionLimit,
              `client.user_connection_limit is ${user_connection_limit}, and "${client.user}" has as many`
            )
          }
          const { position, publications } = prepared.join(subscription)
          for (const { data } of publications) outlet.send(data)
          if (hasHistory && position === undefined) return outlet.end(Codes.insufficientState, `"${channel}": gap`)
          submit({ run: () => attendance.announce(channel) })
        })
      ),
    pingText: undefined,
    overdue: () => undefined,
    sweep: (now) => {
      if (isOver(services, expiresAt, now)) outlet.end(Codes.connectionExpired)
    },
    receive: (text) => {
      if ((rate?.take(clock.monotonic()) ?? 0) < 0) {
        // Behind what came before it, which is carried out.
        const why = `client.command_rate is ${command_rate}`
        submit({ run: () => Effect.sync(() => outlet.end(Codes.tooManyRequestsDisconnect, why)) })
      } else {
        submit(publish(text))
      }
      return false
    },
    gone: () => clients.remove(handle),
    close: (disconnect) =>
      Effect.suspend(() => {
        clients.remove(handle)
        hub.leave(channel, subscription)
        return Effect.zipRight(attendance.leaveAll, farewell(services, client, disconnect))
      })
  }
}
