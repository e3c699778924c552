/** Bodies and results of `presence`, `presence_stats`, `channels`, `info` and `rpc`. */
import * as Schema from "effect/Schema"
import * as Reply from "./Reply.ts"

const record = <A, I>(value: Schema.Schema<A, I>) => Schema.Record({ key: Schema.String, value })

/** The body of `presence`. */
export const Presence = Schema.Struct({
  channel: Reply.text("the channel")
}).annotations({ identifier: "PresenceRequest" })

const ClientInfo = Schema.Struct({
  user: Reply.required(Schema.String, "empty for anonymous clients"),
  client: Reply.required(Schema.String, "the id of the connection"),
  conn_info: Reply.present(Reply.Json, "what is known of the connection"),
  chan_info: Reply.present(Reply.Json, "what is known of it in the channel")
}).annotations({ identifier: "ClientInfo" })

/** Who is in a channel. */
export const PresenceResult = Schema.Struct({
  presence: Reply.required(record(ClientInfo), "by the id of the connection")
}).annotations({ identifier: "PresenceResult" })

/** The answer to `presence`. */
export const Present = Reply.of("Presence", PresenceResult)

/** The body of `presence_stats`. */
export const PresenceStats = Schema.Struct({
  channel: Reply.text("the channel")
}).annotations({ identifier: "PresenceStatsRequest" })

/** How many are in a channel. */
export const PresenceStatsResult = Schema.Struct({
  num_clients: Reply.required(Reply.Int, "connections in the channel"),
  num_users: Reply.required(Reply.Int, "different users; the anonymous ones are one")
}).annotations({ identifier: "PresenceStatsResult" })

/** The answer to `presence_stats`. */
export const Counted = Reply.of("PresenceStats", PresenceStatsResult)

/** Longest pattern of `channels`, in UTF-16 code units: the time that it takes grows with it. */
export const MAX_PATTERN = 1024

/** The body of `channels`. */
export const Channels = Schema.Struct({
  pattern: Reply.optional(
    Schema.String.pipe(Schema.maxLength(MAX_PATTERN)),
    "names that are listed; `*` is any text, `?` any character",
    "*"
  )
}).annotations({ identifier: "ChannelsRequest" })

/** The channels that have subscribers. */
export const ChannelsResult = Schema.Struct({
  channels: Reply.required(
    record(Schema.Struct({ num_clients: Reply.required(Reply.Int, "subscribers on all instances") })),
    "by name; at most 10,000, and `client.reply_max_size` bytes: beyond that the result is partial"
  ),
  ...Reply.partial
}).annotations({ identifier: "ChannelsResult" })

/** The answer to `channels`. */
export const Listed = Reply.of("Channels", ChannelsResult)

/** The body of `info`. */
export const Info = record(Schema.Unknown).annotations({
  identifier: "InfoRequest",
  jsonSchema: { type: "object", additionalProperties: false }
})

const Node = Schema.Struct({
  uid: Reply.required(Schema.String, "another one after a restart"),
  name: Reply.required(Schema.String, "for people: `name` of its configuration, by default its `host` and `port`"),
  version: Reply.required(Schema.String, "of Fanfare"),
  num_clients: Reply.required(Reply.Int, "connections, of both kinds"),
  num_users: Reply.required(Reply.Int, "different users; the anonymous ones are one"),
  num_subs: Reply.required(Reply.Int, "subscriptions"),
  num_channels: Reply.required(Reply.Int, "channels with subscribers"),
  uptime: Reply.required(Reply.Int, "seconds since it started")
}).annotations({ identifier: "Node" })

/** The instances. */
export const InfoResult = Schema.Struct({
  nodes: Reply.required(Schema.Array(Node), "the instances that have answered"),
  ...Reply.partial
}).annotations({ identifier: "InfoResult" })

/** The answer to `info`. */
export const Described = Reply.of("Info", InfoResult)

/** The body of `rpc`. */
export const Rpc = Schema.Struct({
  method: Reply.text("what is called"),
  data: Reply.optional(Reply.Json, "for the procedure"),
  params: Reply.optional(Reply.Json, "another name of `data`")
}).annotations({ identifier: "RpcRequest" })

/** What a procedure has returned. */
export const RpcResult = Schema.Struct({
  data: Reply.required(Reply.Json, "what the procedure has returned")
}).annotations({ identifier: "RpcResult" })

/** The answer to `rpc`. */
export const Called = Reply.of("Rpc", RpcResult)
