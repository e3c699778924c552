/** Bodies and results of `publish`, `broadcast`, `history` and `history_remove`. */
import * as Schema from "effect/Schema"
import * as Reply from "./Reply.ts"

const Tags = Schema.Record({ key: Schema.String, value: Schema.String })

/** Options of the reference server that a publication cannot have here: refused where they are set. */
export const unavailable = ["type", "key", "removed", "b64data", "version", "version_epoch"]

const publishing = {
  data: Reply.required(Reply.Json, "the payload, at most 64 KiB of JSON; delivered as it is written here"),
  skip_history: Reply.optional(Schema.Boolean, "not kept in the channel's history: it has no offset", false),
  tags: Reply.optional(
    Schema.Record({ key: Schema.String, value: Reply.Text }),
    "carried beside `data`, at most 4 KiB of JSON"
  ),
  idempotency_key: Reply.optional(
    Schema.String,
    "1 to 255 characters, empty: none; publishing to the channel again with it within 5 minutes publishes nothing, and answers as the first time"
  )
}

/** The body of `publish`. */
export const Publish = Schema.Struct({
  channel: Reply.text("the channel"),
  ...publishing
}).annotations({ identifier: "PublishRequest" })

/** The place of a publication in the history of its channel, if it has one. */
export const Position = Schema.Struct({
  offset: Reply.present(Reply.Int, "of the publication, in a channel with history"),
  epoch: Reply.present(Schema.String, "of the stream that `offset` counts in")
}).annotations({ identifier: "PublishResult" })

/** What became of one publication: accepted, with its position in a channel with history, or why not. */
export const Published = Reply.of("Publish", Position)

/** Most channels of one broadcast. */
export const MAX_CHANNELS = 10_000

/** Channels; left out or `null`, none. */
const Names = Schema.transform(
  Schema.NullishOr(Schema.Array(Reply.Text)).annotations({
    jsonSchema: { type: "array", items: { type: "string" }, maxItems: MAX_CHANNELS }
  }),
  Schema.Array(Schema.String),
  { strict: true, decode: (names) => names ?? [], encode: (names) => names }
)

/** The body of `broadcast`: one value, many channels. */
export const Broadcast = Schema.Struct({
  channels: Reply.required(Names, "the channels, at most 10,000"),
  ...publishing
}).annotations({ identifier: "BroadcastRequest" })

/** What became of the publication in each channel, in their order. */
export const BroadcastResult = Schema.Struct({
  responses: Reply.required(Schema.Array(Published), "one for each channel, in their order")
}).annotations({ identifier: "BroadcastResult" })

/** The answer to `broadcast`. */
export const Broadcasted = Reply.of("Broadcast", BroadcastResult)

const Since = Schema.Struct({
  offset: Reply.optional(Reply.Int.pipe(Schema.nonNegative()), "the offset that was seen last", 0),
  epoch: Reply.optional(Schema.String, "its epoch; empty: whichever the stream has", "")
}).annotations({ identifier: "StreamPosition" })

/** The body of `history`. */
export const History = Schema.Struct({
  channel: Reply.text("the channel"),
  limit: Reply.optional(
    Reply.Int,
    "most publications; 0: only the position; below 0: as many as a page holds, which are 1,000, and `client.reply_max_size` bytes",
    0
  ),
  since: Reply.optional(Since, "only what comes after this position (`reverse`: before it)"),
  reverse: Reply.optional(Schema.Boolean, "from the newest to the oldest", false)
}).annotations({ identifier: "HistoryRequest" })

const Publisher = Schema.Struct({
  user: Reply.required(Schema.String, "empty for anonymous clients"),
  client: Reply.required(Schema.String, "the id of the connection"),
  conn_info: Reply.present(Reply.Json, "what is known of the connection"),
  chan_info: Reply.present(Reply.Json, "what is known of it in the channel")
}).annotations({ identifier: "PublicationInfo" })

const Publication = Schema.Struct({
  data: Reply.required(Reply.Json, "the payload"),
  info: Reply.present(Publisher, "the client that published it; none where the server API or the application did"),
  offset: Reply.required(Reply.Int, "1, 2, 3 …"),
  tags: Reply.present(Tags, "as they were published")
}).annotations({ identifier: "Publication" })

/** Publications, and the top of their stream. */
export const HistoryResult = Schema.Struct({
  publications: Reply.required(Schema.Array(Publication), "empty where there are none"),
  epoch: Reply.required(Schema.String, "of the stream"),
  offset: Reply.required(Reply.Int, "the top of the stream; 0 before its first publication")
}).annotations({ identifier: "HistoryResult" })

/** The answer to `history`. */
export const Page = Reply.of("History", HistoryResult)

/** The body of `history_remove`. */
export const HistoryRemove = Schema.Struct({
  channel: Reply.text("the channel")
}).annotations({ identifier: "HistoryRemoveRequest" })

/** The answer to `history_remove`. */
export const Removed = Reply.of("HistoryRemove", Reply.Nothing)
