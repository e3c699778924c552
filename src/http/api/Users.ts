/** `subscribe`, `unsubscribe`, `disconnect` and `refresh`: what is done with the connections of a user, everywhere. */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as Cluster from "../../Cluster.ts"
import * as Codes from "../../protocol/Codes.ts"
import * as Json from "../../protocol/Json.ts"
import * as ServerConfig from "../../ServerConfig.ts"
import * as Schemas from "../schema/Users.ts"
import * as Method from "./Method.ts"

interface Connections {
  readonly user: string
  readonly client?: string
}

/** Whose connections are meant. */
const connectionsOf = (body: {
  readonly user: string
  readonly client?: string | null | undefined
}): Either.Either<Connections, Method.Refused> => {
  const client = body.client ?? ""
  if (client !== "") return Either.right({ user: body.user, client })
  return body.user === ""
    ? Either.left(Method.refused(Codes.badRequest, "anonymous clients have no user in common: client is needed"))
    : Either.right({ user: body.user })
}

const expiresAt = (seconds: number | null | undefined): { readonly expiresAt?: number } =>
  (seconds ?? 0) === 0 ? {} : { expiresAt: seconds as number }

const member = <K extends "data" | "info">(
  call: Method.Call,
  name: K
): Either.Either<{ readonly [P in K]?: string }, Method.Refused> =>
  Either.map(Method.rawOf(call, name), (json) => (json === undefined ? {} : { [name]: json }) as { [P in K]?: string })

/** The methods about the connections of users. */
export const make = ({ cluster, config }: Method.Services) => {
  const perform = (operation: Cluster.Operation): Effect.Effect<string> =>
    Effect.map(cluster.perform(operation), ({ isPartial }) => (isPartial ? '{"partial":true}' : Json.EMPTY))

  return {
    subscribe: Method.make(
      Schemas.Subscribe,
      (body, call) =>
        Effect.gen(function* () {
          const connections = yield* connectionsOf(body)
          yield* Method.namespaceOf(config, body.channel)
          const info = yield* member(call, "info")
          const data = yield* member(call, "data")
          const { channel } = body
          return yield* perform({
            type: "subscribe",
            ...connections,
            channel,
            ...info,
            ...data,
            ...expiresAt(body.expire_at)
          })
        }),
      Schemas.unavailableOfSubscribe
    ),

    unsubscribe: Method.make(
      Schemas.Unsubscribe,
      (body) =>
        Effect.gen(function* () {
          const connections = yield* connectionsOf(body)
          const channel = yield* Either.mapLeft(ServerConfig.parseChannel(config, body.channel), (problem) =>
            Method.refused(Codes.badRequest, problem)
          )
          return yield* perform({ type: "unsubscribe", ...connections, channel, ...Codes.serverUnsubscribe })
        }),
      Schemas.unavailable
    ),

    disconnect: Method.make(
      Schemas.Disconnect,
      (body) =>
        Effect.flatMap(connectionsOf(body), (connections) => {
          const { code, reason } = body.disconnect ?? { code: 0, reason: Codes.forceDisconnect.reason }
          // A reason is cut to what a close frame holds before it travels.
          const disconnect = Codes.forCloseFrame({ code: code || Codes.forceDisconnect.code, reason: reason ?? "" })
          return perform({ type: "disconnect", ...connections, whitelist: body.whitelist ?? [], ...disconnect })
        }),
      Schemas.unavailable
    ),

    refresh: Method.make(
      Schemas.Refresh,
      (body, call) =>
        Effect.gen(function* () {
          const connections = yield* connectionsOf(body)
          const info = yield* member(call, "info")
          return yield* perform({
            type: "refresh",
            ...connections,
            expired: body.expired ?? false,
            ...info,
            ...expiresAt(body.expire_at)
          })
        }),
      Schemas.unavailable
    )
  }
}
