/** Clients that say who they are, on one instance over memory or on two over Redis, with the server API on. */
import * as Effect from "effect/Effect"
import * as Hooks from "../../src/Hooks.ts"
import * as Api from "./api.ts"
import { OPEN, raw } from "./history.ts"
import * as Redis from "./redis.ts"
import * as Server from "./server.ts"

const PRESENT = { presence: true, allow_presence_for_subscriber: true, allow_presence_for_anonymous: true }

export const channel = {
  namespaces: [
    { name: "room", ...OPEN, ...PRESENT, history_size: 1000, history_ttl: "60s" },
    { name: "bare", ...OPEN }
  ]
}

/** What a client connects as: its user, and raw JSON that others are shown. */
export interface Person {
  readonly user: string
  readonly info?: string
}

const hooks = {
  onConnect: ({ data }: Hooks.ConnectRequest) => Effect.succeed(JSON.parse(data ?? '{"user":""}') as Hooks.Accepted),
  onRpc: ({ client, data, method }: Hooks.RpcRequest) => {
    if (method === "echo") return Effect.succeed(data ?? '"nothing"')
    if (method === "who") return Effect.succeed(JSON.stringify(client === undefined ? "the server API" : client.user))
    if (method === "broken") return Effect.succeed("{")
    if (method === "dead") return Effect.dieMessage("a bug of the application")
    return Effect.fail(
      new Hooks.Rejected({ code: 444, message: "no such procedure", disconnect: method === "disconnecting" })
    )
  }
}

/** Starts a server that takes its clients for who they say they are, and has these hooks beside. */
export const startWith = (own: Parameters<typeof Hooks.layer>[0], config: object = {}) =>
  Server.start({ hooks: { ...hooks, ...own }, config: { ...Api.keyed, channel, ...config } })

/** Starts a server. */
export const start = (config: object = {}) => Server.start({ hooks, config: { ...Api.keyed, channel, ...config } })

export type Pair = readonly [Server.Running, Server.Running]

/** Two instances over one Redis. */
export const overRedis = (config: object = {}) =>
  Effect.gen(function* () {
    const redis = yield* Redis.start()
    const one = start({ ...config, redis_url: redis.url })
    const servers: Pair = [yield* one, yield* one]
    return servers
  })

/** Two instances over one Redis, or one that takes the place of both. */
export const pairs = [
  ["memory", (config?: object) => Effect.map(start(config), (server): Pair => [server, server])],
  ["redis, two instances", (config?: object) => overRedis(config)]
] as const

/** Connects as somebody; nobody in particular is anonymous. */
export const connect = (server: Server.Running, person: Person = { user: "" }) =>
  Effect.map(raw(server, { data: person }), (connection) => ({
    ...connection,
    id: String(connection.connected["client"]),
    /** The pushes that have come, as text. */
    pushes: () =>
      connection.socket.received.flatMap((frame) => frame.split("\n")).filter((one) => one.startsWith('{"push"'))
  }))
