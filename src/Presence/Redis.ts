/**
 * Presence of many instances, in Redis, on the broker's link.
 *
 * Each instance knows who is there of its own, and enters them again every
 * `client.presence_update_interval`; an entry lives for two of them. So those of
 * an instance that is gone expire, and those that Redis has lost come back.
 *
 * What is sent about a connection is what is known of it in the moment of
 * sending, and every change of that is followed by another sending. The link
 * executes commands in the order in which they are sent: so what was sent last
 * is how it is, and nobody is entered again after having left.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type { BrokerError } from "../Broker.ts"
import { Link } from "../Broker/Link.ts"
import * as Reply from "../internal/redisReply.ts"
import { Presence, tooMany } from "../Presence.ts"
import type { ClientInfo } from "../protocol/Publication.ts"
import { ServerConfig } from "../ServerConfig.ts"
import * as Entry from "./Entry.ts"
import * as Entries from "./RedisEntries.ts"

/** Most clients that are sent in one step when they are refreshed, and about how much of them. */
const BATCH = 128
const BATCH_CHARACTERS = 256 * 1024

/** Batches without an answer yet, while a round of refreshing runs. */
const IN_FLIGHT = 8

/** One connection in one channel. */
interface Recorded {
  readonly entry: string
  /** What it was before, until this has succeeded. */
  former: Recorded | undefined
  hasFailed: boolean
}

/** Those of this instance: channel → client. */
class Own {
  readonly #channels = new Map<string, Map<string, Recorded>>()

  get(channel: string, client: string): Recorded | undefined {
    return this.#channels.get(channel)?.get(client)
  }

  set(channel: string, client: string, recorded: Recorded | undefined): void {
    const clients = this.#channels.get(channel)
    if (recorded === undefined) {
      clients?.delete(client)
      if (clients?.size === 0) this.#channels.delete(channel)
    } else if (clients === undefined) {
      this.#channels.set(channel, new Map([[client, recorded]]))
    } else {
      clients.set(client, recorded)
    }
  }

  /** All of them, in batches of chunks of one channel each. What changes meanwhile may be in it or not. */
  *batches(): Generator<ReadonlyArray<Chunk>, void> {
    let batch: Array<Chunk> = []
    let count = 0
    let characters = 0
    for (const [channel, clients] of this.#channels) {
      let chunk: Array<string> = []
      for (const [client, { entry }] of clients) {
        if (chunk.length === 0) batch.push({ channel, clients: chunk })
        chunk.push(client)
        characters += client.length + entry.length
        if (++count < BATCH && characters < BATCH_CHARACTERS) continue
        yield batch
        batch = []
        chunk = []
        count = 0
        characters = 0
      }
    }
    if (batch.length > 0) yield batch
  }
}

/** Clients of one channel that are sent in one call. */
interface Chunk {
  readonly channel: string
  readonly clients: ReadonlyArray<string>
}

/** What a round could not refresh. */
interface Failures {
  chunks: number
  first: string | undefined
}

const make = Effect.gen(function* () {
  const link = yield* Link
  const scope = yield* Effect.scope
  const interval = Duration.toMillis((yield* ServerConfig).client.presence_update_interval)
  const ttl = Math.max(1, Math.ceil(2 * interval))
  const own = new Own()

  /** Sends how it is with one connection. */
  const send = (channel: string, client: string, what: string): Effect.Effect<unknown, BrokerError> =>
    link.run(channel, what, true, (at) => {
      const recorded = own.get(channel, client)
      return recorded === undefined
        ? Entries.leave(at, channel, client)
        : Entries.enter(at, channel, ttl, [[client, recorded.entry]])
    })

  /** Goes back to what was before, and has it sent behind what may have been sent, without waiting. */
  const undo = (channel: string, client: string, recorded: Recorded): Effect.Effect<void> =>
    Effect.suspend(() => {
      recorded.hasFailed = true
      // Changed again since: that counts, and is sent behind it.
      if (own.get(channel, client) !== recorded) return Effect.void
      let former = recorded.former
      while (former?.hasFailed === true) former = former.former
      own.set(channel, client, former)
      return Effect.ignore(send(channel, client, "leave")).pipe(
        Effect.interruptible,
        Effect.forkIn(scope),
        Effect.asVoid
      )
    })

  const add = (channel: string, info: ClientInfo): Effect.Effect<void, BrokerError> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.suspend(() => {
        const { client } = info
        const recorded: Recorded = {
          entry: Entry.encode(info),
          former: own.get(channel, client),
          hasFailed: false
        }
        own.set(channel, client, recorded)
        return restore(send(channel, client, "enter")).pipe(
          Effect.onExit((exit) => {
            if (Exit.isFailure(exit)) return undo(channel, client, recorded)
            recorded.former = undefined
            return Effect.void
          }),
          Effect.asVoid
        )
      })
    )

  // Not interruptible, so that it is sent; the link's deadline bounds it.
  const remove = (channel: string, client: string): Effect.Effect<void> =>
    Effect.suspend(() => {
      own.set(channel, client, undefined)
      return send(channel, client, "leave")
    }).pipe(
      Effect.catchAllCause((cause) =>
        Effect.annotateLogs(Effect.logDebug(`who has left is present until it expires: ${Cause.pretty(cause)}`), {
          client,
          channel
        })
      ),
      Effect.asVoid,
      Effect.uninterruptible
    )

  /** Refreshes a batch: looks at it in the moment of sending, since who was in it may have left. */
  const refresh = (batch: ReadonlyArray<Chunk>, failures: Failures): Effect.Effect<void> => {
    const failed = (cause: unknown, chunks: number): void => {
      failures.chunks += chunks
      failures.first ??= cause instanceof Error ? cause.message : String(cause)
    }
    return link
      .run(batch[0]?.channel ?? "", "refresh who is in", true, (at) =>
        Promise.all(
          batch.map(({ channel, clients }) => {
            const entries = clients.flatMap((client) => {
              const recorded = own.get(channel, client)
              return recorded === undefined ? [] : [[client, recorded.entry] as const]
            })
            if (entries.length === 0) return undefined
            return Entries.enter(at, channel, ttl, entries).catch((cause: unknown) => {
              // What Redis refuses has a line and a counter of its own.
              if (Reply.isReply(cause)) link.refused(`refresh who is in "${channel}"`, cause, 1)
              else failed(cause, 1)
            })
          })
        )
      )
      .pipe(
        Effect.asVoid,
        Effect.catchAllCause((cause) =>
          Cause.isInterruptedOnly(cause)
            ? Effect.failCause(cause as Cause.Cause<never>)
            : Effect.sync(() => failed(Cause.squash(cause), batch.length))
        )
      )
  }

  const isLive = Effect.map(SubscriptionRef.get(link.state), ({ _tag }) => _tag === "Live")

  const round = Effect.suspend(() => {
    const batches = own.batches()
    const failures: Failures = { chunks: 0, first: undefined }
    const worker: Effect.Effect<void> = Effect.suspend(() => {
      const next = batches.next()
      return next.done === true ? Effect.void : Effect.zipRight(refresh(next.value, failures), worker)
    })
    return Effect.all(
      Array.from({ length: IN_FLIGHT }, () => worker),
      { concurrency: "unbounded", discard: true }
    ).pipe(
      Effect.zipRight(Effect.suspend(() => (failures.chunks === 0 ? Effect.succeed(false) : isLive))),
      // What a lost link costs is in its own log.
      Effect.flatMap((isNews) =>
        isNews
          ? Effect.logWarning(`presence is not refreshed in ${failures.chunks} calls: ${failures.first}`)
          : Effect.void
      )
    )
  })

  const due = yield* Effect.makeLatch(false)
  let begun = yield* Clock.currentTimeMillis
  const rounds = Effect.gen(function* () {
    const passed = (yield* Clock.currentTimeMillis) - begun
    yield* Effect.raceFirst(due.await, Effect.sleep(Math.min(Math.max(0, interval - passed), interval)))
    begun = yield* Clock.currentTimeMillis
    due.unsafeClose()
    if (yield* isLive) yield* round
  })

  yield* Effect.forkScoped(Effect.forever(rounds))
  // A link that is new may be to a Redis that is empty.
  yield* Effect.forkScoped(
    Stream.runForEach(link.state.changes, ({ _tag }) => (_tag === "Live" ? due.open : Effect.void))
  )

  return Presence.of({
    add,
    remove,
    list: (channel, maxBytes) =>
      Effect.flatMap(
        link.run(channel, "list who is in", false, (at) => Entries.list(at, channel, maxBytes)),
        (found) => (found === undefined ? Effect.fail(tooMany(channel, maxBytes)) : Effect.succeed(found))
      ),
    stats: (channel) => link.run(channel, "count who is in", false, (at) => Entries.stats(at, channel))
  })
})

/**
 * Presence over the Redis of `Broker/Redis`. While the broker is not live,
 * everything but `remove` fails as `NotLive`.
 */
export const layer: Layer.Layer<Presence, never, Link | ServerConfig> = Layer.scoped(Presence, make)
