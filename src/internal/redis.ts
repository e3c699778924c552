/**
 * Redis clients as scoped resources. A client lives as long as its scope and is
 * never reconnected: who needs a new one opens a new one. What ioredis does by
 * itself to outlive an outage is off, since each of it hides one: its retry, its
 * offline queue (261 MB for 200,000 publishes), its resubscription (a failed one
 * is silent).
 */
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { Redis } from "ioredis"
import { setImmediate } from "node:timers"
import * as Opening from "./redisOpening.ts"
import * as Reply from "./redisReply.ts"
import { atMost, within } from "./time.ts"

/** A link to Redis could not be opened, or is lost. */
export class LinkLost extends Data.TaggedError("LinkLost")<{
  readonly message: string
  readonly cause?: unknown
  /** Where Redis itself says why, and not the network: a code of Redis, `MODE` or `ROLE`. */
  readonly said?: string
}> {}

/** Redis answers, and does no work for a time: it loads its data, or a script holds it up. */
export class Stalled extends Data.TaggedError("Stalled")<{ readonly message: string; readonly cause: unknown }> {}

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
  /** The id of the Redis process at the other end; empty where the user may not call INFO. */
  readonly runId: string
  /** Runs one of the scripts that it was opened with; Redis gets the text only when it does not know it. */
  readonly run: (script: string, ...args: ReadonlyArray<string | number>) => Promise<unknown>
  /** Holds what is sent until the end of this turn of the event loop, and sends it in one piece then. */
  readonly cork: () => void
  /** Never succeeds; fails when the connection is closed, or `condemn` was called. */
  readonly ended: Effect.Effect<never, LinkLost>
  /**
   * One heartbeat: PING and a write that changes nothing. Succeeds where Redis
   * works; fails where it is silent, is no master, or does no work now.
   */
  readonly heartbeat: Effect.Effect<void, LinkLost | Stalled>
  /** `ended`, and a heartbeat every `HEARTBEAT_INTERVAL`. */
  readonly watch: Effect.Effect<never, LinkLost | Stalled>
  /** Ends the link because of an answer to a command: what it says holds for all commands. */
  readonly condemn: (cause: unknown) => void
  /** Stops and resumes reading; a paused link is not taken for a dead one. */
  readonly pause: () => void
  readonly resume: () => void
}

/** How a client is opened. */
export interface Options {
  /** What it is called in `CLIENT LIST`, where the user may say so. */
  readonly name: string
  readonly scripts?: Readonly<Record<string, Script>>
  /** Two keys that never exist, in different slots: the heartbeat removes them. */
  readonly probe: readonly [string, string]
  /** Redis refuses a command of the heartbeat, and works. At most one call for each heartbeat. */
  readonly refused: (command: string, cause: unknown) => void
}

const CONNECT_TIMEOUT = Duration.millis(2000)
/** How often a link proves that it does its work. */
export const HEARTBEAT_INTERVAL = Duration.seconds(1)
const PING_TIMEOUT = Duration.millis(1500)
/** What an event loop that was blocked has to read its sockets: Node does so in its next turn, Deno some milliseconds later. */
const READ_GRACE = Duration.millis(100)
const QUIT_TIMEOUT = Duration.millis(500)

/** Whether a command's error is an answer of Redis, so that the link itself lives. */
export const isRefusal = (error: LinkLost): boolean => Reply.isReply(error.cause)

/** The loss of a link because of an error; its message has Redis's words, unless another is given. */
export const lost = (cause: unknown, message = Reply.wordsOf(cause)): LinkLost =>
  Reply.isReply(cause) ? new LinkLost({ message, cause, said: Reply.codeOf(cause) }) : new LinkLost({ message, cause })

/** Runs one command; a rejection is a `LinkLost` with its message. */
export const command = <A>(run: () => PromiseLike<A>): Effect.Effect<A, LinkLost> =>
  Effect.tryPromise({ try: run, catch: (cause) => lost(cause) })

/** Runs a command without which a link is not open; where Redis refuses it, the message names it. */
export const step = <A>(name: string, run: () => PromiseLike<A>): Effect.Effect<A, LinkLost> =>
  Effect.mapError(command(run), (error) =>
    isRefusal(error) ? lost(error.cause, Opening.refusalOf(name, error.cause)) : error
  )

/** The number of the database that a URL names; 0 where it names none. */
export const databaseOf = (url: Redacted.Redacted): number => Number(new URL(Redacted.value(url)).pathname.slice(1))

/**
 * The library's own handshake is HELLO alone. It ignores a refused SELECT, and
 * what it sends behind HELLO to a Redis that has closed the connection costs the
 * reason that Redis gave: the write fails before the answer is read.
 */
const make = (url: Redacted.Redacted, scripts: Readonly<Record<string, Script>>): Redis => {
  const redis = new Redis(Redacted.value(url), {
    scripts,
    lazyConnect: true,
    retryStrategy: () => null,
    autoResubscribe: false,
    autoResendUnfulfilledCommands: false,
    enableOfflineQueue: false,
    enableReadyCheck: false,
    disableClientInfo: true,
    maxRetriesPerRequest: 0,
    connectTimeout: 0
  })
  redis.options.db = 0
  return redis
}

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

/** What INFO answers; `undefined` where the user may not call it. */
const information = (redis: Redis, section: string): Effect.Effect<string | undefined, LinkLost> =>
  step("INFO", () => redis.info(section)).pipe(
    Effect.catchIf(
      (error) => isRefusal(error) && Reply.isDenied(error.cause),
      () => Effect.succeed(undefined)
    )
  )

const unfit = (said: string, problem: string | undefined): Effect.Effect<void, LinkLost> =>
  problem === undefined ? Effect.void : Effect.fail(new LinkLost({ message: problem, said }))

/** What follows HELLO: whether this is a Redis to work with, the database, the name. Answers its run_id. */
const settle = (redis: Redis, name: string, database: number): Effect.Effect<string, LinkLost> =>
  Effect.gen(function* () {
    // Sent together and judged in this order: a Sentinel and a node of a cluster refuse SELECT.
    const [server, replication, selected] = yield* Effect.all(
      [
        information(redis, "server"),
        information(redis, "replication"),
        Effect.either(database === 0 ? Effect.void : step(`SELECT ${database}`, () => redis.select(database))),
        Effect.ignore(command(() => redis.client("SETNAME", name)))
      ],
      { concurrency: "unbounded" }
    )
    yield* unfit("MODE", Opening.unfitMode(server ?? ""))
    yield* unfit("ROLE", Opening.unfitRole(replication ?? ""))
    yield* selected
    return Opening.runIdOf(server ?? "")
  })

/** Opens a client to a Redis that is a master; it is ready when this succeeds, and closed with the scope. */
export const open = (
  url: Redacted.Redacted,
  { name, probe, refused, scripts = {} }: Options
): Effect.Effect<Client, LinkLost, Scope.Scope> =>
  Effect.gen(function* () {
    const redis = yield* Effect.acquireRelease(
      Effect.sync(() => make(url, scripts)),
      close
    )
    let problem: unknown
    let isGreeted = false
    let paused = false
    /** Whether it was paused since the last heartbeat began. */
    let wasPaused = false
    let corked = false
    // Without a listener an error would be thrown; `close` always follows it. The first is the
    // reason and the others follow from it, unless Redis says why.
    redis.on("error", (error: unknown) => {
      if (problem === undefined || (Reply.isReply(error) && !Reply.isReply(problem))) problem = error
    })
    redis.once("connect", () => {
      isGreeted = true
    })
    const stage = (): Opening.Stage => {
      // Undefined until the client has begun to connect, whatever its type says.
      const stream = redis.stream as (typeof redis.stream & { readonly connecting?: boolean }) | undefined
      return {
        isTls: redis.options.tls !== undefined,
        isConnected: stream !== undefined && stream.connecting !== true,
        isGreeted
      }
    }
    yield* command(() => redis.connect()).pipe(
      Effect.mapError((error) => {
        const cause = problem ?? error.cause
        return lost(cause, Opening.failureOf(stage(), cause))
      }),
      within(
        CONNECT_TIMEOUT,
        () => new LinkLost({ message: Opening.silenceOf(stage(), Duration.format(CONNECT_TIMEOUT)) })
      )
    )

    const cork = (): void => {
      if (corked) return
      corked = true
      const { stream } = redis
      stream.cork()
      setImmediate(() => {
        corked = false
        stream.uncork()
      })
    }

    const runId = yield* Effect.zipRight(Effect.sync(cork), settle(redis, name, databaseOf(url)))

    const end = Deferred.unsafeMake<never, LinkLost>(FiberId.none)
    const fail = (error: LinkLost): void => Deferred.unsafeDone(end, Effect.fail(error))
    const closed = (): void => {
      fail(lost(problem, problem === undefined ? "the connection was closed" : Reply.wordsOf(problem)))
    }
    redis.once("close", closed)
    if (redis.status !== "ready") closed()
    const ended = Deferred.await(end)

    // What the user may not call is not asked again on this connection: Redis keeps a log of it.
    const denied = new Set<string>()

    /** Sends the commands of one heartbeat in one piece. PING is the first: a master that hands over holds writes back. */
    const ask = (): Promise<
      ReadonlyArray<readonly [command: string, answer: PromiseSettledResult<string | number>]>
    > => {
      cork()
      const asked: Array<readonly [string, Promise<string | number>]> = [["PING", redis.ping()]]
      // In RESP2 a client that subscribes may do nothing else.
      if (redis.mode === "normal") {
        if (!denied.has("UNLINK")) asked.push(["UNLINK", redis.unlink(...probe)])
        // A replica that takes writes is one as well.
        if (!denied.has("INFO")) asked.push(["INFO", redis.info("replication")])
      }
      return Promise.allSettled(asked.map(([, answer]) => answer)).then((answers) =>
        answers.map((answer, index) => [asked[index]?.[0] ?? "", answer] as const)
      )
    }

    const judge = (
      answers: ReadonlyArray<readonly [command: string, answer: PromiseSettledResult<string | number>]>
    ): Effect.Effect<void, LinkLost | Stalled> => {
      let isTold = false
      let stall: Stalled | undefined
      for (const [name, answer] of answers) {
        if (answer.status === "fulfilled") {
          const role = name === "INFO" ? Opening.unfitRole(String(answer.value)) : undefined
          if (role !== undefined) return unfit("ROLE", role)
          continue
        }
        const cause: unknown = answer.reason
        if (!Reply.isReply(cause)) return Effect.fail(lost(problem ?? cause))
        const verdict = Reply.verdictOf(cause)
        if (verdict === "Ends") return Effect.fail(lost(cause))
        if (verdict === "Stalls") {
          stall ??= new Stalled({ message: Reply.wordsOf(cause), cause })
          continue
        }
        if (Reply.isDenied(cause)) denied.add(name)
        if (name !== "INFO" && !isTold) refused(name, cause)
        isTold = true
      }
      // A replica that loads what its master has sent answers both: nobody waits for a replica.
      return stall === undefined ? Effect.void : Effect.fail(stall)
    }

    // Any answer shows that the connection lives, as any byte does: `status` stays "ready" on a
    // half-open one. After a blocked event loop the timer fires before the answer that waits in the
    // socket is read, so that is waited for before judging.
    const heartbeat = Effect.gen(function* () {
      const before = redis.stream.bytesRead
      wasPaused = paused
      const answers = yield* command(ask).pipe(atMost(PING_TIMEOUT))
      if (answers._tag === "Some") return yield* judge(answers.value)
      yield* Effect.sleep(READ_GRACE)
      if (redis.stream.bytesRead === before && !wasPaused) {
        yield* new LinkLost({ message: `no answer within ${Duration.format(PING_TIMEOUT)}` })
      }
    })
    const heartbeats = Effect.forever(Effect.zipRight(Effect.sleep(HEARTBEAT_INTERVAL), heartbeat))

    return {
      redis,
      runId,
      run: (script, ...args) => (redis as unknown as Record<string, RunScript>)[script]!(...args),
      cork,
      ended,
      heartbeat,
      watch: Effect.raceFirst(ended, heartbeats),
      condemn: (cause) => fail(lost(cause)),
      pause: () => {
        paused = true
        wasPaused = true
        redis.stream.pause()
      },
      resume: () => {
        paused = false
        redis.stream.resume()
      }
    }
  })
