/**
 * All connections of this server: one sweep for their deadlines, and the drain
 * that ends them without haste.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Runtime from "effect/Runtime"
import * as Schedule from "effect/Schedule"
import * as Broker from "./Broker.ts"
import * as Connection from "./Connection.ts"
import * as Hub from "./Hub.ts"
import { clocks } from "./internal/clock.ts"
import { atMost } from "./internal/time.ts"
import * as Mailbox from "./Mailbox.ts"
import * as Metrics from "./Metrics.ts"
import { Outbound } from "./Outbound.ts"
import * as Codes from "./protocol/Codes.ts"
import * as ServerConfig from "./ServerConfig.ts"
import type { Session } from "./Session.ts"

/** `Open`; `Draining`: not ready, still taking clients; `Closed`: taking none. */
export type Phase = "Open" | "Draining" | "Closed"

/** All connections of this server. */
export class Connections extends Context.Tag("fanfare/Connections")<
  Connections,
  {
    /** How many there are. */
    readonly count: () => number
    readonly phase: () => Phase
    /** What waits for their sockets altogether, and how many of these take no more at present. */
    readonly backlog: () => { readonly frames: number; readonly bytes: number; readonly blocked: number }
    /** A connection with an empty mailbox, not counted yet. */
    readonly make: (id: string, encoding: Hub.Encoding) => Effect.Effect<Connection.Connection>
    /** Serves a connection until it is closed. To be run in a fiber that is not interruptible: this is, where it may be. */
    readonly serve: (
      connection: Connection.Connection,
      socket: Connection.Socket,
      session: Session
    ) => Effect.Effect<void>
    /**
     * Ends all of them, in this order: `shutdown.delay`; no new ones; commands
     * that run finish; what the broker has accepted is delivered; each is
     * closed with 3001, `shutdown.close_rate` of them a second. Returns when
     * all are gone, after `shutdown.timeout` at the latest; the caller
     * terminates the rest.
     */
    readonly drain: Effect.Effect<void>
  }
>() {}

const LONGEST_SWEEP = Duration.seconds(1)
const SHORTEST_SWEEP = Duration.millis(20)

/** A deadline is noticed late by at most a quarter of the shortest one, or a second. */
const sweepPeriod = (client: ServerConfig.Config["client"]): Duration.Duration => {
  const { expired_close_delay, ping_interval, pong_timeout, stale_close_delay, write_timeout } = client
  const shortest = [expired_close_delay, ping_interval, pong_timeout, stale_close_delay, write_timeout].reduce(
    Duration.min
  )
  return Duration.clamp(Duration.times(shortest, 0.25), { minimum: SHORTEST_SWEEP, maximum: LONGEST_SWEEP })
}

/** How often a drain looks whether commands have finished, and closes another share of the connections. */
const DRAIN_STEP = Duration.millis(10)

const make = Effect.gen(function* () {
  const config = yield* ServerConfig.ServerConfig
  const metrics = yield* Metrics.Metrics
  const broker = yield* Broker.Broker
  const hub = yield* Hub.Hub
  const clock = yield* clocks
  const open = new Set<Connection.Connection>()
  const empty = yield* Effect.makeLatch(true)
  let phase: Phase = "Open"
  // Commands start in callbacks, so they have no parent; each ends with its connection, which interrupts it.
  const fork = Runtime.runFork(yield* Effect.runtime<never>())

  const sweep = Effect.sync(() => {
    const now = clock.monotonic()
    const wallNow = clock.wall()
    for (const connection of open) connection.sweep(now, wallNow)
  })
  yield* Effect.forkScoped(Effect.repeat(sweep, Schedule.spaced(sweepPeriod(config.client))))

  const remove = (connection: Connection.Connection): void => {
    if (!open.delete(connection)) return
    metrics.connections[connection.encoding].add(-1)
    if (open.size === 0) empty.unsafeOpen()
  }

  const settled = Effect.suspend(() => {
    for (const connection of open) connection.stop()
    return Effect.repeat(
      Effect.sync(() => Array.from(open).every((connection) => connection.settled)),
      { until: (all) => all, schedule: Schedule.spaced(DRAIN_STEP) }
    )
  })

  const closeAll = Effect.suspend(() => {
    const waiting = Array.from(open)
    const share = Math.max(1, Math.round((config.shutdown.close_rate * Duration.toMillis(DRAIN_STEP)) / 1000))
    return Effect.whileLoop({
      while: () => waiting.length > 0,
      body: () => {
        for (const connection of waiting.splice(0, share)) connection.end(Codes.shutdown)
        return Effect.sleep(DRAIN_STEP)
      },
      step: () => undefined
    })
  })

  const drain = Effect.gen(function* () {
    phase = "Draining"
    yield* Effect.sleep(config.shutdown.delay)
    phase = "Closed"
    if (open.size > 0) yield* Effect.logInfo(`draining ${open.size} connections`)
    // A command that does not finish, or a broker that does not answer, takes
    // a part of the time, and never the orderly close of everybody else.
    const part = Duration.times(config.shutdown.timeout, 0.25)
    yield* atMost(part)(settled).pipe(
      Effect.zipRight(atMost(part)(Effect.zipRight(broker.settled, hub.idle))),
      Effect.zipRight(closeAll),
      Effect.zipRight(empty.await),
      atMost(config.shutdown.timeout)
    )
    if (open.size > 0) yield* Effect.logWarning(`terminating ${open.size} connections: shutdown.timeout`)
  })

  return Connections.of({
    count: () => open.size,
    phase: () => phase,
    backlog: () => {
      const total = { frames: 0, bytes: 0, blocked: 0 }
      for (const { backlog } of open) {
        total.frames += backlog.frames
        total.bytes += backlog.bytes
        if (backlog.isBlocked) total.blocked++
      }
      return total
    },
    make: (id, encoding) => {
      const { overflow, queue_max_frames, queue_max_size } = config.client
      return Effect.map(
        Mailbox.make(queue_max_frames, queue_max_size, overflow),
        (mailbox) => new Connection.Connection(id, encoding, new Outbound(mailbox, hub, metrics), metrics, config, fork)
      )
    },
    serve: (connection, socket, session) =>
      Effect.suspend(() => {
        open.add(connection)
        empty.unsafeClose()
        metrics.connections[connection.encoding].add()
        metrics.connectionsOpened.add()
        // Its handshake was under way when the drain began.
        if (phase === "Closed") connection.end(Codes.shutdown)
        const run = connection.run(socket, session, clock.monotonic())
        // Not acquireUseRelease: it keeps four times as much for as long as the connection lives.
        return Effect.matchCauseEffect(Effect.interruptible(run), {
          onSuccess: () => Effect.sync(() => remove(connection)),
          onFailure: (cause) =>
            connection
              .abort(socket, session)
              .pipe(Effect.ensuring(Effect.sync(() => remove(connection))), Effect.zipRight(Effect.failCause(cause)))
        })
      }),
    drain
  })
})

/** The connections of one server. */
export const layer: Layer.Layer<
  Connections,
  never,
  ServerConfig.ServerConfig | Metrics.Metrics | Broker.Broker | Hub.Hub
> = Layer.scoped(Connections, make)
