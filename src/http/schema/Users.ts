/** Bodies and results of `subscribe`, `unsubscribe`, `disconnect` and `refresh`. */
import * as Schema from "effect/Schema"
import * as Reply from "./Reply.ts"

/** Options of the reference server that narrow or widen whose connections are meant: refused where they are set. */
export const unavailable = ["session", "label_filter", "all_users"]

/** Those that a subscription cannot have here. */
export const unavailableOfSubscribe = [...unavailable, "b64info", "b64data", "recover_since", "override"]

const connections = {
  user: Reply.text("whose connections; empty, for anonymous ones, only together with `client`"),
  client: Reply.optional(Schema.String, "only the connection with this id")
}

const UnixTime = Reply.Int.pipe(Schema.nonNegative())

/** The body of `subscribe`. */
export const Subscribe = Schema.Struct({
  ...connections,
  channel: Reply.text("the channel; what its namespace permits to clients does not matter"),
  info: Reply.optional(Reply.Json, "shown to others as `chan_info`, at most 64 KiB of JSON"),
  data: Reply.optional(Reply.Json, "for the client, with the news of the subscription, at most 64 KiB of JSON"),
  expire_at: Reply.optional(UnixTime, "when the subscription expires, in Unix seconds; 0: never", 0)
}).annotations({ identifier: "SubscribeRequest" })

/** The body of `unsubscribe`. */
export const Unsubscribe = Schema.Struct({
  ...connections,
  channel: Reply.text("the channel")
}).annotations({ identifier: "UnsubscribeRequest" })

const Code = Reply.Int.pipe(Schema.between(3000, 4999))

/** The body of `disconnect`. */
export const Disconnect = Schema.Struct({
  ...connections,
  whitelist: Reply.optional(Schema.Array(Reply.Text), "ids of connections that stay"),
  disconnect: Reply.optional(
    Schema.Struct({
      code: Reply.optional(
        Schema.Union(Schema.Literal(0), Code),
        "the close code; the client comes back after 3000 to 3499 and 4000 to 4499, and stays away after the others; 0: 3503",
        0
      ),
      reason: Reply.optional(Schema.String, "the reason of the close, cut to 123 bytes", "")
    }),
    "how they are closed; 3503 `force disconnect` without it, after which clients stay away"
  )
}).annotations({ identifier: "DisconnectRequest" })

/** The body of `refresh`. */
export const Refresh = Schema.Struct({
  ...connections,
  expired: Reply.optional(Schema.Boolean, "ends the connections with 3005, as expired ones", false),
  expire_at: Reply.optional(UnixTime, "when the connections expire, in Unix seconds; 0: never", 0),
  info: Reply.optional(Reply.Json, "shown to others as `conn_info` from now on, at most 64 KiB of JSON")
}).annotations({ identifier: "RefreshRequest" })

/** Done with every connection of the user, or `partial`. */
export const Done = Schema.Struct(Reply.partial).annotations({ identifier: "Done" })

/** The answer to all of them. */
export const Answer = Reply.of("Done", Done)
