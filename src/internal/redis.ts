/**
 * Redis clients as scoped resources. A client lives as long as its scope and is
 * never reconnected: who needs a new one opens a new one. What ioredis does by
 * itself to outlive an outage is off, since each of it hides one: its retry, its
 * offline queue (261 MB for 200,000 publishes), its resubscription (a failed one
 * is silent).
 */
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { Redis } from "ioredis"
import { setImmediate } from "node:timers"
import { atMost } from "./time.ts"

/** A link to Redis could not be opened, or is lost. */
export class LinkLost extends Data.TaggedError("LinkLost")<{ readonly message: string; readonly cause?: unknown }> {}

/** A Lua script that Redis runs as one step. */
export interface Script {
  readonly lua: string
  /** How many of its arguments are keys; without it their number is its first argument. */
  readonly numberOfKeys?: number
}

/** The library adds a method for each script, which its types do not know. */
type RunScript = (...args: ReadonlyArray<string | number>) => Promise<unknown>

/** A connected client. */
export interface Client {
  readonly redis: Redis
  /** Runs one of the scripts that it was opened with; Redis gets the text only when it does not know it. */
  readonly run: (script: string, ...args: ReadonlyArray<string | number>) => Promise<unknown>
  /** Holds what is sent until the end of this turn of the event loop, and sends it in one piece then. */
  readonly cork: () => void
  /** Never succeeds; fails when the link is lost: closed, or silent for `PING_TIMEOUT`. */
  readonly watch: Effect.Effect<never, LinkLost>
  /** Stops and resumes reading; a paused link is not taken for a dead one. */
  readonly pause: () => void
  readonly resume: () => void
}

const CONNECT_TIMEOUT = Duration.millis(1500)
const PING_INTERVAL = Duration.seconds(1)
const PING_TIMEOUT = Duration.millis(1500)
/** What an event loop that was blocked has to read its sockets: Node does so in its next turn, Deno some milliseconds later. */
const READ_GRACE = Duration.millis(100)
const QUIT_TIMEOUT = Duration.millis(500)

const messageOf = (cause: unknown): string =>
  cause instanceof Error && cause.message !== "" ? cause.message : String(cause)

/** Whether a rejection is an answer of Redis, so that the link itself lives. */
export const isReply = (cause: unknown): boolean => cause instanceof Error && cause.name === "ReplyError"

/** The same of a command's error. */
export const isRefusal = (error: LinkLost): boolean => isReply(error.cause)

/** Runs one command; a rejection is a `LinkLost` with its message. */
export const command = <A>(run: () => PromiseLike<A>): Effect.Effect<A, LinkLost> =>
  Effect.tryPromise({ try: run, catch: (cause) => new LinkLost({ message: messageOf(cause), cause }) })

const make = (url: Redacted.Redacted, name: string, scripts: Readonly<Record<string, Script>>): Redis =>
  new Redis(Redacted.value(url), {
    scripts,
    lazyConnect: true,
    connectionName: name,
    retryStrategy: () => null,
    autoResubscribe: false,
    autoResendUnfulfilledCommands: false,
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    connectTimeout: Duration.toMillis(CONNECT_TIMEOUT)
  })

// `quit` may hang on a dead link, and `end` on a half-open one.
const close = (redis: Redis): Effect.Effect<void> =>
  Effect.suspend(() => (redis.status === "ready" ? command(() => redis.quit()) : Effect.void)).pipe(
    atMost(QUIT_TIMEOUT),
    Effect.ignore,
    Effect.zipRight(
      Effect.sync(() => {
        redis.disconnect()
        redis.stream?.destroy()
      })
    )
  )

/** Opens a client; it is ready when this succeeds, and closed with the scope. */
export const open = (
  url: Redacted.Redacted,
  name: string,
  scripts: Readonly<Record<string, Script>> = {}
): Effect.Effect<Client, LinkLost, Scope.Scope> =>
  Effect.gen(function* () {
    const redis = yield* Effect.acquireRelease(
      Effect.sync(() => make(url, name, scripts)),
      close
    )
    let problem: unknown
    let paused = false
    let corked = false
    // Without a listener an error would be thrown; `close` always follows it.
    redis.on("error", (error: unknown) => {
      problem = error
    })
    yield* command(() => redis.connect()).pipe(
      Effect.mapError((error) => new LinkLost({ message: messageOf(problem ?? error.cause), cause: error.cause }))
    )

    const closed = Effect.async<never, LinkLost>((resume) => {
      const fail = (): void => {
        const message = problem === undefined ? "the connection was closed" : messageOf(problem)
        resume(Effect.fail(new LinkLost({ message, cause: problem })))
      }
      if (redis.status !== "ready") return fail()
      redis.once("close", fail)
      return Effect.sync(() => redis.off("close", fail))
    })

    // Liveness is an answer, or any byte: `status` stays "ready" on a half-open
    // link. After a blocked event loop the timer fires before the answer that
    // waits in the socket is read, so that is waited for before judging.
    const beat = Effect.gen(function* () {
      const before = redis.stream.bytesRead
      const answer = yield* command(() => redis.ping()).pipe(atMost(PING_TIMEOUT))
      if (answer._tag === "Some") return
      yield* Effect.sleep(READ_GRACE)
      if (redis.stream.bytesRead === before && !paused) {
        yield* new LinkLost({ message: `no answer within ${Duration.format(PING_TIMEOUT)}` })
      }
    })
    const alive = Effect.forever(Effect.zipRight(Effect.sleep(PING_INTERVAL), beat))

    return {
      redis,
      run: (script, ...args) => (redis as unknown as Record<string, RunScript>)[script]!(...args),
      cork: () => {
        if (corked) return
        corked = true
        const { stream } = redis
        stream.cork()
        setImmediate(() => {
          corked = false
          stream.uncork()
        })
      },
      watch: Effect.raceFirst(closed, alive),
      pause: () => {
        paused = true
        redis.stream.pause()
      },
      resume: () => {
        paused = false
        redis.stream.resume()
      }
    }
  })

/** The id of the server process that a client is connected to; empty where the server does not tell. */
export const runId = (client: Client): Effect.Effect<string, LinkLost> =>
  command(() => client.redis.info("server")).pipe(
    Effect.map((info) => /^run_id:(\S+)/m.exec(info)?.[1] ?? ""),
    Effect.catchIf(
      (error) => error.message.startsWith("NOPERM"),
      () => Effect.succeed("")
    )
  )
