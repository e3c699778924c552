/**
 * Which channels this instance wants to hear, and which Redis has confirmed.
 *
 * Wanting is synchronous and idempotent; one fiber at a time brings Redis to
 * what is wanted, in batches, so that any interleaving of subscribe and
 * unsubscribe, for any number of channels, ends in exactly the wanted set.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"

/** The commands that bring about a change; both fail with the link's error. */
export interface Commands<E> {
  readonly subscribe: (channels: ReadonlyArray<string>) => Effect.Effect<void, E>
  readonly unsubscribe: (channels: ReadonlyArray<string>) => Effect.Effect<void, E>
  /** Whether an error is an answer to the command (a channel that is not permitted), not the end of the link. */
  readonly isRefusal?: (error: E) => boolean
}

/** Channels in one command: long enough to be few, short enough not to block Redis. */
const BATCH = 512

/** The wanted and the confirmed channels. */
export interface Subscriptions<E> {
  /** Whether somebody wants the channel. */
  readonly isWanted: (channel: string) => boolean
  /** Whether it is wanted and confirmed. */
  readonly isHeard: (channel: string) => boolean
  /** Wants a channel; completes when it is confirmed, or fails when the link is lost. */
  readonly want: (channel: string) => Effect.Effect<void, E>
  /** Does not want it any more. */
  readonly release: (channel: string) => void
  /** A new link: nothing is confirmed; confirms all that is wanted. */
  readonly restore: (commands: Commands<E>) => Effect.Effect<void, E>
  /** Keeps Redis at what is wanted, until the link is lost. */
  readonly maintain: (commands: Commands<E>) => Effect.Effect<never, E>
  /** The link is lost: fails all who wait. */
  readonly lost: (error: E) => Effect.Effect<void>
  /** Sizes, for tests: wanted and confirmed. */
  readonly sizes: () => { readonly wanted: number; readonly confirmed: number }
}

/** No channel is wanted. */
export const make = <E>(): Effect.Effect<Subscriptions<E>> =>
  Effect.gen(function* () {
    const wanted = new Set<string>()
    const confirmed = new Set<string>()
    /** Channels to look at. */
    const changed = new Set<string>()
    const waiting = new Map<string, Deferred.Deferred<void, E>>()
    const work = yield* Effect.makeLatch(false)

    const touch = (channel: string): void => {
      changed.add(channel)
      work.unsafeOpen()
    }

    const settle = (channel: string, done: Effect.Effect<void, E>): void => {
      const deferred = waiting.get(channel)
      if (deferred === undefined) return
      waiting.delete(channel)
      Deferred.unsafeDone(deferred, done)
    }

    /** Subscribes to channels. A refused batch is asked for one by one, and a refused channel fails those who wait for it. */
    const confirm = (commands: Commands<E>, channels: ReadonlyArray<string>): Effect.Effect<void, E> =>
      commands.subscribe(channels).pipe(
        Effect.tap(() =>
          Effect.sync(() => {
            for (const channel of channels) {
              confirmed.add(channel)
              settle(channel, Effect.void)
            }
          })
        ),
        Effect.catchIf(
          // While a link is restored nobody waits: there the refusal ends it, and is seen.
          (error) => commands.isRefusal?.(error) === true && channels.some((channel) => waiting.has(channel)),
          (error) =>
            channels.length > 1
              ? Effect.forEach(channels, (channel) => confirm(commands, [channel]), { discard: true })
              : Effect.sync(() => {
                  for (const channel of channels) {
                    wanted.delete(channel)
                    settle(channel, Effect.fail(error))
                  }
                })
        )
      )

    /** Brings one batch of changed channels to what is wanted. */
    const step = (commands: Commands<E>): Effect.Effect<void, E> =>
      Effect.suspend(() => {
        const batch: Array<string> = []
        for (const channel of changed) {
          if (batch.length === BATCH) break
          batch.push(channel)
        }
        for (const channel of batch) changed.delete(channel)
        const joining = batch.filter((channel) => wanted.has(channel) && !confirmed.has(channel))
        const leaving = batch.filter((channel) => !wanted.has(channel) && confirmed.has(channel))
        // Not heard any more from the moment in which that is sent: who wants it
        // again meanwhile waits for a new confirmation.
        for (const channel of leaving) confirmed.delete(channel)
        for (const channel of batch) {
          if (confirmed.has(channel)) settle(channel, Effect.void)
          else if (!wanted.has(channel)) settle(channel, Effect.interrupt)
        }
        const join = joining.length === 0 ? Effect.void : confirm(commands, joining)
        const leave = leaving.length === 0 ? Effect.void : commands.unsubscribe(leaving)
        return Effect.zipRight(leave, join)
      })

    const catchUp = (commands: Commands<E>): Effect.Effect<void, E> =>
      Effect.whileLoop({ while: () => changed.size > 0, body: () => step(commands), step: () => undefined })

    return {
      isWanted: (channel) => wanted.has(channel),
      isHeard: (channel) => wanted.has(channel) && confirmed.has(channel),
      want: (channel) =>
        Effect.suspend((): Effect.Effect<void, E> => {
          wanted.add(channel)
          if (confirmed.has(channel)) return Effect.void
          touch(channel)
          return Effect.flatMap(
            Effect.sync(() => {
              const known = waiting.get(channel)
              if (known !== undefined) return known
              const deferred = Deferred.unsafeMake<void, E>(FiberId.none)
              waiting.set(channel, deferred)
              return deferred
            }),
            Deferred.await
          )
        }),
      release: (channel) => {
        if (wanted.delete(channel)) touch(channel)
      },
      restore: (commands) =>
        Effect.suspend(() => {
          confirmed.clear()
          changed.clear()
          for (const channel of wanted) changed.add(channel)
          return catchUp(commands)
        }),
      maintain: (commands) =>
        work.await.pipe(
          Effect.tap(() => Effect.sync(() => work.unsafeClose())),
          Effect.zipRight(catchUp(commands)),
          Effect.forever
        ),
      lost: (error) =>
        Effect.sync(() => {
          confirmed.clear()
          for (const channel of Array.from(waiting.keys())) settle(channel, Effect.fail(error))
        }),
      sizes: () => ({ wanted: wanted.size, confirmed: confirmed.size })
    }
  })
