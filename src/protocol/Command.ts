/**
 * Commands of the client protocol (centrifugal/protocol, `client.proto`,
 * version 2) and how they are read from a frame. Unknown fields are ignored,
 * missing numbers are 0, `null` is a field that is missing, but for `data`, which
 * is kept as the text that came.
 */
import * as Either from "effect/Either"
import * as Predicate from "effect/Predicate"
import { anything, flag, integer, natural, optional, read, record, text, type Values, WRONG } from "./Fields.ts"
import * as Raw from "./Raw.ts"

const channel = text("the channel")

const position = { offset: natural("after this offset"), epoch: text("of this stream") }

const recovery = {
  recover: flag("asks for what was published after `offset`"),
  offset: natural("the offset that was seen last; with `recover`"),
  epoch: text("the stream that `offset` counts in; with `recover`")
}

const isRecovery = (value: unknown): value is unknown => read(recovery, value) !== WRONG

/** From where a client recovers server-side subscriptions, by channel. */
export type Subs = Readonly<Record<string, unknown>>

/** From where a client recovers a server-side subscription. */
export const recoveryOf = (subs: Subs, channel: string): Values<typeof recovery> => {
  const values = read(recovery, (Object.hasOwn(subs, channel) ? subs[channel] : null) ?? {})
  if (values === WRONG) throw new TypeError("not checked")
  return values
}

/** Bit 2 of `flag` of `subscribe`: a position that cannot be recovered from is an error. */
export const REJECT_UNRECOVERED = 2

/** The methods of the protocol and their fields; `data` is not among them: it is raw. */
export const methods = {
  connect: {
    token: text("connection token; empty: none"),
    name: text("of the client; not used"),
    version: text("of the client; not used"),
    headers: record(Predicate.isString)("not used"),
    subs: record(isRecovery)(
      "from where to recover subscriptions that the server makes, by channel: `recover`, `offset` and `epoch`, as in `subscribe`"
    )
  },
  subscribe: {
    channel,
    token: text("subscription token; empty: none"),
    ...recovery,
    positioned: flag("asks for a positioned subscription, which is told of a gap"),
    recoverable: flag("asks for a recoverable subscription"),
    join_leave: flag("asks for joins and leaves"),
    flag: integer("2: a position that cannot be recovered from is error 112; other bits are ignored"),
    type: integer("kind of subscription; any but 0, a stream, is not available: error 108"),
    tf: anything("filter by tags; not available: error 108")
  },
  unsubscribe: { channel },
  publish: {
    channel,
    type: integer("kind of publication; any but 0, for a stream, is not available: error 108"),
    key: text("of a publication to a map; not available: error 108"),
    removed: flag("removes a key of a map; not available: error 108")
  },
  rpc: { method: text("what is called") },
  presence: { channel },
  presence_stats: { channel },
  history: {
    channel,
    limit: integer("most publications; 0: only the position; below 0: as many as a page holds"),
    since: optional(position)("`offset` and `epoch`: only what comes after it (`reverse`: before it)"),
    reverse: flag("from the newest to the oldest")
  },
  refresh: { token: text("a new connection token") },
  sub_refresh: {
    channel,
    token: text("a new subscription token"),
    type: integer("any but 0, a refresh, is not available: error 108")
  },
  ping: {},
  send: {}
} as const

type Methods = typeof methods

/** What each method does, and what its `data` is, where it takes any: docs/protocol.md lists it. */
export const about: { readonly [M in keyof Methods]: { readonly doc: string; readonly data?: string } } = {
  connect: { doc: "introduces the client: the first command, and once", data: "for the hook `onConnect`" },
  subscribe: { doc: "subscribes to a channel", data: "for the hook `onSubscribe`" },
  unsubscribe: { doc: "ends a subscription, also one that there is not" },
  publish: { doc: "publishes to a channel", data: "the publication; has to be there" },
  rpc: { doc: "calls the hook `onRpc`", data: "for the hook" },
  presence: { doc: "who is in a channel" },
  presence_stats: { doc: "how many are in a channel" },
  history: { doc: "reads a channel's history" },
  refresh: { doc: "lets the connection go on" },
  sub_refresh: { doc: "lets a subscription go on" },
  ping: { doc: "is answered" },
  send: { doc: "sends something to the hook `onMessage`; without `id`, and without an answer", data: "for the hook" }
}

/** A command, told apart by `method`. `data` is its raw JSON where it had some. */
export type Command = {
  [M in keyof Methods]: {
    readonly method: M
    readonly id: number
    readonly params: Values<Methods[M]>
    readonly data: string | undefined
  }
}[keyof Methods]

/** What one line of a frame says: a command, the answer to a ping, or a method that is not known. */
export type Line =
  | Command
  | { readonly method: "pong" }
  | { readonly method: "unknown"; readonly id: number; readonly name: string }

const MAX_ID = 2 ** 32 - 1

const parseJson = (line: string): Either.Either<unknown, string> =>
  Either.try({ try: (): unknown => JSON.parse(line), catch: () => "malformed JSON" })

/** The first member that is a method; one that is `null` only where there is no other. */
const methodOf = (parsed: Readonly<Record<string, unknown>>): keyof Methods | undefined => {
  let absent: keyof Methods | undefined
  for (const name in parsed) {
    if (name === "id" || !Object.hasOwn(methods, name)) continue
    if (parsed[name] !== null) return name as keyof Methods
    absent ??= name as keyof Methods
  }
  return absent
}

/** What a line says that has no known method. */
const withoutMethod = (id: number, parsed: Readonly<Record<string, unknown>>): Either.Either<Line, string> => {
  const name = Object.keys(parsed).find((key) => key !== "id")
  if (name === undefined && id === 0) return Either.right({ method: "pong" })
  return id === 0 ? Either.left("a command has an id") : Either.right({ method: "unknown", id, name: name ?? "" })
}

/** Reads one line. Left is what is wrong with it, for the log. */
export const decodeLine = (line: string): Either.Either<Line, string> => {
  const json = parseJson(line)
  if (Either.isLeft(json)) return Either.left(json.left)
  const parsed = json.right
  if (!Predicate.isRecord(parsed)) return Either.left("a command is a JSON object")
  const id = parsed["id"] ?? 0
  if (typeof id !== "number" || !Number.isInteger(id) || id < 0 || id > MAX_ID) {
    return Either.left("the id of a command is a 32-bit unsigned integer")
  }
  const method = methodOf(parsed)
  if (method === undefined) return withoutMethod(id, parsed)
  if (id === 0 && method !== "send") return Either.left("a command has an id")
  const raw = Raw.member(line, method, "data")
  if (raw === "too deep") return Either.left(`data is nested deeper than ${Raw.MAX_DEPTH}`)
  const params = read(methods[method], parsed[method])
  return params === WRONG
    ? Either.left(`${method}: a field has a wrong type`)
    : Either.right({ method, id, params, data: raw?.text } as Command)
}

/**
 * Hands out the lines of a frame, JSON objects joined by line feeds, for as long as
 * `each` returns true. Returns what is left of the frame; empty, where nothing is.
 * A line of several is a copy: what is kept of one does not keep the frame.
 */
export const readLines = (frame: string, each: (line: string) => boolean): string => {
  if (!frame.includes("\n")) {
    each(frame)
    return ""
  }
  let from = 0
  while (from !== -1) {
    const end = frame.indexOf("\n", from)
    const line = frame.slice(from, end === -1 ? undefined : end)
    from = end === -1 ? -1 : end + 1
    if (line.trim() === "" || each(Raw.copy(line)) || from === -1) continue
    const rest = frame.slice(from)
    return rest.trim() === "" ? "" : rest.includes("\n") ? rest : Raw.copy(rest)
  }
  return ""
}
