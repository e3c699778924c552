/** Plays a case to a server. */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { Watched } from "../support/wait.ts"
import * as Http from "../support/http.ts"
import * as Socket from "../support/socket.ts"
import type { Case, Profile, Step } from "./Case.ts"
import { profiles } from "./profiles.ts"
import { canonical, isOwn, Names, ownId, parsed, type Transcript, withoutMessages } from "./Transcript.ts"

/** Where a server is. */
export interface Target {
  readonly http: string
  readonly ws: string
  /** How long it has for each answer. */
  readonly patience: Duration.DurationInput
  /** Whether its process has ended. */
  readonly hasEnded?: () => boolean
}

interface Reply {
  readonly id?: number
  readonly error?: unknown
  readonly connect?: { readonly client?: string }
  readonly push?: unknown
}

/** Ids that have to be answered. */
const idsOf = (frame: string | Uint8Array): ReadonlyArray<number> =>
  (typeof frame === "string" ? frame : "").split("\n").flatMap((line) => {
    const { id } = (parsed(line) ?? {}) as Reply
    return typeof id === "number" && Number.isInteger(id) && id > 0 && id < 2 ** 32 ? [id] : []
  })

/** A connection in a case: what came so far, and whether the server has let it in. */
class Connection {
  readonly name: string
  readonly socket: Socket.Socket
  readonly watched = new Watched()
  readonly replies: Array<{ readonly text: string; readonly reply: Reply }> = []
  readonly pushes: Array<string> = []
  readonly #patience: Duration.DurationInput
  isConnected = false
  isRefused = false
  /** Whether the case waits for its end. */
  isAwaited = false
  end: Socket.Closed | undefined

  constructor(name: string, socket: Socket.Socket, names: Names, patience: Duration.DurationInput) {
    this.#patience = patience
    this.name = name
    this.socket = socket
    const take = (frame: string): void => {
      for (const text of frame.split("\n")) if (text !== "" && text !== "{}") this.#take(text, names)
      this.watched.changed()
    }
    for (const frame of socket.received) take(frame)
    if (socket.isClosed()) this.end = { code: 1006, reason: "" }
    socket.ws.on("message", (data) => take(String(data)))
    socket.ws.on("close", (code, reason) => {
      this.end = { code, reason: reason.toString() }
      this.watched.changed()
    })
  }

  #take(text: string, names: Names): void {
    names.see(text)
    const reply = (parsed(text) ?? {}) as Reply
    if (reply.push !== undefined) return void this.pushes.push(text)
    if (reply.connect?.client !== undefined) {
      names.connected(this.name, reply.connect.client)
      this.isConnected = true
    }
    // Nothing else of its frame is answered, and the server may close it now or a second later.
    if (reply.error !== undefined && !this.isConnected) this.isRefused = true
    this.replies.push({ text, reply })
  }

  /** Waits for its end. */
  get closed(): Effect.Effect<void> {
    this.isAwaited = true
    return this.until(() => false)
  }

  /** Waits for `done`, and not for ever. */
  until(done: () => boolean): Effect.Effect<void> {
    return Effect.ignore(this.watched.until(() => this.end !== undefined || done(), "an answer", this.#patience))
  }
}

/** Carries out the steps of a case, and writes its transcript. */
class Player {
  readonly #target: Target
  readonly #case: Case
  readonly #names: Names
  readonly #connections = new Map<string, Connection>()
  readonly #told: Array<string> = []
  #asked = 0

  constructor(target: Target, one: Case, own: string) {
    this.#target = target
    this.#case = one
    this.#names = new Names(own)
  }

  step(step: Step): Effect.Effect<void, unknown, Scope.Scope> {
    if (step.do === "call") return this.#call(step)
    return Effect.flatMap(this.#connectionOf(step.socket), (connection) => {
      if (connection === undefined) return Effect.void
      if (step.do === "closed") return connection.closed
      if (step.do === "pushes") return connection.until(() => connection.pushes.length >= step.count)
      return this.#exchange(connection, step.frame)
    })
  }

  /** The transcript, once the last answers have come. */
  get transcript(): Effect.Effect<Transcript> {
    const connections = Array.from(this.#connections.values())
    return Effect.map(
      // What comes late, such as a close, comes before one more answer.
      Effect.forEach(connections, (connection) => this.#settle(connection, [], connection.replies.length)),
      () => {
        for (const connection of connections) this.#rest(connection)
        return this.#target.hasEnded?.() === true ? [...this.#told, "the process has ended"] : this.#told
      }
    )
  }

  #connectionOf(name: string): Effect.Effect<Connection | undefined, unknown, Scope.Scope> {
    const known = this.#connections.get(name)
    if (known !== undefined) return Effect.succeed(known)
    return Effect.matchEffect(Socket.open(`${this.#target.ws}/connection/websocket`), {
      onFailure: (error) => {
        if (error._tag !== "Refused") return Effect.fail(error)
        this.#told.push(`${name} refused ${error.status}`)
        return Effect.succeed(undefined)
      },
      onSuccess: (socket) => {
        const connection = new Connection(name, socket, this.#names, this.#target.patience)
        this.#connections.set(name, connection)
        return Effect.succeed(connection)
      }
    })
  }

  #exchange(connection: Connection, frame: string | Uint8Array): Effect.Effect<void> {
    if (connection.end !== undefined) return Effect.void
    const before = connection.replies.length
    const filled = typeof frame === "string" ? this.#names.fill(frame) : frame
    const ids = idsOf(filled)
    connection.socket.send(filled)
    const first = connection.isConnected
      ? Effect.void
      : connection.until(() => connection.isRefused || this.#left(connection, ids, before) === 0)
    return Effect.zipRight(
      Effect.zipRight(first, this.#settle(connection, ids, before)),
      Effect.sync(() => {
        const answers = connection.replies.slice(before).filter(({ reply }) => !isOwn(reply.id))
        // Commands on different channels may be answered in any order.
        for (const { text } of answers.toSorted((one, other) => (one.reply.id ?? 0) - (other.reply.id ?? 0))) {
          this.#tell(`${connection.name} reply`, text)
        }
        if (!connection.isConnected) return
        const missing = connection.end === undefined ? this.#left(connection, ids, before) : 0
        if (missing > 0) this.#told.push(`${connection.name} ${missing} without an answer`)
      })
    )
  }

  /** How many of these ids have had no answer since. */
  #left(connection: Connection, ids: ReadonlyArray<number>, before: number): number {
    const answered = connection.replies.slice(before).map(({ reply }) => reply.id)
    return ids.filter((id) => {
      const at = answered.indexOf(id)
      if (at >= 0) answered.splice(at, 1)
      return at < 0
    }).length
  }

  /** Sends one more command: with its answer, all answers have come that come at once. */
  #settle(connection: Connection, ids: ReadonlyArray<number>, before: number): Effect.Effect<void> {
    if (!connection.isConnected || connection.end !== undefined) return Effect.void
    const id = ownId(this.#asked++)
    connection.socket.send(`{"id":${id},"rpc":{"method":"settled"}}`)
    return Effect.zipRight(
      connection.until(() => connection.replies.some(({ reply }) => reply.id === id)),
      connection.until(() => this.#left(connection, ids, before) === 0)
    )
  }

  #call({ body, headers, isSilent, method }: Extract<Step, { do: "call" }>): Effect.Effect<void, Error> {
    const sent = Http.send(`${this.#target.http}/api/${method}`, {
      method: "POST",
      headers: { "Content-Type": "application/json", ...headers },
      body: this.#names.fill(body)
    })
    return Effect.map(sent, (answer) => {
      this.#names.see(answer.body)
      if (isSilent === true) return
      this.#tell(`api ${method} ${answer.status}`, withoutMessages(answer.body))
    })
  }

  #tell(who: string, text: string, isRaw = false): void {
    const told = this.#names.tell(text)
    this.#told.push(`${who} ${isRaw ? told : canonical(told)}`)
  }

  /** Its pushes and its end. */
  #rest(connection: Connection): void {
    for (const text of connection.pushes) this.#tell(`${connection.name} push`, text, this.#case.isRaw)
    // A client that was refused may be closed by now, or not yet: told where the case waits for it.
    const isLate = connection.isRefused && connection.end?.code === 3000 && !connection.isAwaited
    const end = isLate ? undefined : connection.end
    if (end !== undefined) this.#told.push(`${connection.name} closed ${end.code} ${end.reason}`.trimEnd())
  }
}

/** Plays a case and returns its transcript. `own` is a text that no other case has. */
export const play = (target: Target, one: Case, own: string): Effect.Effect<Transcript, unknown> =>
  Effect.gen(function* () {
    const player = new Player(target, one, own)
    yield* Effect.forEach(one.steps(own), (step) => player.step(step), { discard: true })
    return yield* player.transcript
  }).pipe(Effect.scoped)

/** Cases that are played at a time. */
const CONCURRENCY = 24

type Start = (profile: Profile) => Effect.Effect<Target, unknown, Scope.Scope>

const playTo = (targetOf: (one: Case) => Target, cases: ReadonlyArray<Case>, prefix: string) =>
  Effect.forEach(
    cases,
    (one, index) => {
      const own = `${prefix}${String(index).padStart(4, "0")}`
      return Effect.map(play(targetOf(one), one, own), (transcript) => [one.name, transcript] as const)
    },
    { concurrency: CONCURRENCY }
  )

/** Plays cases to servers, one for each profile and one for each deadly case; returns the transcripts by case. */
export const playAll = (
  start: Start,
  cases: ReadonlyArray<Case>
): Effect.Effect<ReadonlyMap<string, Transcript>, unknown> =>
  Effect.gen(function* () {
    const targets = new Map<Profile, Target>()
    for (const profile of profiles) targets.set(profile, yield* start(profile))
    const most = cases.filter(({ isDeadly }) => !isDeadly)
    const played = yield* playTo(({ profile }) => targets.get(profile) as Target, most, "case")
    const deadly = yield* Effect.forEach(
      cases.filter(({ isDeadly }) => isDeadly),
      (one) => Effect.scoped(Effect.flatMap(start(one.profile), (target) => playTo(() => target, [one], "last")))
    )
    const answers = new Map([...played, ...deadly.flat()])
    return new Map(cases.map(({ name }) => [name, answers.get(name) ?? []]))
  }).pipe(Effect.scoped)
