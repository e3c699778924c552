/** Body and result of `batch`. */
import * as Schema from "effect/Schema"
import * as Channels from "./Channels.ts"
import * as Publishing from "./Publishing.ts"
import * as Reply from "./Reply.ts"
import * as Users from "./Users.ts"

/** Most commands of a batch. */
export const MAX_COMMANDS = 256

const Command = Schema.Union(
  Schema.Struct({ publish: Publishing.Publish }),
  Schema.Struct({ broadcast: Publishing.Broadcast }),
  Schema.Struct({ subscribe: Users.Subscribe }),
  Schema.Struct({ unsubscribe: Users.Unsubscribe }),
  Schema.Struct({ disconnect: Users.Disconnect }),
  Schema.Struct({ refresh: Users.Refresh }),
  Schema.Struct({ presence: Channels.Presence }),
  Schema.Struct({ presence_stats: Channels.PresenceStats }),
  Schema.Struct({ history: Publishing.History }),
  Schema.Struct({ history_remove: Publishing.HistoryRemove }),
  Schema.Struct({ channels: Channels.Channels }),
  Schema.Struct({ info: Channels.Info }),
  Schema.Struct({ rpc: Channels.Rpc })
).annotations({ identifier: "Command" })

const parallel = Reply.optional(
  Schema.Boolean,
  "16 commands at a time, in no order, instead of one after the other",
  false
)

/** The body of `batch`. */
export const Batch = Schema.Struct({
  commands: Reply.required(
    Schema.Array(Command).pipe(Schema.maxItems(MAX_COMMANDS)),
    "the commands, each an object with one member: the method's name, and the body that it takes"
  ),
  parallel
}).annotations({ identifier: "BatchRequest" })

/** The same as it is read: a command that is none is refused in its place, and the others are carried out. */
export const Commands = Schema.Struct({
  commands: Schema.optionalWith(Schema.Array(Schema.Unknown), { nullable: true, default: () => [] }),
  parallel
})

const Answer = Schema.Union(
  Schema.Struct({ publish: Publishing.Position }),
  Schema.Struct({ broadcast: Publishing.BroadcastResult }),
  Schema.Struct({ subscribe: Users.Done }),
  Schema.Struct({ unsubscribe: Users.Done }),
  Schema.Struct({ disconnect: Users.Done }),
  Schema.Struct({ refresh: Users.Done }),
  Schema.Struct({ presence: Channels.PresenceResult }),
  Schema.Struct({ presence_stats: Channels.PresenceStatsResult }),
  Schema.Struct({ history: Publishing.HistoryResult }),
  Schema.Struct({ history_remove: Reply.Nothing }),
  Schema.Struct({ channels: Channels.ChannelsResult }),
  Schema.Struct({ info: Channels.InfoResult }),
  Schema.Struct({ rpc: Channels.RpcResult }),
  Schema.Struct({ error: Reply.Refusal })
).annotations({ identifier: "CommandReply" })

/** The answer to `batch`. */
export const Batched = Schema.Union(
  Schema.Struct({ replies: Reply.required(Schema.Array(Answer), "one for each command, in their order") }),
  Schema.Struct({ error: Reply.Refusal })
).annotations({ identifier: "BatchReply" })
