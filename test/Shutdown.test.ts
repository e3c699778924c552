import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Http from "./support/http.ts"
import { live } from "./support/it.ts"
import * as Program from "./support/program.ts"
import * as Redis from "./support/redis.ts"
import * as Socket from "./support/socket.ts"
import { eventually, Watched } from "./support/wait.ts"

const PATH = "/channels/public:lobby"

const NO_HISTORY = JSON.stringify([
  {
    name: "fast",
    allow_subscribe_for_client: true,
    allow_subscribe_for_anonymous: true,
    allow_publish_for_subscriber: true,
    allow_publish_for_anonymous: true
  }
])

const clientsOf = (redis: Redis.Redis) =>
  Effect.map(
    redis.use((client) => client.client("LIST")),
    (list) =>
      String(list)
        .split("\n")
        .filter((line) => line.includes("name=fanfare-"))
  )

/** Clients that note the last number they got, and whether any was missing. */
const readers = (ws: string, count: number, watched: Watched) =>
  Effect.forEach(
    Array.from({ length: count }),
    () =>
      Effect.gen(function* () {
        const seen = { last: -1, gapless: true }
        const socket = yield* Socket.open(ws + PATH, {
          onText: (text) => {
            const number = Number(text)
            seen.gapless &&= number === seen.last + 1
            seen.last = number
            watched.changed()
          }
        })
        return { seen, socket }
      }),
    { concurrency: 50 }
  )

/** Publishes 0, 1, 2 … through the client protocol, a few on their way at a time, and notes what was acknowledged. */
const publishing = (ws: string) =>
  Effect.gen(function* () {
    const progress = { sent: 0, acknowledged: -1 }
    const watched = new Watched()
    const socket = yield* Socket.open(`${ws}/connection/websocket`, {
      onText: (text) => {
        for (const line of text.split("\n")) {
          const { id, publish } = JSON.parse(line) as { readonly id?: number; readonly publish?: object }
          if (id !== undefined && publish !== undefined) progress.acknowledged = id - 2
        }
        watched.changed()
      }
    })
    socket.send('{"id":1,"connect":{}}')
    const loop = Effect.forever(
      Effect.zipRight(
        watched.until(
          () => progress.sent - progress.acknowledged < 5 || socket.isClosed(),
          "acknowledged",
          "60 seconds"
        ),
        Effect.suspend(() => {
          if (socket.isClosed()) return Effect.never
          socket.send(`{"id":${progress.sent + 2},"publish":{"channel":"public:lobby","data":${progress.sent}}}`)
          progress.sent++
          // The pace of the traffic: as fast as it goes would time the machine, not the end.
          return Effect.sleep("2 millis")
        })
      )
    )
    const fiber = yield* Effect.forkScoped(loop)
    return { progress, socket, stop: Fiber.interrupt(fiber) }
  })

describe("SIGTERM", () => {
  for (const name of ["memory", "redis"] as const) {
    live(
      `over ${name}, with 1,000 clients and traffic: 3001 to each, everything acknowledged delivered, exit code 0 in under 3 s`,
      () =>
        Effect.gen(function* () {
          const redis = yield* Redis.start()
          const program = yield* Program.start({ env: name === "redis" ? { REDIS_URL: redis.url } : {} })
          const watched = new Watched()
          const clients = yield* readers(program.ws, 1000, watched)
          const { progress, stop } = yield* publishing(program.ws)
          yield* watched.until(() => clients.every(({ seen }) => seen.last >= 50), "traffic flows")
          const before = Date.now()
          program.signal("SIGTERM")
          const exit = yield* program.exit
          const took = Date.now() - before
          yield* stop
          expect(exit).toEqual({ code: 0, signal: null })
          expect(took).toBeLessThan(3000)
          const closes = yield* Effect.all(clients.map(({ socket }) => socket.closed))
          expect(closes.filter(({ code, reason }) => code !== 3001 || reason !== "shutdown")).toEqual([])
          expect(progress.acknowledged).toBeGreaterThan(50)
          const missed = clients.filter(({ seen }) => !seen.gapless || seen.last < progress.acknowledged)
          expect(missed.map(({ seen }) => seen)).toEqual([])
          expect(yield* clientsOf(redis)).toEqual([])
        }),
      60_000
    )
  }

  live("while Redis is down: exit code 0 as well", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const program = yield* Program.start({ env: { REDIS_URL: redis.url } })
      const client = yield* Socket.open(program.ws + PATH)
      yield* redis.kill
      yield* program.says("broker degraded")
      const before = Date.now()
      program.signal("SIGTERM")
      expect(yield* program.exit).toEqual({ code: 0, signal: null })
      expect(Date.now() - before).toBeLessThan(3000)
      expect((yield* client.closed).code).toBe(3001)
    })
  )

  live("while Redis hangs without closing: exit code 0 as well", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const program = yield* Program.start({ env: { REDIS_URL: redis.url } })
      const client = yield* Socket.open(program.ws + PATH)
      yield* redis.freeze
      program.signal("SIGTERM")
      expect(yield* program.exit).toEqual({ code: 0, signal: null })
      expect((yield* client.closed).code).toBe(3001)
    })
  )

  live(
    "while draining: readiness 503 during shutdown.delay, new upgrades served until its end and refused after it",
    () =>
      Effect.gen(function* () {
        const program = yield* Program.start({
          env: { FANFARE_SHUTDOWN_DELAY: "1s", FANFARE_SHUTDOWN_CLOSE_RATE: "100" }
        })
        const clients = yield* readers(program.ws, 150, new Watched())
        const first = clients[0]?.socket
        program.signal("SIGTERM")
        const ready = yield* eventually(
          Http.send(`${program.http}/health/ready`),
          ({ status }) => status === 503,
          "not ready"
        )
        expect(JSON.parse(ready.body)).toMatchObject({ status: "draining" })
        const late = yield* Socket.open(program.ws + PATH)
        late.send("0")
        yield* late.count(1)
        // 150 clients at 100 a second: while they leave, nobody gets in.
        yield* Effect.asVoid(first?.closed ?? Effect.void)
        const closing = Date.now()
        const refused = yield* Socket.refusal(program.ws + PATH)
        expect([refused.status, refused.headers["retry-after"]]).toEqual([503, "1"])
        expect((yield* late.closed).code).toBe(3001)
        yield* Effect.all(clients.map(({ socket }) => socket.closed))
        expect(Date.now() - closing).toBeGreaterThan(1200)
        expect(yield* program.exit).toEqual({ code: 0, signal: null })
      })
  )

  live("a client that takes nothing holds it up for shutdown.timeout at most", () =>
    Effect.gen(function* () {
      // Without history: with it the stuck one would be on its way out before the drain.
      const program = yield* Program.start({
        env: { FANFARE_SHUTDOWN_TIMEOUT: "1s", FANFARE_CHANNEL_NAMESPACES: NO_HISTORY }
      })
      const stuck = yield* Socket.open(`${program.ws}/channels/fast:lane`, { onText: () => undefined })
      const well = yield* Socket.open(`${program.ws}/channels/fast:lane`, { onText: () => undefined })
      stuck.pause()
      const dropped = Effect.map(
        Http.metrics(program.http),
        (metrics) => metrics['fanfare_dropped_total{reason="mailbox_full"}'] ?? 0
      )
      yield* eventually(
        Effect.zipRight(
          Effect.sync(() => {
            for (let index = 0; index < 50; index++) well.send("x".repeat(64 * 1024))
          }),
          dropped
        ),
        (count) => count > 0,
        "the stuck one's mailbox is full"
      )
      const before = Date.now()
      program.signal("SIGTERM")
      expect(yield* program.exit).toEqual({ code: 0, signal: null })
      expect(Date.now() - before).toBeLessThan(3000)
      expect((yield* well.closed).code).toBe(3001)
    })
  )

  live("a second signal ends it at once", () =>
    Effect.gen(function* () {
      const program = yield* Program.start({ env: { FANFARE_SHUTDOWN_DELAY: "60s" } })
      program.signal("SIGTERM")
      yield* program.says("draining")
      program.signal("SIGINT")
      expect(yield* program.exit).toEqual({ code: 1, signal: null })
    })
  )

  live("SIGINT with nobody connected: exit code 0", () =>
    Effect.gen(function* () {
      const program = yield* Program.start()
      program.signal("SIGINT")
      expect(yield* program.exit).toEqual({ code: 0, signal: null })
    })
  )
})
