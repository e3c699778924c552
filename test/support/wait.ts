/** Waiting on observable state: on an event and what it changed, never on time. */
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

export class NeverHappened extends Data.TaggedError("NeverHappened")<{ readonly message: string }> {}

/** State that tells its watchers of every change. */
export class Watched {
  readonly #watchers = new Set<() => void>()

  /** To be called after every change. */
  changed(): void {
    for (const watcher of Array.from(this.#watchers)) watcher()
  }

  /** Waits until `done` holds; fails with what was seen instead. */
  until(
    done: () => boolean,
    what: string | (() => string),
    limit: Duration.DurationInput = "20 seconds"
  ): Effect.Effect<void, NeverHappened> {
    return Effect.async<void>((resume) => {
      const look = (): void => {
        if (!done()) return
        this.#watchers.delete(look)
        resume(Effect.void)
      }
      this.#watchers.add(look)
      look()
      return Effect.sync(() => this.#watchers.delete(look))
    }).pipe(
      Effect.timeoutFail({
        duration: limit,
        onTimeout: () =>
          new NeverHappened({
            message: `not within ${Duration.format(limit)}: ${typeof what === "string" ? what : what()}`
          })
      })
    )
  }
}

/** Looks again and again at something that tells nobody of its changes, such as a server's metrics. */
export const eventually = <A, E, R>(
  look: Effect.Effect<A, E, R>,
  done: (a: A) => boolean,
  what: string,
  limit: Duration.DurationInput = "20 seconds"
): Effect.Effect<A, E | NeverHappened, R> => {
  let last: A | undefined
  const once = Effect.map(look, (a) => {
    last = a
    return a
  })
  const again: Effect.Effect<A, E, R> = Effect.flatMap(once, (a) =>
    done(a) ? Effect.succeed(a) : Effect.zipRight(Effect.sleep("25 millis"), again)
  )
  return Effect.timeoutFail(again, {
    duration: limit,
    onTimeout: () =>
      new NeverHappened({
        message: `not within ${Duration.format(limit)}: ${what}; last seen: ${JSON.stringify(last)}`
      })
  })
}
