/** Who is connected to two servers of one cluster, as clients of the protocol and as plain sockets, and what has come to each. */
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import type * as Scope from "effect/Scope"
import { OPEN, raw } from "./history.ts"
import * as Redis from "./redis.ts"
import * as Server from "./server.ts"
import * as Socket from "./socket.ts"
import { KEY, token } from "./tokens.ts"
import type { Json } from "./json.ts"

const SEEN = { allow_presence_for_subscriber: true, allow_presence_for_anonymous: true }

export const configOf = (client: object = {}) => ({
  channel: {
    namespaces: [
      { name: "room", ...OPEN, ...SEEN, presence: true },
      { name: "bare", ...OPEN }
    ]
  },
  client: {
    token: { hmac_secret_key: KEY },
    allow_anonymous_connect_without_token: true,
    ping_interval: "1h",
    ...client
  }
})

export type Pair = readonly [Server.Running, Server.Running]

const overMemory = (client?: object) =>
  Effect.map(Server.start({ config: configOf(client) }), (server): Pair => [server, server])

export const overRedis = (redis: Redis.Redis, client?: object) => {
  const one = Server.start({ config: { ...configOf(client), redis_url: redis.url } })
  return Effect.map(Effect.zip(one, one), (pair): Pair => pair)
}

/** Two servers of one cluster; over memory both are the same one. */
export const clusters: ReadonlyArray<
  readonly [name: string, start: (client?: object) => Effect.Effect<Pair, unknown, Scope.Scope>]
> = [
  ["memory", overMemory],
  ["redis (two instances)", (client) => Effect.flatMap(Redis.start(), (redis) => overRedis(redis, client))]
]

const credentials = (user: string): string | undefined => (user === "" ? undefined : token({ sub: user }))

export const CHANNELS = ["room:a", "room:b"] as const

/** A connection: of whom, on which instance, of which kind, in which channels; a plain socket is in the first only. */
export interface Seat {
  readonly user: string
  readonly on: 0 | 1
  readonly isPlain: boolean
  readonly channels: ReadonlyArray<string>
}

const seat: FastCheck.Arbitrary<Seat> = FastCheck.record({
  user: FastCheck.constantFrom("ada", "ada", "bob", ""),
  on: FastCheck.constantFrom<0 | 1>(0, 1),
  isPlain: FastCheck.boolean(),
  channels: FastCheck.subarray([...CHANNELS], { minLength: 1 })
}).map((one) => (one.isPlain ? { ...one, channels: one.channels.slice(0, 1) } : one))

/** Both instances, both kinds, and others beside the user. */
const ALWAYS: ReadonlyArray<Seat> = [
  { user: "ada", on: 0, isPlain: false, channels: ["room:a", "room:b"] },
  { user: "ada", on: 1, isPlain: false, channels: ["room:a"] },
  { user: "ada", on: 1, isPlain: true, channels: ["room:a"] },
  { user: "", on: 0, isPlain: false, channels: ["room:a"] },
  { user: "", on: 1, isPlain: true, channels: ["room:a"] },
  { user: "bob", on: 1, isPlain: false, channels: ["room:a", "room:b"] }
]

export const SEED = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 31))

export const LAYOUTS = FastCheck.sample(FastCheck.array(seat, { minLength: 1, maxLength: 6 }), {
  seed: SEED,
  numRuns: 3
}).map((more) => [...ALWAYS, ...more])

export interface Connected extends Seat {
  readonly socket: Socket.Socket
  /** Empty for a plain socket, which is not told it. */
  readonly client: string
  /** What has come since `mark`, but for replies and its own joining. */
  readonly since: () => ReadonlyArray<Record<string, Json> | string>
  readonly mark: () => void
  /** Waits until everything that was sent to it before has come, or it is closed. */
  readonly settles: Effect.Effect<void, unknown>
}

export const sit = (servers: Pair, one: Seat): Effect.Effect<Connected, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const server = servers[one.on]
    const authorization = credentials(one.user)
    let from = 0
    if (one.isPlain) {
      const socket = yield* Socket.open(
        `${server.ws}/channels/${one.channels[0]}`,
        authorization === undefined ? {} : { headers: { Authorization: `Bearer ${authorization}` } }
      )
      return {
        ...one,
        socket,
        client: "",
        since: () => socket.received.slice(from),
        mark: () => {
          from = socket.received.length
        },
        settles: Effect.suspend(() => {
          if (socket.isClosed()) return Effect.void
          const pong = Effect.async<void>((resume) => void socket.ws.once("pong", () => resume(Effect.void)))
          socket.ws.ping()
          return Effect.raceFirst(pong, Effect.ignore(socket.lost))
        })
      }
    }
    const { ask, connected, socket } = yield* raw(server, authorization === undefined ? {} : { token: authorization })
    for (const channel of one.channels) yield* ask("subscribe", { channel })
    return {
      ...one,
      socket,
      client: connected["client"],
      since: () =>
        socket.received
          .slice(from)
          .flatMap((frame) => frame.split("\n"))
          .map((line) => JSON.parse(line).push)
          .filter((push) => push !== undefined),
      mark: () => {
        from = socket.received.length
      },
      settles: Effect.suspend(() =>
        socket.isClosed() ? Effect.void : Effect.raceFirst(ask("ping", {}), Effect.ignore(socket.lost))
      )
    }
  })

export const nameOf = ({ channels, isPlain, on, user }: Seat): string =>
  `${isPlain ? "plain socket" : "client"} of "${user}" in ${channels.join()} on ${on}`

/** What those are told that are disconnected. */
export const GO = { code: 4001, reason: "go" }
