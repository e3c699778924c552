/**
 * The client protocol (centrifugal/protocol, version 2, JSON): a state machine
 * from commands to replies.
 *
 * `connect` comes first and runs alone. Commands on one channel run one after
 * another, in the order received; commands on different channels side by side.
 */
import * as Arr from "effect/Array"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as Broker from "../Broker.ts"
import * as History from "../History.ts"
import type * as Hooks from "../Hooks.ts"
import * as Codes from "../protocol/Codes.ts"
import * as Command from "../protocol/Command.ts"
import * as Json from "../protocol/Json.ts"
import * as Namespace from "../Namespace.ts"
import * as Publication from "../protocol/Publication.ts"
import type * as Publisher from "../Publisher.ts"
import * as ServerConfig from "../ServerConfig.ts"
import { farewell, type Outlet, type Services, type Session, type Task } from "../Session.ts"
import { Subscriptions } from "./Subscriptions.ts"
import { version } from "../version.ts"

type Of<M extends Command.Command["method"]> = Extract<Command.Command, { method: M }>

/** A client whose `connect` was refused is given this long to leave by itself. */
const REFUSED_CLOSE_DELAY = Duration.seconds(1)

const refusalOfPublication = (error: Publisher.InvalidPublication): Codes.ErrorCode =>
  error.reason === "UnknownNamespace" ? Codes.unknownChannel : Codes.badRequest

/** A session of the client protocol. `request` is what is known of the client before it speaks. */
export const make = (
  services: Services,
  outlet: Outlet,
  request: Pick<Hooks.ConnectRequest, "headers" | "address">,
  node: string
): Session => {
  const { config, hooks, hub, publisher } = services
  const subscriptions = new Subscriptions(services, outlet)
  let subscribing = 0
  let phase: "new" | "connecting" | "connected" | "refused" = "new"
  let client: Publication.ClientInfo = { client: outlet.id, user: "" }

  const refuse = (id: number, error: Codes.ErrorCode, what: string, detail: string): Effect.Effect<void> =>
    Effect.zipRight(
      Effect.sync(() => outlet.send(Json.error(id, error))),
      Effect.logInfo(`refused ${what}: ${detail}`)
    )

  // An outage refuses every command of every client: its own log line and counters tell of it.
  const unavailable = (id: number, what: string, error: Broker.BrokerError): Effect.Effect<void> =>
    Effect.zipRight(
      Effect.sync(() => outlet.send(Json.error(id, Codes.internal))),
      Effect.logDebug(`refused ${what}: ${error.message}`)
    )

  const reject = (id: number, rejected: Hooks.Rejected, what: string): Effect.Effect<void> => {
    const detail = rejected.detail ?? rejected.message
    if (!rejected.disconnect) {
      const error = { code: rejected.code, message: rejected.message }
      return refuse(id, rejected.temporary === true ? { ...error, temporary: true } : error, what, detail)
    }
    return Effect.sync(() => outlet.end({ code: rejected.code, reason: rejected.message }, `${what}: ${detail}`))
  }

  const onChannel = (
    command: { readonly id: number; readonly method: string },
    channel: string,
    run: (channel: string) => Effect.Effect<void>
  ): Effect.Effect<void> =>
    Either.match(ServerConfig.parseChannel(config, channel), {
      onLeft: (problem) =>
        refuse(command.id, Codes.badRequest, `${command.method} ${JSON.stringify(channel)}`, problem),
      onRight: run
    })

  /** The client is told, and given a moment to leave by itself. */
  const refuseConnect = (told: Effect.Effect<void>): Effect.Effect<void> =>
    Effect.suspend(() => {
      phase = "refused"
      return told.pipe(
        Effect.zipRight(Effect.sleep(REFUSED_CLOSE_DELAY)),
        Effect.zipRight(Effect.sync(() => outlet.end(Codes.connectionClosed, "connect was refused")))
      )
    })

  /** Prepares the subscriptions that the server makes, with the recovery that the client asks for. */
  const prepareServerSide = (channels: ReadonlyArray<string>, subs: Command.Subs) => {
    // They share one reply.
    const maxBytes = Math.floor(config.client.reply_max_size / channels.length)
    return Effect.forEach(
      channels,
      (channel) => {
        const asked = { ...Command.recoveryOf(subs, channel), recoverable: false, positioned: false, flag: 0 }
        return Effect.map(subscriptions.prepare(client, channel, asked, "server", maxBytes), (join) => ({
          channel,
          join
        }))
      },
      { concurrency: "unbounded" }
    )
  }

  const establish = (command: Of<"connect">, accepted: Hooks.Accepted): Effect.Effect<void> => {
    const { data, info, user } = accepted
    const channels = Arr.dedupe(accepted.channels ?? [])
    const malformed = channels.map((channel) => ServerConfig.parseChannel(config, channel)).find(Either.isLeft)
    if (malformed !== undefined) return Effect.dieMessage(`onConnect: ${malformed.left}`)
    if (channels.length > config.client.channel_limit) {
      return Effect.sync(() => outlet.end(Codes.channelLimit, `client.channel_limit is ${config.client.channel_limit}`))
    }
    client = { client: outlet.id, user, ...(info === undefined ? {} : { connInfo: info }) }
    return prepareServerSide(channels, command.params.subs).pipe(
      Effect.map((prepared) => {
        const subs = new Map<string, string>()
        for (const { channel, join } of prepared) {
          const joined = join()
          if (Either.isLeft(joined)) {
            subscriptions.leaveAll()
            return refuse(command.id, joined.left, "connect", `"${channel}": ${joined.left.message}`)
          }
          subs.set(channel, joined.right)
        }
        phase = "connected"
        const ping = Math.max(1, Math.round(Duration.toSeconds(config.client.ping_interval)))
        const result = Json.connectResult({ client: outlet.id, version, ping, node, data, subs })
        outlet.send(Json.reply(command.id, "connect", result))
        return undefined
      }),
      Effect.scoped,
      Effect.catchTag("BrokerError", (error) => Effect.succeed(unavailable(command.id, "connect", error))),
      Effect.flatMap((refusal) => (refusal === undefined ? Effect.void : refuseConnect(refusal)))
    )
  }

  const connect = (command: Of<"connect">): Effect.Effect<void> => {
    const { token } = command.params
    return Effect.matchEffect(
      hooks.onConnect({ client: outlet.id, kind: "protocol", token, data: command.data, ...request }),
      {
        onFailure: (rejected) => {
          const told = reject(command.id, rejected, "connect")
          return rejected.disconnect === true ? told : refuseConnect(told)
        },
        onSuccess: (accepted) => establish(command, accepted)
      }
    )
  }

  const subscribe = (command: Of<"subscribe">): Effect.Effect<void> =>
    onChannel(command, command.params.channel, (channel) => {
      const what = `subscribe "${channel}"`
      if (subscriptions.has(channel)) return refuse(command.id, Codes.alreadySubscribed, what, "already subscribed")
      if (subscriptions.size + subscribing >= config.client.channel_limit) {
        return refuse(command.id, Codes.limitExceeded, what, `client.channel_limit is ${config.client.channel_limit}`)
      }
      subscribing++
      return hooks.onSubscribe({ client, channel, token: command.params.token, data: command.data }).pipe(
        Effect.zipRight(subscriptions.prepare(client, channel, command.params, "client")),
        Effect.flatMap((join) =>
          Effect.suspend(() => {
            const joined = join()
            if (Either.isLeft(joined)) return refuse(command.id, joined.left, what, joined.left.message)
            outlet.send(Json.reply(command.id, "subscribe", joined.right))
            return Effect.void
          })
        ),
        Effect.scoped,
        Effect.catchTags({
          Rejected: (rejected) => reject(command.id, rejected, what),
          BrokerError: (error) => unavailable(command.id, what, error)
        }),
        Effect.ensuring(Effect.sync(() => void subscribing--))
      )
    })

  const unsubscribe = (command: Of<"unsubscribe">): Effect.Effect<void> =>
    onChannel(command, command.params.channel, (channel) =>
      Effect.sync(() => {
        subscriptions.leave(channel)
        outlet.send(Json.reply(command.id, "unsubscribe", Json.EMPTY))
      })
    )

  const history = (command: Of<"history">): Effect.Effect<void> =>
    onChannel(command, command.params.channel, (channel) => {
      const what = `history "${channel}"`
      const { history_max_publication_limit, reply_max_size } = config.client
      const retention = Namespace.retention(config.channel, channel)
      return hooks.onHistory({ client, channel, subscribed: subscriptions.has(channel) }).pipe(
        Effect.flatMap(() => {
          if (retention === undefined) return refuse(command.id, Codes.notAvailable, what, "the channel has no history")
          const range = History.bounded(command.params, history_max_publication_limit, reply_max_size)
          return Effect.flatMap(hub.history({ channel, retention }, range), (page) => {
            if (History.isOfAnother(page, command.params)) {
              return refuse(command.id, Codes.unrecoverable, what, `the epoch is ${page.epoch} by now`)
            }
            const result = Json.historyResult(page, Json.page(page.publications, reply_max_size))
            return Effect.sync(() => outlet.send(Json.reply(command.id, "history", result)))
          })
        }),
        Effect.catchTags({
          Rejected: (rejected) => reject(command.id, rejected, what),
          BrokerError: (error) => unavailable(command.id, what, error)
        })
      )
    })

  const publish = (command: Of<"publish">): Effect.Effect<void> =>
    onChannel(command, command.params.channel, (channel) => {
      const what = `publish "${channel}"`
      const data = command.data
      if (data === undefined) return refuse(command.id, Codes.badRequest, what, "no data")
      return hooks.onPublish({ client, channel, data, subscribed: subscriptions.has(channel) }).pipe(
        Effect.zipRight(publisher.publishRaw(channel, Publication.fromJson(data, client))),
        Effect.zipRight(Effect.sync(() => outlet.send(Json.reply(command.id, "publish", Json.EMPTY)))),
        Effect.catchTags({
          Rejected: (rejected) => reject(command.id, rejected, what),
          BrokerError: (error) => unavailable(command.id, what, error),
          InvalidPublication: (error) => refuse(command.id, refusalOfPublication(error), what, error.message)
        })
      )
    })

  const rpc = (command: Of<"rpc">): Effect.Effect<void> =>
    Effect.matchEffect(hooks.onRpc({ client, method: command.params.method, data: command.data }), {
      onFailure: (rejected) => reject(command.id, rejected, `rpc "${command.params.method}"`),
      onSuccess: (data) => Effect.sync(() => outlet.send(Json.reply(command.id, "rpc", Json.object({ data }))))
    })

  const run = (command: Command.Command): Effect.Effect<void> => {
    switch (command.method) {
      case "connect":
        return connect(command)
      case "subscribe":
        return subscribe(command)
      case "unsubscribe":
        return unsubscribe(command)
      case "publish":
        return publish(command)
      case "rpc":
        return rpc(command)
      case "ping":
        return Effect.sync(() => outlet.send(Json.reply(command.id, "ping", Json.EMPTY)))
      case "send":
        return Effect.sync(() => outlet.end(Codes.notAvailableDisconnect, "send: not active in this version"))
      case "history":
        return history(command)
      case "presence":
      case "presence_stats":
      case "refresh":
      case "sub_refresh":
        return refuse(command.id, Codes.notAvailable, command.method, "not active in this version")
    }
  }

  // A hook that fails in a way of its own, or ends as interrupted, costs its command, with an answer, and never the connection.
  const guarded = (command: Command.Command): Effect.Effect<void> =>
    Effect.suspend(() => (phase === "refused" ? Effect.void : run(command))).pipe(
      Effect.catchAllCause((cause) =>
        Effect.zipRight(
          Effect.logError(`${command.method} failed`, cause),
          command.method === "connect"
            ? Effect.sync(() => outlet.end(Codes.serverError, "connect failed"))
            : refuse(command.id, Codes.internal, command.method, "a defect, logged above")
        )
      )
    )

  const task = (command: Command.Command): Task => ({
    lane: "channel" in command.params ? command.params.channel : `/${command.method}`,
    exclusive: command.method === "connect",
    isHeavy:
      (command.method === "history" && command.params.limit !== 0) ||
      (command.method === "subscribe" && command.params.recover),
    run: guarded(command)
  })

  const unknownMethod = (id: number, name: string): Task => ({
    lane: "/unknown",
    exclusive: false,
    isHeavy: false,
    run: refuse(id, Codes.methodNotFound, JSON.stringify(name), "no such method")
  })

  /** Submits what a line asks for; returns whether it was a pong. */
  const receiveLine = (line: string): boolean => {
    const decoded = Command.decodeLine(line)
    if (Either.isLeft(decoded)) {
      outlet.end(Codes.badRequestDisconnect, decoded.left)
      return false
    }
    const command = decoded.right
    if (command.method === "pong") return true
    if (phase === "new" && command.method !== "connect") {
      outlet.end(Codes.badRequestDisconnect, "the first command is connect")
    } else if (phase !== "new" && command.method === "connect") {
      outlet.end(Codes.badRequestDisconnect, "connect came twice")
    } else {
      if (command.method === "connect") phase = "connecting"
      outlet.submit(command.method === "unknown" ? unknownMethod(command.id, command.name) : task(command))
    }
    return false
  }

  return {
    kind: "protocol",
    pingText: Json.EMPTY,
    established: () => phase === "connected",
    receive: (text) => Command.lines(text).map(receiveLine).includes(true),
    close: (disconnect) =>
      Effect.suspend(() => {
        subscriptions.leaveAll()
        return phase === "connected" ? farewell(services, client, disconnect) : Effect.void
      })
  }
}
