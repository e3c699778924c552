/** A server that an instance of another version shares a Redis with. */
import { OPEN } from "./history.ts"
import type * as Redis from "./redis.ts"
import * as Server from "./server.ts"
import type * as Socket from "./socket.ts"
import { KEY } from "./tokens.ts"
import type { Json } from "./json.ts"

const SEEN = { allow_presence_for_subscriber: true, allow_presence_for_anonymous: true }

export const startOn = (redis: Redis.Redis, hooks: Server.Options["hooks"] = {}) =>
  Server.start({
    hooks,
    config: {
      redis_url: redis.url,
      channel: {
        namespaces: [
          { name: "bare", ...OPEN },
          { name: "room", ...OPEN, ...SEEN, presence: true, join_leave: true },
          { name: "kept", ...OPEN, history_size: 10, history_ttl: "10m", force_recovery: true }
        ]
      },
      client: { token: { hmac_secret_key: KEY }, allow_anonymous_connect_without_token: true, ping_interval: "1h" }
    }
  })

/** The pushes that a socket got in a channel. */
export const pushes = (socket: Socket.Socket, channel: string): ReadonlyArray<Record<string, Json>> =>
  socket.received
    .flatMap((frame) => frame.split("\n"))
    .map((line) => JSON.parse(line).push)
    .filter((push) => push?.channel === channel)
