/** What a client can connect to: one instance over memory, or two over Redis behind a round-robin proxy. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Proxy from "./proxy.ts"
import * as Redis from "./redis.ts"
import * as Server from "./server.ts"

export interface Cluster {
  /** Where clients connect: each connection to the next instance. */
  readonly ws: string
  readonly servers: readonly [Server.Running, ...ReadonlyArray<Server.Running>]
}

export const clusters = (
  options: Server.Options
): ReadonlyArray<readonly [name: string, start: Effect.Effect<Cluster, unknown, Scope.Scope>]> => [
  ["memory", Effect.map(Server.start(options), (server) => ({ ws: server.ws, servers: [server] }))],
  [
    "redis, two instances behind a round-robin proxy",
    Effect.gen(function* () {
      const { url } = yield* Redis.start()
      const one = Server.start({ ...options, config: { ...options.config, redis_url: url } })
      const servers = [yield* one, yield* one] as const
      const proxy = yield* Proxy.start((index) => servers[index % 2]?.port ?? 0)
      return { ws: `ws://127.0.0.1:${proxy.port}`, servers }
    })
  ]
]
