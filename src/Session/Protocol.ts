/**
 * The client protocol (centrifugal/protocol, version 2, JSON): a state machine
 * from commands to replies.
 *
 * `connect` comes first and runs alone. Commands on one channel run one after
 * another, in the order received; commands on different channels side by side.
 * What the server itself does with a channel of the client takes its turn among
 * them.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Channel from "../Channel.ts"
import type * as Clients from "../Clients.ts"
import * as Frame from "../Frame.ts"
import type * as Hooks from "../Hooks.ts"
import { Bucket } from "../internal/Bucket.ts"
import * as Namespace from "../Namespace.ts"
import * as Codes from "../protocol/Codes.ts"
import * as Command from "../protocol/Command.ts"
import * as Json from "../protocol/Json.ts"
import type * as Publication from "../protocol/Publication.ts"
import * as ServerConfig from "../ServerConfig.ts"
import {
  commandSpan,
  farewell,
  isOver,
  named,
  type Outlet,
  type Services,
  type Session,
  type Task,
  ttl
} from "../Session.ts"
import * as Tracing from "../Tracing.ts"
import { version } from "../version.ts"
import { Answers } from "./Answers.ts"
import * as Commands from "./Commands.ts"
import { NOTHING, Subscriptions } from "./Subscriptions.ts"

type Of<M extends Command.Command["method"]> = Extract<Command.Command, { method: M }>

/** A client whose `connect` was refused is given this long to leave by itself. */
const REFUSED_CLOSE_DELAY = Duration.seconds(1)

const channelOf = (command: Exclude<Command.Line, { method: "pong" }>): string | undefined =>
  "params" in command && "channel" in command.params ? command.params.channel : undefined

/** A session of the client protocol. `request` is what is known of the client before it speaks. */
export const make = (
  services: Services,
  outlet: Outlet,
  request: Pick<Hooks.ConnectRequest, "headers" | "address">,
  node: string
): Session => {
  const { clients, clock, config, hooks, metrics } = services
  const { channel_limit, command_rate, ping_interval, reply_max_size } = config.client
  let phase: "new" | "connecting" | "connected" | "refused" | "closed" = "new"
  let client: Publication.ClientInfo = { client: outlet.id, user: "" }
  /** Unix seconds. */
  let expiresAt: number | undefined
  let isGone = false
  const answers = new Answers(services, outlet)
  const subscriptions = new Subscriptions(services, outlet, () => client)
  const rate = command_rate === 0 ? undefined : new Bucket(command_rate, command_rate)
  /** What the server waits for in the turn of the client's commands. */
  const waiting = new Set<(isDone: boolean) => void>()

  const show = (info: string): Effect.Effect<void> =>
    Effect.suspend(() => {
      client = { ...client, connInfo: info }
      return subscriptions.show
    })

  const refreshed = (refreshed: Hooks.Refreshed): Effect.Effect<void> =>
    Effect.suspend(() => {
      expiresAt = refreshed.expiresAt
      return refreshed.info === undefined ? Effect.void : show(refreshed.info)
    })

  const carried = Commands.make({ services, outlet, answers, subscriptions, client: () => client, refreshed })

  // ── Connecting ───────────────────────────────────────────────────────────

  /** The client is told, and given a moment to leave by itself. */
  const refuseConnect = (told: Effect.Effect<void>): Effect.Effect<void> =>
    Effect.suspend(() => {
      phase = "refused"
      clients.remove(handle)
      return told.pipe(
        Effect.zipRight(Effect.sleep(REFUSED_CLOSE_DELAY)),
        Effect.zipRight(Effect.sync(() => outlet.end(Codes.connectionClosed, "connect was refused")))
      )
    })

  /** Prepares the subscriptions that the server makes, with the recovery that the client asks for. */
  const prepareServerSide = (channels: ReadonlyMap<string, Hooks.Granted>, subs: Command.Subs) => {
    // They share one reply.
    const maxBytes = Math.floor(reply_max_size / channels.size)
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

  const establish = (command: Of<"connect">, accepted: Hooks.Accepted): Effect.Effect<void> => {
    const { data, info, user } = accepted
    const channels = new Map(
      (accepted.channels ?? []).map((one): readonly [string, Hooks.Granted] =>
        typeof one === "string" ? [one, {}] : [one.channel, one]
      )
    )
    for (const channel of channels.keys()) {
      const what = `connect to ${JSON.stringify(channel)}`
      const refuse = (error: Codes.ErrorCode, detail: string) =>
        refuseConnect(Effect.annotateLogs(answers.refuse(command.id, error, what, detail), "channel", channel))
      const parsed = ServerConfig.parseChannel(config, channel)
      if (Either.isLeft(parsed)) return refuse(Codes.badRequest, parsed.left)
      if (Namespace.find(config.channel, channel) === undefined) {
        const detail = `no namespace "${Channel.namespace(channel)}"; known: ${Namespace.known(config.channel)}`
        return refuse(Codes.unknownChannel, detail)
      }
    }
    if (channels.size > channel_limit) {
      return Effect.sync(() => {
        metrics.limits.channels.add()
        outlet.end(Codes.channelLimit, `client.channel_limit is ${channel_limit}`)
      })
    }
    client = { client: outlet.id, user, ...(info === undefined ? {} : { connInfo: info }) }
    expiresAt = accepted.expiresAt
    // From here on it can be disconnected by its user's name.
    if (!clients.add(handle)) {
      const why = `client.user_connection_limit is ${config.client.user_connection_limit}, and "${user}" has as many`
      return Effect.sync(() => outlet.end(Codes.connectionLimit, why))
    }
    return prepareServerSide(channels, command.params.subs).pipe(
      Effect.map((prepared) => {
        const subs = new Map<string, string>()
        for (const { channel, join } of prepared) {
          const joined = join()
          if (Either.isLeft(joined)) {
            const told = answers.refuse(command.id, joined.left, "connect", `"${channel}": ${joined.left.message}`)
            const toldOf = Effect.annotateLogs(told, "channel", channel)
            return Effect.zipRight(subscriptions.leaveAll, refuseConnect(toldOf))
          }
          subs.set(channel, joined.right)
        }
        phase = "connected"
        const ping = Math.max(1, Math.round(Duration.toSeconds(ping_interval)))
        const result = Json.connectResult({
          client: outlet.id,
          version,
          ping,
          node,
          data,
          ttl: ttl(services, expiresAt),
          subs
        })
        outlet.send(Json.reply(command.id, "connect", result))
        return Effect.forEach(subs.keys(), (channel) => subscriptions.announce(channel), {
          concurrency: "unbounded",
          discard: true
        })
      }),
      Effect.scoped,
      Effect.catchTag("BrokerError", (error) =>
        Effect.succeed(refuseConnect(answers.unavailable(command.id, error, "connect")))
      ),
      Effect.flatten
    )
  }

  const connect = (command: Of<"connect">): Effect.Effect<void> => {
    const { token } = command.params
    return Effect.matchEffect(
      hooks.onConnect({ client: outlet.id, kind: "protocol", token, data: command.data, ...request }),
      {
        onFailure: (rejected) => {
          const told = answers.reject(command.id, rejected, "connect")
          return rejected.disconnect === true ? told : refuseConnect(told)
        },
        onSuccess: (accepted) => establish(command, accepted)
      }
    )
  }

  // ── What the server does with the client ─────────────────────────────────

  /** Runs something in the turn of the client's commands on a channel; `false` where it cannot be, or is not, done. */
  const inTurn = (channel: string, run: Effect.Effect<boolean>): Effect.Effect<boolean> =>
    Effect.async((resume) => {
      // Whoever asks for more than the client's own commands leave room for, has to wait.
      if (phase !== "connected" || isGone || outlet.isBusy()) return resume(Effect.succeed(false))
      const done = (isDone: boolean): void => {
        waiting.delete(done)
        resume(Effect.succeed(isDone))
      }
      waiting.add(done)
      const task = Effect.matchCauseEffect(run, {
        onFailure: (cause) =>
          Effect.zipRight(
            Effect.logError(`"${channel}" failed`, cause),
            Effect.sync(() => done(false))
          ),
        onSuccess: (isDone) => Effect.sync(() => done(isDone))
      }).pipe(Effect.annotateLogs("channel", channel))
      outlet.submit({ lane: channel, exclusive: false, isHeavy: false, run: () => task })
    })

  const subscribe = (channel: string, granted: Hooks.Granted): Effect.Effect<boolean> =>
    Effect.suspend(() => {
      if (subscriptions.has(channel)) return Effect.succeed(true)
      return Effect.gen(function* () {
        if (!(yield* subscriptions.place(channel))) {
          yield* Effect.logWarning(`not subscribed to "${channel}": client.channel_limit is ${channel_limit}`)
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

  const unsubscribe = (channel: string, why: Codes.Unsubscribe): Effect.Effect<boolean> =>
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

  const handle: Clients.Client = {
    info: () => client,
    subscribe: (channel, granted) => inTurn(channel, subscribe(channel, granted)),
    unsubscribe: (channel, why) => inTurn(channel, unsubscribe(channel, why)),
    refresh: (how) => {
      if (outlet.isBusy()) return false
      const told = Effect.sync(() => outlet.send(Json.refreshPush(ttl(services, how.expiresAt))))
      const run = Effect.zipRight(told, refreshed(how))
      outlet.submit({ lane: "/refresh", exclusive: false, isHeavy: false, run: () => run })
      return true
    },
    send: (data) => void outlet.deliver(Frame.text(Json.messagePush(data)), false),
    disconnect: (disconnect, detail) => outlet.end(disconnect, detail)
  }

  // ── What the client says ─────────────────────────────────────────────────

  // A hook that fails in a way of its own, or ends as interrupted, costs its command, with an answer, and never the connection.
  const guarded = (command: Command.Command, effect: () => Effect.Effect<void>): Effect.Effect<void> => {
    const channel = named(config, channelOf(command))
    const run = Effect.suspend(() => (phase === "refused" ? Effect.void : effect())).pipe(
      Effect.catchAllCause((cause) =>
        Effect.zipRight(
          Effect.logError(`${command.method} failed`, cause),
          command.method === "connect"
            ? Effect.sync(() => outlet.end(Codes.serverError, "connect failed"))
            : command.method === "send"
              ? Effect.sync(() => outlet.end(Codes.serverError, "send failed"))
              : answers.refuse(command.id, Codes.internal, command.method, "a defect, logged above")
        )
      ),
      Tracing.span(`command.${command.method}`, () => commandSpan(client, channel))
    )
    return channel === undefined ? run : Effect.annotateLogs(run, "channel", channel)
  }

  /** Answers of one lane come in the order of its commands. */
  const laneOf = (command: Exclude<Command.Line, { method: "pong" }>): string =>
    channelOf(command) ?? `/${command.method}`

  const task = (command: Command.Command): Task => {
    const { now, run } = command.method === "connect" ? { run: () => connect(command) } : carried(command)
    return {
      lane: laneOf(command),
      exclusive: command.method === "connect",
      isHeavy:
        command.method === "presence" ||
        (command.method === "history" && command.params.limit !== 0) ||
        (command.method === "subscribe" && command.params.recover),
      run: (passOn) => guarded(command, () => run(passOn)),
      now:
        now === undefined || phase !== "connected"
          ? undefined
          : (passOn, done) => now(passOn, (rest) => done(rest && guarded(command, () => rest)))
    }
  }

  const side = (run: Effect.Effect<void>, lane = "/refused"): Task => ({
    lane,
    exclusive: false,
    isHeavy: false,
    run: () => run
  })

  /** What a command costs that is one too many; `undefined`: it is not. */
  const overRate = (id: number, method: string, lane: string): Task | undefined => {
    const left = rate?.take(clock.unsafeCurrentTimeMillis()) ?? 0
    if (left >= 0) return undefined
    const why = `client.command_rate is ${command_rate}`
    const end = Effect.sync(() => outlet.end(Codes.tooManyRequestsDisconnect, why))
    // Without an id it has no answer, and it must not be dropped silently. What came before it is carried out.
    if (id === 0) return { ...side(end), exclusive: true }
    if (left <= -command_rate) return side(end)
    return side(answers.refuse(id, Codes.tooManyRequests, method, why), lane)
  }

  /** Submits what a line asks for; returns whether it was a pong. */
  const receiveLine = (line: string): boolean => {
    const decoded = Command.decodeLine(line)
    if (Either.isLeft(decoded)) {
      outlet.end(Codes.badRequestDisconnect, decoded.left)
      return false
    }
    const command = decoded.right
    if (command.method === "pong") return true
    metrics.commands(command.method).add()
    if (phase === "new" && command.method !== "connect") {
      outlet.end(Codes.badRequestDisconnect, "the first command is connect")
    } else if (phase !== "new" && command.method === "connect") {
      outlet.end(Codes.badRequestDisconnect, "connect came twice")
    } else {
      if (command.method === "connect") phase = "connecting"
      outlet.submit(
        overRate(command.id, command.method, laneOf(command)) ??
          (command.method === "unknown"
            ? side(answers.refuse(command.id, Codes.methodNotFound, JSON.stringify(command.name), "no such method"))
            : task(command))
      )
    }
    return false
  }

  return {
    kind: "protocol",
    pingText: Json.EMPTY,
    // A client that has done its part must not be told to stay away.
    overdue: () => (phase === "connected" ? undefined : phase === "new" ? Codes.stale : Codes.serverError),
    sweep: (now) => {
      if (isOver(services, expiresAt, now)) outlet.end(Codes.connectionExpired)
      else subscriptions.sweep(now)
    },
    receive: (text) => Command.lines(text).map(receiveLine).includes(true),
    gone: () => {
      isGone = true
      clients.remove(handle)
    },
    close: (disconnect) =>
      Effect.suspend(() => {
        const wasConnected = phase === "connected"
        phase = "closed"
        clients.remove(handle)
        for (const done of Array.from(waiting)) done(false)
        const left = subscriptions.leaveAll
        return Effect.zipRight(left, wasConnected ? farewell(services, client, disconnect) : Effect.void)
      })
  }
}
