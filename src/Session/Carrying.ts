/** A command of a client on its way from the inbox to its answer: one object for all of it. */
import type * as Effect from "effect/Effect"
import * as Hooks from "../Hooks.ts"
import type * as Command from "../protocol/Command.ts"
import type { Task, Turn } from "../Session.ts"
import * as Commands from "./Commands.ts"

/** The channel that a line is about. */
export const channelOf = (command: Exclude<Command.Line, { method: "pong" }>): string | undefined =>
  "params" in command && "channel" in command.params ? command.params.channel : undefined

/** In which lane it is carried out: answers of one lane come in the order of its commands. */
export const laneOf = (command: Exclude<Command.Line, { method: "pong" }>): string =>
  channelOf(command) ?? `/${command.method}`

/** Who carries commands out. */
export interface Carrier {
  /** See `Task.run`. */
  readonly run: (carrying: Carrying) => Effect.Effect<void>
  /** See `Task.now`; the turn is the command itself. */
  readonly now: (carrying: Carrying) => boolean
  /** What is left to do of a command that was carried out by `now`, and may fail. */
  readonly rest: (command: Command.Command, rest: Effect.Effect<void>) => Effect.Effect<void>
}

/** A command of a client while it is carried out: the task, and the turn that it has. */
export class Carrying implements Task, Turn, Commands.Deciding {
  readonly command: Command.Command
  readonly lane: string
  readonly exclusive: boolean
  readonly isHeavy: boolean
  readonly isPipelined: boolean
  readonly size: number
  #decision: Effect.Effect<unknown, Hooks.Rejected> | undefined
  readonly #client: Carrier
  #turn: Turn | undefined

  /** `size`: characters of the command. */
  constructor(client: Carrier, command: Command.Command, size: number) {
    const { method, params } = command
    this.#client = client
    this.command = command
    this.size = size
    this.lane = laneOf(command)
    this.exclusive = method === "connect"
    this.isHeavy =
      method === "presence" ||
      (method === "history" && params.limit !== 0) ||
      (method === "subscribe" && params.recover)
    this.isPipelined = Commands.isPipelined(command)
  }

  run(): Effect.Effect<void> {
    return this.#client.run(this)
  }

  now(turn: Turn): boolean {
    this.#turn = turn
    const isUnderWay = this.#client.now(this)
    // Nobody asks again; there may be thousands that wait for Redis.
    if (isUnderWay) this.#decision = undefined
    return isUnderWay
  }

  decided<A>(ask: () => Effect.Effect<A, Hooks.Rejected>): Effect.Effect<A, Hooks.Rejected> {
    this.#decision ??= Hooks.ask(ask)
    // A command asks one question only.
    return this.#decision as Effect.Effect<A, Hooks.Rejected>
  }

  passOn(): void {
    this.#turn?.passOn()
  }

  done(rest?: Effect.Effect<void>): void {
    this.#turn?.done(rest && this.#client.rest(this.command, rest))
  }
}
