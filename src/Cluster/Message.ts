/**
 * Control messages: what instances ask of each other, and answer.
 *
 * `v` is the lowest version of this format that a reader must know. A newer
 * instance may add fields and keep `v`; older ones ignore them. A field that
 * narrows what is asked (a filter) must not be ignored: a request that has one
 * gets a higher `v`. Who cannot read a request says so, and the asker's answer
 * is partial; so instances of neighbouring versions work together during a
 * rolling upgrade.
 */
import * as Either from "effect/Either"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"

/** The version that this instance reads and writes. */
export const VERSION = 1

const optionalText = Schema.optional(Schema.String)
const optionalTime = Schema.optional(Schema.Number)

/** The connections of a user, or that one of them. */
const connections = { user: Schema.String, client: optionalText }

/** Something to do with the connections of a user. Texts named `info` and `data` are raw JSON, times are Unix seconds. */
export const Operation = Schema.Union(
  Schema.Struct({
    type: Schema.Literal("subscribe"),
    ...connections,
    channel: Schema.String,
    info: optionalText,
    data: optionalText,
    expiresAt: optionalTime
  }),
  Schema.Struct({
    type: Schema.Literal("unsubscribe"),
    ...connections,
    channel: Schema.String,
    code: Schema.Int,
    reason: Schema.String
  }),
  Schema.Struct({
    type: Schema.Literal("disconnect"),
    ...connections,
    /** Connections that stay. */
    whitelist: Schema.Array(Schema.String),
    code: Schema.Int,
    reason: Schema.String
  }),
  Schema.Struct({
    type: Schema.Literal("refresh"),
    ...connections,
    /** Ends them, as expired. */
    expired: Schema.Boolean,
    expiresAt: optionalTime,
    info: optionalText
  }),
  Schema.Struct({ type: Schema.Literal("message"), user: Schema.String, data: Schema.String })
)
export type Operation = Schema.Schema.Type<typeof Operation>

/** Something to tell about an instance. */
export const Question = Schema.Union(
  Schema.Struct({
    type: Schema.Literal("channels"),
    /** `*` is any text, `?` any character. */
    pattern: Schema.String,
    /** Most channels in the answer. */
    limit: Schema.Int
  }),
  Schema.Struct({ type: Schema.Literal("info") })
)
export type Question = Schema.Schema.Type<typeof Question>

/** Something that instances are told, which concerns no connection; they confirm it. */
export const Notice = Schema.Struct({
  /** The history of a channel was removed: nothing of it is remembered. */
  type: Schema.Literal("forget"),
  channel: Schema.String
})
export type Notice = Schema.Schema.Type<typeof Notice>

const Ask = Schema.Union(Operation, Question, Notice)
/** What instances ask of each other. */
export type Ask = Schema.Schema.Type<typeof Ask>

/** An instance and its figures. */
export const Node = Schema.Struct({
  id: Schema.String,
  name: Schema.String,
  version: Schema.String,
  /** Seconds since it started. */
  uptime: Schema.Number,
  clients: Schema.Int,
  users: Schema.Int,
  subscriptions: Schema.Int,
  channels: Schema.Int
})
export type Node = Schema.Schema.Type<typeof Node>

/** What an instance answers. */
export const Answer = Schema.Union(
  /** An operation is done, or a notice heeded; `clients`: with so many connections. */
  Schema.Struct({ type: Schema.Literal("done"), clients: Schema.Int, isPartial: Schema.Boolean }),
  Schema.Struct({
    type: Schema.Literal("channels"),
    channels: Schema.Array(Schema.Tuple(Schema.String, Schema.Int)),
    /** There are more than the limit. */
    isPartial: Schema.Boolean
  }),
  Schema.Struct({ type: Schema.Literal("info"), node: Node }),
  /** It cannot do that: it does not know it, or it has too much to do. */
  Schema.Struct({ type: Schema.Literal("unable") })
)
export type Answer = Schema.Schema.Type<typeof Answer>

export const Request = Schema.Struct({
  v: Schema.Int,
  /** Who asks. */
  from: Schema.String,
  /** Under what the asker expects answers; without it, it expects none. */
  id: optionalText,
  ask: Ask
})
export type Request = Schema.Schema.Type<typeof Request>

export const Reply = Schema.Struct({ v: Schema.Int, from: Schema.String, re: Schema.String, answer: Answer })
export type Reply = Schema.Schema.Type<typeof Reply>

/** A message that came: a request, a reply, or a request that this instance cannot read. */
export type Message =
  | { readonly _tag: "Request"; readonly request: Request }
  | { readonly _tag: "Reply"; readonly reply: Reply }
  | { readonly _tag: "Unreadable"; readonly from: string; readonly id: string | undefined }

const decodeRequest = Schema.decodeUnknownEither(Request)
const decodeReply = Schema.decodeUnknownEither(Reply)

const text = (value: unknown): string | undefined => (typeof value === "string" ? value : undefined)

/** Reads a message; `undefined` for one that is none. */
export const decode = (message: string): Message | undefined => {
  const parsed = Either.getOrUndefined(Either.try((): unknown => JSON.parse(message)))
  if (!Predicate.isRecord(parsed)) return undefined
  const from = text(parsed["from"])
  if (from === undefined) return undefined
  const isReadable = typeof parsed["v"] === "number" && parsed["v"] <= VERSION
  const re = text(parsed["re"])
  if (re !== undefined) {
    // Also an answer that cannot be read is one: nobody waits for another.
    const reply = isReadable ? Either.getOrUndefined(decodeReply(parsed)) : undefined
    return { _tag: "Reply", reply: reply ?? { v: VERSION, from, re, answer: { type: "unable" } } }
  }
  const request = isReadable ? Either.getOrUndefined(decodeRequest(parsed)) : undefined
  return request === undefined ? { _tag: "Unreadable", from, id: text(parsed["id"]) } : { _tag: "Request", request }
}

/** Writes a request. */
export const request = (from: string, id: string | undefined, ask: Ask): string =>
  JSON.stringify({ v: VERSION, from, id, ask } satisfies Request)

/** Writes a reply. */
export const reply = (from: string, re: string, answer: Answer): string =>
  JSON.stringify({ v: VERSION, from, re, answer } satisfies Reply)
