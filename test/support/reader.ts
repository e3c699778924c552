/**
 * A client of the client protocol that keeps a log, in the test's hands: when
 * it connects, from where it recovers, and everything that it was told.
 */
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import * as Exit from "effect/Exit"
import type { Position } from "../../src/History.ts"
import * as Socket from "./socket.ts"
import { type NeverHappened, Watched } from "./wait.ts"

interface Pub {
  readonly data: unknown
  readonly offset?: number
}

/** The result of `subscribe`. */
export interface Subscribed {
  readonly epoch: string
  readonly offset?: number
  readonly recovered?: boolean
  readonly was_recovering?: boolean
  readonly publications?: ReadonlyArray<Pub>
}

interface Reply {
  readonly id?: number
  readonly error?: { readonly code: number }
  readonly subscribe?: Subscribed
  readonly push?: { readonly pub?: Pub; readonly unsubscribe?: { readonly code: number } }
}

/** A reader of one channel. */
export class Reader {
  readonly channel: string
  /** The data that it has got since it last began anew, replayed and live. */
  log: Array<unknown> = []
  /** After the last of them. */
  position: Position | undefined
  /** Whether it is subscribed now. */
  isSubscribed = false
  /** Codes of unsubscribe pushes. */
  readonly ended: Array<number> = []
  /** Something that must never be: a hole, a duplicate, a publication without a subscription. */
  readonly violations: Array<string> = []
  readonly #watched = new Watched()
  #socket: Socket.Socket | undefined
  #scope: Scope.CloseableScope | undefined
  #reply: Subscribed | number | undefined

  constructor(channel: string) {
    this.channel = channel
  }

  /** Connects and subscribes; recovers where it has a position. Fails with the code of an error reply. */
  connect(ws: string): Effect.Effect<Subscribed, unknown> {
    return Effect.gen(this, function* () {
      this.#scope = yield* Scope.make()
      this.#socket = yield* Scope.extend(
        Socket.open(`${ws}/connection/websocket`, { onText: (text) => this.#receive(text) }),
        this.#scope
      )
      this.#socket.send('{"id":1,"connect":{}}')
      return yield* this.subscribe()
    })
  }

  /** Subscribes on the connection that it has. */
  subscribe(): Effect.Effect<Subscribed, number | NeverHappened> {
    return Effect.gen(this, function* () {
      const { channel, position } = this
      this.#reply = undefined
      const recovery = position === undefined ? {} : { recover: true, ...position }
      this.#socket?.send(JSON.stringify({ id: 2, subscribe: { channel, recoverable: true, ...recovery } }))
      yield* this.until(() => this.#reply !== undefined, "the reply to subscribe")
      const reply = this.#reply as Subscribed | number | undefined
      return typeof reply === "object" ? reply : yield* Effect.fail(reply ?? 0)
    })
  }

  /** Stops and resumes reading. */
  pause(): void {
    this.#socket?.pause()
  }

  resume(): void {
    this.#socket?.resume()
  }

  /** The connection is gone at once, as a network does it. */
  get disconnect(): Effect.Effect<void> {
    return Effect.suspend(() => {
      const scope = this.#scope
      this.#scope = undefined
      this.#socket = undefined
      this.isSubscribed = false
      return scope === undefined ? Effect.void : Scope.close(scope, Exit.void)
    })
  }

  until(done: () => boolean, what: string): Effect.Effect<void, NeverHappened> {
    return this.#watched.until(
      done,
      () => `${what}; ${this.channel} at ${JSON.stringify(this.position)}, ended: ${this.ended.join()}`
    )
  }

  #receive(frame: string): void {
    // What was on its way when the connection was given up belongs to nobody.
    if (this.#scope === undefined) return
    for (const line of frame.split("\n")) {
      if (line === "{}") this.#socket?.send("{}")
      else this.#take(JSON.parse(line) as Reply)
    }
    this.#watched.changed()
  }

  #take({ error, id, push, subscribe }: Reply): void {
    if (id === 2) this.#reply = error?.code ?? subscribe
    if (subscribe !== undefined) this.#begin(subscribe)
    if (push?.pub !== undefined) this.#append(push.pub)
    if (push?.unsubscribe !== undefined) {
      this.isSubscribed = false
      this.ended.push(push.unsubscribe.code)
    }
  }

  #begin({ epoch, offset = 0, publications = [], recovered = false }: Subscribed): void {
    this.isSubscribed = true
    if (!recovered) {
      if (publications.length > 0) this.violations.push("publications though it was not recovered")
      this.log = []
      this.position = { epoch, offset }
      return
    }
    if (this.position?.epoch !== epoch) this.violations.push("recovered from another epoch")
    // The offset that it asked from: it moves on with each publication.
    if (this.position?.offset !== offset) {
      this.violations.push(`recovered from ${this.position?.offset}, but told of ${offset}`)
    }
    for (const publication of publications) this.#append(publication)
  }

  #append({ data, offset }: Pub): void {
    const position = this.position
    if (!this.isSubscribed || position === undefined) {
      this.violations.push(`${offset} without a subscription`)
      return
    }
    if (offset !== position.offset + 1) this.violations.push(`${offset} after ${position.offset}`)
    this.position = { epoch: position.epoch, offset: offset ?? 0 }
    this.log.push(data)
  }
}
