/** Instances in processes of their own over one Redis, clients of theirs, and what each instance says of who is there. */
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { OPEN, raw } from "./history.ts"
import type { Json } from "./json.ts"
import * as Program from "./program.ts"
import * as Redis from "./redis.ts"
import { KEY, token } from "./tokens.ts"
import { eventually } from "./wait.ts"

const NAMESPACES = [{ name: "room", ...OPEN, presence: true, join_leave: true, allow_presence_for_client: true }]

/** Instances in processes of their own, over one Redis. */
export const startOn = (redis: Redis.Redis, interval: string) =>
  Program.start({
    env: {
      REDIS_URL: redis.url,
      FANFARE_CHANNEL_NAMESPACES: JSON.stringify(NAMESPACES),
      FANFARE_CLIENT_PRESENCE_UPDATE_INTERVAL: interval,
      FANFARE_CLIENT_TOKEN_HMAC_SECRET_KEY: KEY,
      FANFARE_CLIENT_ALLOW_ANONYMOUS_CONNECT_WITHOUT_TOKEN: "true",
      FANFARE_CLIENT_PING_INTERVAL: "5s"
    }
  })

const credentials = (user: string): object => (user === "" ? {} : { token: token({ sub: user }) })

/** A client that answers pings, and is in channels. */
export const comes = (at: Pick<Program.Program, "ws">, user: string, channels: ReadonlyArray<string> = []) =>
  Effect.gen(function* () {
    const client = yield* raw(at, credentials(user))
    client.socket.ws.on("message", (data) => {
      if (String(data).split("\n").includes("{}")) client.socket.send("{}")
    })
    const ask = (method: string, params: object) => Effect.raceFirst(client.ask(method, params), client.socket.lost)
    for (const channel of channels) yield* ask("subscribe", { channel })
    return { ...client, ask, id: String(client.connected["client"]), user }
  })

/** What is shown of who is there. */
export interface Shown {
  readonly client: string
  readonly user?: string
  readonly conn_info?: unknown
  readonly chan_info?: unknown
}

class Unanswered extends Data.TaggedError("Unanswered")<{ readonly isTemporary: boolean; readonly message: string }> {}

/** What a client that may read presence sees on its instance. */
export const reads = (at: Pick<Program.Program, "ws">) =>
  Effect.map(comes(at, "reader"), ({ ask }) => {
    /** Too much to do for the moment is no answer; on a busy machine it is asked again. */
    const succeeded = (reply: Record<string, Json>, method: string) =>
      reply[method] === undefined
        ? Effect.fail(
            new Unanswered({ isTemporary: reply["error"]?.temporary === true, message: JSON.stringify(reply) })
          )
        : Effect.succeed(reply[method] as Record<string, Json>)
    const answered = <A, E>(asked: Effect.Effect<A, E | Unanswered>) =>
      Effect.retry(asked, { while: (error) => error instanceof Unanswered && error.isTemporary, times: 5 })
    return {
      list: (channel: string) =>
        answered(
          Effect.flatMap(ask("presence", { channel }), (reply) =>
            Effect.map(succeeded(reply, "presence"), ({ presence }) => presence as Readonly<Record<string, Shown>>)
          )
        ),
      stats: (channel: string) =>
        answered(
          Effect.flatMap(ask("presence_stats", { channel }), (reply) =>
            Effect.map(succeeded(reply, "presence_stats"), ({ num_clients = 0, num_users = 0 }) => ({
              clients: num_clients as number,
              users: num_users as number
            }))
          )
        )
    }
  })

/** What Redis holds of presence. */
export const presenceKeys = (redis: Redis.Redis) =>
  Effect.map(
    redis.use((client) => client.keys("*")),
    (keys) => keys.filter((key) => key.startsWith("fanfare:presence"))
  )

/** Looks again and again, with milliseconds since it began; ends where `look` says so. */
export const sample = <E>(look: (elapsed: number) => Effect.Effect<boolean, E>, limit: number) =>
  Effect.gen(function* () {
    const begun = yield* Clock.currentTimeMillis
    const elapsed = Effect.map(Clock.currentTimeMillis, (now) => now - begun)
    yield* Effect.repeat(
      Effect.gen(function* () {
        const before = yield* elapsed
        return (yield* look(before)) || (yield* elapsed) > limit
      }),
      { until: (isOver) => isOver, schedule: Schedule.spaced("20 millis") }
    )
    return yield* elapsed
  })

/** Waits until the entries of these clients in a channel have been refreshed so often. */
export const refreshed = (redis: Redis.Redis, channel: string, ids: ReadonlyArray<string>, times: number) =>
  Effect.gen(function* () {
    const client = yield* Redis.client(redis)
    const ends = new Map(ids.map((id) => [id, new Set<string | null>()]))
    const look = Effect.promise(async () => {
      for (const [id, seen] of ends) seen.add(await client.zscore(`fanfare:presence-expiry:{${channel}}`, id))
      return Array.from(ends.values(), ({ size }) => size - 1)
    })
    yield* eventually(
      look,
      (counts) => counts.every((count) => count >= times),
      `${times} rounds of refreshing`,
      "60 seconds"
    )
  }).pipe(Effect.scoped)
