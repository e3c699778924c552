/**
 * The client protocol (centrifugal/protocol, version 2, JSON): a state machine
 * from commands to replies.
 *
 * `connect` comes first and runs alone. Commands on one channel run one after
 * another, in the order received, but that a publish does not wait for the answer
 * to the publish before it; commands on different channels side by side.
 * What the server itself does with a channel of the client takes its turn among
 * them.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as Clients from "../Clients.ts"
import * as Frame from "../Frame.ts"
import * as Hooks from "../Hooks.ts"
import { Bucket } from "../internal/Bucket.ts"
import { value } from "../internal/exit.ts"
import * as Codes from "../protocol/Codes.ts"
import * as Command from "../protocol/Command.ts"
import * as Json from "../protocol/Json.ts"
import type * as Publication from "../protocol/Publication.ts"
import {
  commandSpan,
  farewell,
  isOver,
  named,
  type Outlet,
  type Services,
  type Session,
  type Task,
  ttl,
  type Turn,
  wholeSeconds
} from "../Session.ts"
import * as Tracing from "../Tracing.ts"
import { version } from "../version.ts"
import { Answers } from "./Answers.ts"
import { Carrying, channelOf, laneOf } from "./Carrying.ts"
import * as Commands from "./Commands.ts"
import * as ServerSide from "./ServerSide.ts"
import { Subscriptions } from "./Subscriptions.ts"

type Of<M extends Command.Command["method"]> = Extract<Command.Command, { method: M }>

/** A client whose `connect` was refused is given this long to leave by itself. */
const REFUSED_CLOSE_DELAY = Duration.seconds(1)

/** `size`: characters of the client's text that it, or its lane, keeps. */
const side = (run: Effect.Effect<void>, lane = "/refused", size = 0): Task => ({
  lane,
  size,
  exclusive: false,
  isHeavy: false,
  run: () => run
})

/** What all sessions of a server share. */
interface Shared extends Services {
  readonly node: string
  readonly carried: Commands.Commands
}

/** What came with the upgrade. */
type Request = Pick<Hooks.ConnectRequest, "headers" | "address">

const NO_SUBS: ReadonlyMap<string, string> = new Map()

const NO_REQUEST: Request = { headers: {}, address: "" }

// A class: as closures over what they share, its methods take 3 KB for each connection.
class Protocol implements Session, Clients.Client, Commands.Asker {
  readonly kind = "protocol"
  readonly pingText = Json.EMPTY
  readonly outlet: Outlet
  readonly answers: Answers
  readonly subscriptions: Subscriptions
  readonly #shared: Shared
  #request: Request
  #phase: "new" | "connecting" | "connected" | "refused" | "closed" = "new"
  #client: Publication.ClientInfo
  /** Unix seconds. */
  #expiresAt: number | undefined
  #isGone = false
  /** Made with the first command, where there is a limit. */
  #rate: Bucket | undefined
  /** What the server waits for in the turn of the client's commands. */
  #waiting: Set<(isDone: boolean) => void> | undefined

  constructor(shared: Shared, outlet: Outlet, request: Request) {
    this.#shared = shared
    this.outlet = outlet
    this.#request = request
    this.#client = { client: outlet.id, user: "" }
    this.answers = new Answers(shared, outlet)
    this.subscriptions = new Subscriptions(shared, outlet, this)
  }

  #show(info: string): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.#client = { ...this.#client, connInfo: info }
      return this.subscriptions.show
    })
  }

  refreshed(refreshed: Hooks.Refreshed): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.#expiresAt = refreshed.expiresAt
      return refreshed.info === undefined ? Effect.void : this.#show(refreshed.info)
    })
  }

  // ── Connecting ───────────────────────────────────────────────────────────

  /** The client is told, and given a moment to leave by itself. */
  #refuseConnect(told: Effect.Effect<void>): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.#phase = "refused"
      this.#shared.clients.remove(this)
      return told.pipe(
        Effect.zipRight(Effect.sleep(REFUSED_CLOSE_DELAY)),
        Effect.zipRight(Effect.sync(() => this.outlet.end(Codes.connectionClosed, "connect was refused")))
      )
    })
  }

  /** From now on it can be disconnected by its user's name; what it is told where its user has too many. */
  #accept({ expiresAt, info, user }: Hooks.Accepted): Effect.Effect<void> | undefined {
    const { user_connection_limit } = this.#shared.config.client
    this.#client = { client: this.outlet.id, user, ...(info === undefined ? {} : { connInfo: info }) }
    this.#expiresAt = expiresAt
    if (this.#shared.clients.add(this)) return undefined
    const why = `client.user_connection_limit is ${user_connection_limit}, and "${user}" has as many`
    return Effect.sync(() => this.outlet.end(Codes.connectionLimit, why))
  }

  /** It is connected, and told so. */
  #welcome({ id }: Of<"connect">, { data }: Hooks.Accepted, subs: ReadonlyMap<string, string>): void {
    this.#phase = "connected"
    const result = Json.connectResult({
      client: this.outlet.id,
      version,
      ping: wholeSeconds(Math.round(Duration.toSeconds(this.#shared.config.client.ping_interval))),
      node: this.#shared.node,
      data,
      ttl: ttl(this.#shared, this.#expiresAt),
      subs
    })
    this.outlet.send(Json.reply(id, "connect", result))
  }

  #establish(command: Of<"connect">, accepted: Hooks.Accepted): Effect.Effect<void> {
    const { config, metrics } = this.#shared
    const { channel_limit, reply_max_size } = config.client
    const channels = ServerSide.channelsOf(accepted)
    const invalid = ServerSide.invalid(config, channels)
    if (invalid !== undefined) {
      const { channel, detail, error } = invalid
      const refused = this.answers.refuse(command.id, error, `connect to ${JSON.stringify(channel)}`, detail)
      return this.#refuseConnect(Effect.annotateLogs(refused, "channel", channel))
    }
    if (channels.size > channel_limit) {
      return Effect.sync(() => {
        metrics.limits.channels.add()
        this.outlet.end(Codes.channelLimit, `client.channel_limit is ${channel_limit}`)
      })
    }
    const refused = this.#accept(accepted)
    if (refused !== undefined) return refused
    return ServerSide.prepare(this.subscriptions, channels, command.params.subs, reply_max_size).pipe(
      Effect.map((prepared) => {
        const subs = new Map<string, string>()
        for (const { channel, join } of prepared) {
          const joined = join()
          if (Either.isLeft(joined)) {
            const told = this.answers.refuse(command.id, joined.left, "connect", `"${channel}": ${joined.left.message}`)
            const toldOf = Effect.annotateLogs(told, "channel", channel)
            return Effect.zipRight(this.subscriptions.leaveAll, this.#refuseConnect(toldOf))
          }
          subs.set(channel, joined.right)
        }
        this.#welcome(command, accepted, subs)
        if (subs.size === 0) return Effect.void
        return Effect.forEach(subs.keys(), (channel) => this.subscriptions.announce(channel), {
          concurrency: "unbounded",
          discard: true
        })
      }),
      Effect.scoped,
      Effect.catchTag("BrokerError", (error) =>
        Effect.succeed(this.#refuseConnect(this.answers.unavailable(command.id, error, "connect")))
      ),
      Effect.flatten
    )
  }

  #mayConnect(
    { data, params: { token } }: Of<"connect">,
    deciding: Commands.Deciding
  ): Effect.Effect<Hooks.Accepted, Hooks.Rejected> {
    return deciding.decided(() => {
      const { address, headers } = this.#request
      // Not kept any longer: its headers are most of what a connection would hold.
      this.#request = NO_REQUEST
      const about = { client: this.outlet.id, kind: "protocol", token, data, headers, address } as const
      return this.#shared.hooks.onConnect(about)
    })
  }

  #connect(command: Of<"connect">, deciding: Commands.Deciding): Effect.Effect<void> {
    return Effect.matchEffect(this.#mayConnect(command, deciding), {
      onFailure: (rejected) => {
        const told = this.answers.reject(command.id, rejected, "connect")
        return rejected.disconnect === true ? told : this.#refuseConnect(told)
      },
      onSuccess: (accepted) => this.#establish(command, accepted)
    })
  }

  #connectNow(command: Of<"connect">, deciding: Commands.Deciding, turn: Turn): boolean {
    if (this.#shared.publisher.isTraced) return false
    const accepted = value(this.#mayConnect(command, deciding))?.value
    if (accepted === undefined || (accepted.channels ?? []).length > 0) return false
    const refused = this.#accept(accepted)
    if (refused === undefined) this.#welcome(command, accepted, NO_SUBS)
    turn.done(refused)
    return true
  }

  // ── What the server does with the client ─────────────────────────────────

  /** Runs something in the turn of the client's commands on a channel; `false` where it cannot be, or is not, done. */
  #inTurn(channel: string, run: Effect.Effect<boolean>): Effect.Effect<boolean> {
    return Effect.async((resume) => {
      // Whoever asks for more than the client's own commands leave room for, has to wait.
      if (this.#phase !== "connected" || this.#isGone || this.outlet.isBusy()) return resume(Effect.succeed(false))
      const waiting = (this.#waiting ??= new Set())
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
      this.outlet.submit(side(task, channel))
    })
  }

  info(): Publication.ClientInfo {
    return this.#client
  }

  subscribe(channel: string, granted: Hooks.Granted): Effect.Effect<boolean> {
    return this.#inTurn(channel, ServerSide.subscribe(this, this.#shared.config, channel, granted))
  }

  unsubscribe(channel: string, why: Codes.Unsubscribe): Effect.Effect<boolean> {
    return this.#inTurn(channel, ServerSide.unsubscribe(this, channel, why))
  }

  refresh(how: Hooks.Refreshed): boolean {
    if (this.outlet.isBusy()) return false
    const told = Effect.sync(() => this.outlet.send(Json.refreshPush(ttl(this.#shared, how.expiresAt))))
    this.outlet.submit(side(Effect.zipRight(told, this.refreshed(how)), "/refresh"))
    return true
  }

  send(data: string): void {
    this.outlet.deliver(Frame.text(Json.messagePush(data)), false)
  }

  disconnect(disconnect: Codes.Disconnect, detail: string): void {
    this.outlet.end(disconnect, detail)
  }

  // ── What the client says ─────────────────────────────────────────────────

  // A hook that fails in a way of its own, or ends as interrupted, costs its command, with an answer, and never the connection.
  #guarded(command: Command.Command, effect: () => Effect.Effect<void>): Effect.Effect<void> {
    const channel = named(this.#shared.config, channelOf(command))
    const run = Effect.suspend(() => (this.#phase === "refused" ? Effect.void : effect())).pipe(
      Effect.catchAllCause((cause) =>
        Effect.zipRight(
          Effect.logError(`${command.method} failed`, cause),
          command.method === "connect"
            ? Effect.sync(() => this.outlet.end(Codes.serverError, "connect failed"))
            : command.method === "send"
              ? Effect.sync(() => this.outlet.end(Codes.serverError, "send failed"))
              : this.answers.refuse(command.id, Codes.internal, command.method, "a defect, logged above")
        )
      ),
      Tracing.span(`command.${command.method}`, () => commandSpan(this.#client, channel))
    )
    return channel === undefined ? run : Effect.annotateLogs(run, "channel", channel)
  }

  /** Carries a command out; see `Task`. */
  run(carrying: Carrying): Effect.Effect<void> {
    const { command } = carrying
    return this.#guarded(command, () =>
      command.method === "connect"
        ? this.#connect(command, carrying)
        : this.#shared.carried.run(this, command, carrying)
    )
  }

  now(carrying: Carrying): boolean {
    const { command } = carrying
    if (this.#phase === "refused") return false
    return command.method === "connect"
      ? this.#connectNow(command, carrying, carrying)
      : this.#shared.carried.now(this, command, carrying, carrying)
  }

  /** What is left to do of a command. */
  rest(command: Command.Command, rest: Effect.Effect<void>): Effect.Effect<void> {
    return this.#guarded(command, () => rest)
  }

  /** What a command costs that is one too many; `undefined`: it is not. */
  #overRate(id: number, method: string, lane: string, size: number): Task | undefined {
    const { clock, config } = this.#shared
    const { command_rate } = config.client
    if (command_rate === 0) return undefined
    this.#rate ??= new Bucket(command_rate, command_rate)
    const left = this.#rate.take(clock.monotonic())
    if (left >= 0) return undefined
    const why = `client.command_rate is ${command_rate}`
    const end = Effect.sync(() => this.outlet.end(Codes.tooManyRequestsDisconnect, why))
    // Without an id it has no answer, and it must not be dropped silently. What came before it is carried out.
    if (id === 0) return { ...side(end), exclusive: true }
    if (left <= -command_rate) return side(end)
    return side(this.answers.refuse(id, Codes.tooManyRequests, method, why), lane, size)
  }

  /** Submits what a line asks for; returns whether it was a pong. */
  #receiveLine(line: string): boolean {
    const decoded = Command.decodeLine(line)
    if (Either.isLeft(decoded)) {
      this.outlet.end(Codes.badRequestDisconnect, decoded.left)
      return false
    }
    const command = decoded.right
    if (command.method === "pong") return true
    this.#shared.metrics.commands(command.method).add()
    if (this.#phase === "new" && command.method !== "connect") {
      this.outlet.end(Codes.badRequestDisconnect, "the first command is connect")
    } else if (this.#phase !== "new" && command.method === "connect") {
      this.outlet.end(Codes.badRequestDisconnect, "connect came twice")
    } else {
      if (command.method === "connect") this.#phase = "connecting"
      this.outlet.submit(
        this.#overRate(command.id, command.method, laneOf(command), line.length) ??
          (command.method === "unknown"
            ? side(
                this.answers.refuse(command.id, Codes.methodNotFound, JSON.stringify(command.name), "no such method"),
                undefined,
                line.length
              )
            : new Carrying(this, command, line.length))
      )
    }
    return false
  }

  // ── What the connection tells ────────────────────────────────────────────

  receive(text: string): boolean {
    let answersPing = false
    const rest = Command.readLines(text, (line) => {
      if (this.#receiveLine(line)) answersPing = true
      return this.outlet.mayReadOn()
    })
    if (rest !== "") this.outlet.putBack(rest)
    return answersPing
  }

  // A client that has done its part must not be told to stay away.
  overdue(): Codes.Disconnect | undefined {
    return this.#phase === "connected" ? undefined : this.#phase === "new" ? Codes.stale : Codes.serverError
  }

  sweep(now: number): void {
    if (isOver(this.#shared, this.#expiresAt, now)) this.outlet.end(Codes.connectionExpired)
    else this.subscriptions.sweep(now)
  }

  gone(): void {
    this.#isGone = true
    this.#shared.clients.remove(this)
  }

  close(disconnect: Codes.Disconnect): Effect.Effect<void> {
    return Effect.suspend(() => {
      const wasConnected = this.#phase === "connected"
      this.#phase = "closed"
      this.#shared.clients.remove(this)
      for (const done of Array.from(this.#waiting ?? [])) done(false)
      const left = this.subscriptions.leaveAll
      return Effect.zipRight(left, wasConnected ? farewell(this.#shared, this.#client, disconnect) : Effect.void)
    })
  }
}

/** Makes sessions of the client protocol. `request` is what is known of the client before it speaks. */
export const make = (services: Services, node: string): ((outlet: Outlet, request: Request) => Session) => {
  const shared = { ...services, node, carried: Commands.make(services) }
  return (outlet, request) => new Protocol(shared, outlet, request)
}
