/** `presence`, `presence_stats`, `channels`, `info` and `rpc`. */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { Buffer } from "node:buffer"
import type * as Cluster from "../../Cluster.ts"
import * as Codes from "../../protocol/Codes.ts"
import * as Json from "../../protocol/Json.ts"
import type { ClientInfo } from "../../protocol/Publication.ts"
import * as Schemas from "../schema/Channels.ts"
import * as Method from "./Method.ts"

const clientOf = ({ chanInfo, client, connInfo, user }: ClientInfo): string =>
  Json.object({
    user: JSON.stringify(user),
    client: JSON.stringify(client),
    conn_info: connInfo,
    chan_info: chanInfo
  })

const nodeOf = (node: Cluster.Node): (typeof Schemas.InfoResult.Type.nodes)[number] => ({
  uid: node.id,
  name: node.name,
  version: node.version,
  num_clients: node.clients,
  num_users: node.users,
  num_subs: node.subscriptions,
  num_channels: node.channels,
  uptime: node.uptime
})

const partial = (isPartial: boolean): string | undefined => (isPartial ? "true" : undefined)

const isJson = (text: string): boolean => Either.isRight(Either.try((): unknown => JSON.parse(text)))

/** The methods about channels and instances, and `rpc`. */
export const make = ({ cluster, config, hooks, presence }: Method.Services) => {
  const attended = (name: string): Either.Either<string, Method.Refused> =>
    Either.flatMap(Method.namespaceOf(config, name), (namespace) =>
      namespace.presence
        ? Either.right(name)
        : Either.left(Method.refused(Codes.notAvailable, "the channel has no presence"))
    )

  return {
    presence: Method.make(Schemas.Presence, (body, { maxBytes }) =>
      Effect.gen(function* () {
        const clients = yield* Effect.mapError(presence.list(yield* attended(body.channel), maxBytes), (error) =>
          error._tag === "TooManyPresent"
            ? Method.refused(Codes.limitExceeded, error.message)
            : Method.unavailable(error)
        )
        return Json.object({ presence: Method.objectOf(clients.map((info) => [info.client, clientOf(info)])) })
      })
    ),

    presence_stats: Method.make(Schemas.PresenceStats, (body) =>
      Effect.gen(function* () {
        const stats = presence.stats(yield* attended(body.channel))
        const { clients, users } = yield* Effect.mapError(stats, Method.unavailable)
        return JSON.stringify({ num_clients: clients, num_users: users })
      })
    ),

    channels: Method.make(Schemas.Channels, (body, { maxBytes }) =>
      // An empty pattern would match nothing at all.
      Effect.map(cluster.channels((body.pattern ?? "") || "*"), ({ channels, isPartial }) => {
        const listed: Array<readonly [string, string]> = []
        let bytes = 0
        let isCut = false
        for (const [channel, subscribers] of channels) {
          const one = `{"num_clients":${subscribers}}`
          bytes += Buffer.byteLength(channel) + one.length
          isCut = bytes > maxBytes
          if (isCut) break
          listed.push([channel, one])
        }
        return Json.object({ channels: Method.objectOf(listed), partial: partial(isPartial || isCut) })
      })
    ),

    info: Method.make(Schemas.Info, () =>
      Effect.map(cluster.nodes, ({ isPartial, nodes }) =>
        Json.object({ nodes: JSON.stringify(nodes.map(nodeOf)), partial: partial(isPartial) })
      )
    ),

    rpc: Method.make(Schemas.Rpc, ({ method }, call) =>
      Effect.gen(function* () {
        if (method === "") return yield* Method.refused(Codes.badRequest, "method: is missing")
        const params = yield* Method.rawOf(call, "params", Number.POSITIVE_INFINITY)
        const data = (yield* Method.rawOf(call, "data", Number.POSITIVE_INFINITY)) ?? params
        const result = yield* Effect.mapError(hooks.onRpc({ client: undefined, method, data }), (rejected) => {
          const { code, message } = Codes.forReply({ code: rejected.code, message: rejected.message })
          return new Method.Refused({ code, message, status: 200 })
        })
        if (isJson(result)) return Json.object({ data: result })
        yield* Effect.annotateLogs(
          Effect.logError(`the onRpc hook answered "${method}" with what is no JSON`),
          "method",
          method
        )
        return yield* Method.refused(Codes.internal)
      })
    )
  }
}
