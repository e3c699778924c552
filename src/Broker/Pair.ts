/** The two clients of a link, to the same Redis process: one publishes, one subscribes. They are watched, and end, together. */
import * as Effect from "effect/Effect"
import { constVoid } from "effect/Function"
import type * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Redis from "../internal/redis.ts"

/** How many heartbeats a stall may last. The address may lead to another Redis by then, and only a new link asks it. */
export const STALL_HEARTBEATS = 15

/** Both clients. */
export interface Pair {
  readonly publisher: Redis.Client
  readonly subscriber: Redis.Client
  /** The Redis process at their other end; empty where the user may not call INFO. */
  readonly runId: string
  /** Waits until Redis does its work, for `STALL_HEARTBEATS`. `onStall` is run with each one that finds that it does not. */
  readonly works: (onStall: (stall: Redis.Stalled) => Effect.Effect<void>) => Effect.Effect<void, Redis.LinkLost>
  /** Never succeeds; fails when one of them is lost, or Redis does no work. */
  readonly watch: Effect.Effect<never, Redis.LinkLost | Redis.Stalled>
}

const of = (publisher: Redis.Client, subscriber: Redis.Client): Pair => {
  const heartbeats = Effect.all([publisher.heartbeat, subscriber.heartbeat], { concurrency: 2, discard: true })
  const ended = Effect.raceFirst(publisher.ended, subscriber.ended)
  const watch = Effect.raceFirst(publisher.watch, subscriber.watch)
  const worksWithin = (
    left: number,
    onStall: (stall: Redis.Stalled) => Effect.Effect<void>
  ): Effect.Effect<void, Redis.LinkLost> =>
    Effect.raceFirst(heartbeats, ended).pipe(
      Effect.catchTag("Stalled", (stall) =>
        left === 0
          ? Effect.fail(Redis.lost(stall.cause))
          : onStall(stall).pipe(
              Effect.zipRight(Effect.sleep(Redis.HEARTBEAT_INTERVAL)),
              Effect.zipRight(Effect.suspend(() => worksWithin(left - 1, onStall)))
            )
      )
    )
  const works: Pair["works"] = (onStall) => worksWithin(STALL_HEARTBEATS, onStall)
  return { publisher, subscriber, runId: publisher.runId, works, watch }
}

/** Opens both to a Redis that is a master; they are closed with the scope. */
export const open = (
  url: Redacted.Redacted,
  { probe, refused, scripts }: Omit<Redis.Options, "name">
): Effect.Effect<Pair, Redis.LinkLost, Scope.Scope> =>
  Effect.gen(function* () {
    const [publisher, subscriber] = yield* Effect.all(
      [
        Redis.open(url, { name: "fanfare-publisher", probe, refused, ...(scripts === undefined ? {} : { scripts }) }),
        // What the one is refused the other is as well.
        Redis.open(url, { name: "fanfare-subscriber", probe, refused: constVoid })
      ],
      { concurrency: "unbounded" }
    )
    // Behind one address there may be two servers for the length of a failover.
    if (publisher.runId !== subscriber.runId)
      yield* new Redis.LinkLost({ message: "publisher and subscriber are connected to different servers" })
    return of(publisher, subscriber)
  })
