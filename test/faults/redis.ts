/** What can go wrong with a real Redis: each as one effect, so that a test says what happens and not how. */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { Redis as Client } from "ioredis"
import { rm } from "node:fs/promises"
import { join } from "node:path"
import * as Redis from "../support/redis.ts"
import { eventually, type NeverHappened } from "../support/wait.ts"

/** Redis did not do what the kit has asked for. */
export class RedisFailed extends Data.TaggedError("RedisFailed")<{ readonly message: string }> {}

export type Failure = RedisFailed | NeverHappened

/** A Redis under the kit's control; without a user of its own, as `default`. */
export interface Faulty extends Redis.Redis {
  /** Writes a snapshot of all keys: what a `restart` begins with. */
  readonly snapshot: Effect.Effect<void, Failure>
  /** SIGKILL, then another process on the same port: with the last snapshot where there is one. Takes at least `away`. */
  readonly restart: (away?: number) => Effect.Effect<void, Failure>
  /** The same, without any key. */
  readonly restartEmpty: (away?: number) => Effect.Effect<void, Failure>
  /** Closes the connections of a type from its side. */
  readonly killClients: (type: "normal" | "pubsub") => Effect.Effect<void, Failure>
  /** Answers nobody for so many milliseconds, or to nobody who writes. */
  readonly pauseClients: (milliseconds: number, mode?: "ALL" | "WRITE") => Effect.Effect<void, Failure>
  /** Blocks for so many milliseconds, as a slow command does; completes at once. */
  readonly sleep: (milliseconds: number) => Effect.Effect<void, Failure>
  /** Changes what a user may do, by rules such as `-publish` or `+@all`. */
  readonly permit: (user: string, ...rules: ReadonlyArray<string>) => Effect.Effect<void, Failure>
  /** Bytes of memory beyond which it refuses writes; 0: no limit. */
  readonly limitMemory: (bytes: number) => Effect.Effect<void, Failure>
  /** Bytes of output beyond which it cuts a subscriber off; 0: no limit. */
  readonly limitOutput: (bytes: number) => Effect.Effect<void, Failure>
  /** Forgets every script. */
  readonly flushScripts: Effect.Effect<void, Failure>
  /** Forgets every key. */
  readonly flushAll: Effect.Effect<void, Failure>
  /** `master` or `slave`, as it says itself. */
  readonly role: Effect.Effect<string, Failure>
}

const FLAGS = ["--enable-debug-command", "local", "--repl-diskless-sync-delay", "0"]

/** Closes a connection without taking leave, which Redis may answer late. */
export const hangUp = (client: Client): void => {
  if (client.status !== "end") client.disconnect()
  client.stream?.destroy()
}

const folderOf = async (client: Client): Promise<string> => {
  const [, folder] = (await client.config("GET", "dir")) as [string, string]
  return folder
}

/** Starts a Redis; it is killed when the scope closes. */
export const start = (extra: ReadonlyArray<string> = []): Effect.Effect<Faulty, never, Scope.Scope> =>
  Effect.gen(function* () {
    const redis = yield* Redis.start([...FLAGS, ...extra])
    const folder = yield* redis.use(folderOf)

    // Not `use`, which takes leave of Redis, and waits for that while it answers nobody.
    const ask = <A>(run: (client: Client) => Promise<A>): Effect.Effect<A, RedisFailed> =>
      Effect.acquireUseRelease(
        Effect.sync(() => new Client(redis.port, "127.0.0.1", { retryStrategy: () => null })),
        (client) =>
          Effect.tryPromise({ try: () => run(client), catch: (error) => new RedisFailed({ message: String(error) }) }),
        (client) => Effect.sync(() => hangUp(client))
      )

    const call = (command: string, ...args: ReadonlyArray<string | number>): Effect.Effect<void, RedisFailed> =>
      Effect.asVoid(ask((client) => client.call(command, ...args.map(String))))

    const forget = Effect.promise(() => rm(join(folder, "dump.rdb"), { force: true }))

    const restart = (away = 0): Effect.Effect<void> =>
      Effect.zipRight(redis.kill, Effect.zipRight(Effect.sleep(away), redis.start))

    return {
      ...redis,
      snapshot: call("SAVE"),
      restart,
      restartEmpty: (away = 0) =>
        Effect.zipRight(redis.kill, Effect.zipRight(forget, Effect.zipRight(Effect.sleep(away), redis.start))),
      killClients: (type) => call("CLIENT", "KILL", "TYPE", type, "SKIPME", "yes"),
      pauseClients: (milliseconds, mode = "ALL") => call("CLIENT", "PAUSE", Math.ceil(milliseconds), mode),
      sleep: (milliseconds) =>
        // It answers when it is awake again, and to be asked is enough.
        Effect.asVoid(Effect.forkDaemon(Effect.ignore(call("DEBUG", "SLEEP", milliseconds / 1000)))),
      permit: (user, ...rules) => call("ACL", "SETUSER", user, ...rules),
      limitMemory: (bytes) => call("CONFIG", "SET", "maxmemory", bytes),
      limitOutput: (bytes) => call("CONFIG", "SET", "client-output-buffer-limit", `pubsub ${bytes} ${bytes} 1`),
      flushScripts: call("SCRIPT", "FLUSH"),
      flushAll: call("FLUSHALL"),
      role: Effect.map(
        ask((client) => client.call("ROLE") as Promise<[string]>),
        ([role]) => role
      )
    }
  })

/** Two Redis processes, of which one follows the other. */
export interface Pair {
  /** The one that takes writes. */
  readonly primary: () => Faulty
  readonly replica: () => Faulty
  /** They change places without a loss, by `FAILOVER`: who is connected stays connected, to what is a replica then. */
  readonly failOver: Effect.Effect<void, Failure>
  /** The primary is killed, and the replica takes over; what had not been replicated is lost. The other one starts again as its replica. */
  readonly promote: Effect.Effect<void, Failure>
}

/** Starts both; they are in step when this completes. */
export const startPair = (extra: ReadonlyArray<string> = []): Effect.Effect<Pair, Failure, Scope.Scope> =>
  Effect.gen(function* () {
    let primary = yield* start(extra)
    let replica = yield* start(extra)

    const call = (redis: Faulty, command: string, ...args: ReadonlyArray<string | number>) =>
      redis.use((client) => client.call(command, ...args.map(String)))

    const swap = Effect.sync(() => {
      ;[primary, replica] = [replica, primary]
    })

    const inStep = Effect.suspend(() => {
      const current = primary
      return eventually(
        current.use((client) => client.info("replication")),
        (info) => /slave0:.*state=online/.test(info),
        "the replica is in step"
      )
    })

    const follow = Effect.suspend(() => Effect.zipRight(call(replica, "REPLICAOF", "127.0.0.1", primary.port), inStep))

    yield* follow
    return {
      primary: () => primary,
      replica: () => replica,
      failOver: Effect.gen(function* () {
        const next = replica
        yield* call(primary, "FAILOVER", "TO", "127.0.0.1", next.port, "TIMEOUT", 5000)
        yield* eventually(next.role, (role) => role === "master", "the replica has taken over")
        yield* swap
        yield* inStep
      }),
      promote: Effect.gen(function* () {
        yield* primary.kill
        yield* swap
        yield* call(primary, "REPLICAOF", "NO", "ONE")
        yield* replica.start
        yield* follow
      })
    }
  })
