import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { Redis as Client } from "ioredis"
import { type AddressInfo, connect, createServer, type Socket as TcpSocket } from "node:net"
import * as Node from "./faults/node.ts"
import * as Proxy from "./faults/proxy.ts"
import * as Redis from "./faults/redis.ts"
import * as Http from "./support/http.ts"
import { live } from "./support/it.ts"
import { eventually, Watched } from "./support/wait.ts"

// ── TCP ──────────────────────────────────────────────────────────────────────

/** One end of a TCP connection: what it got, and how it ended. */
class End {
  readonly socket: TcpSocket
  readonly watched = new Watched()
  text = ""
  hasEnded = false
  hasClosed = false
  error: string | undefined

  constructor(socket: TcpSocket) {
    this.socket = socket
    socket.setEncoding("utf8").on("data", (text: string) => {
      this.text += text
      this.watched.changed()
    })
    socket.on("end", () => {
      this.hasEnded = true
      this.watched.changed()
    })
    socket.on("error", (error: NodeJS.ErrnoException) => {
      this.error = error.code
    })
    socket.on("close", () => {
      this.hasClosed = true
      this.watched.changed()
    })
  }

  gets(text: string) {
    return this.watched.until(
      () => this.text === text,
      () => `"${text}"; got "${this.text.slice(0, 100)}"`
    )
  }

  get closes() {
    return this.watched.until(() => this.hasClosed, "closed")
  }
}

/** Accepts connections; `next` is the server's end of the one that came after `count` others. */
const listener = Effect.gen(function* () {
  const ends: Array<End> = []
  const watched = new Watched()
  const server = createServer((socket) => {
    ends.push(new End(socket))
    watched.changed()
  })
  yield* Effect.acquireRelease(
    Effect.async<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
    () =>
      Effect.async<void>((resume) => {
        for (const { socket } of ends) socket.destroy()
        server.close(() => resume(Effect.void))
      })
  )
  return {
    port: (server.address() as AddressInfo).port,
    next: (count: number) =>
      Effect.map(
        watched.until(() => ends.length > count, "accepted"),
        () => ends[count] as End
      )
  }
})

const dial = (port: number) =>
  Effect.acquireRelease(
    Effect.sync(() => new End(connect(port, "127.0.0.1"))),
    ({ socket }) => Effect.sync(() => socket.destroy())
  )

/** A proxy, and a connection through it. */
const through = Effect.gen(function* () {
  const { next, port } = yield* listener
  const proxy = yield* Proxy.start(() => port)
  const client = yield* dial(proxy.port)
  const server = yield* next(0)
  client.socket.write("a")
  yield* server.gets("a")
  server.socket.write("b")
  yield* client.gets("b")
  return { proxy, client, server, next }
})

/** So long that a byte that is not held up would have passed. */
const AWHILE = "150 millis"

describe("the fault kit: a proxy", () => {
  live("passes bytes both ways, counts them, and passes the end of either side on, behind them", () =>
    Effect.gen(function* () {
      const { client, proxy, server } = yield* through
      expect(proxy.connections().map(({ passed }) => passed())).toEqual([{ up: 1, down: 1 }])
      client.socket.end("last")
      yield* server.gets("alast")
      yield* server.watched.until(() => server.hasEnded, "ended")
      yield* Effect.all([client.closes, server.closes])
      yield* eventually(Effect.sync(proxy.connections), (open) => open.length === 0, "none is open")
      expect([proxy.accepted(), client.error, server.error]).toEqual([1, undefined, undefined])
    })
  )

  live("cut: both ends see a close; only those that are selected", () =>
    Effect.gen(function* () {
      const { client, next, proxy, server } = yield* through
      const other = yield* dial(proxy.port)
      const otherServer = yield* next(1)
      expect(yield* proxy.cut(({ index }) => index === 0)).toBe(1)
      yield* Effect.all([client.closes, server.closes])
      expect([client.error, server.error]).toEqual([undefined, undefined])
      other.socket.write("on")
      yield* otherServer.gets("on")
    })
  )

  live("reset: both ends get a reset", () =>
    Effect.gen(function* () {
      const { client, proxy, server } = yield* through
      yield* proxy.reset()
      yield* Effect.all([client.closes, server.closes])
      expect([client.error, server.error]).toEqual(["ECONNRESET", "ECONNRESET"])
    })
  )

  live("a reset of one end reaches the other one", () =>
    Effect.gen(function* () {
      const { client, server } = yield* through
      client.socket.resetAndDestroy()
      yield* server.closes
    })
  )

  live(
    "silence: nothing passes and nothing is closed, not even what one end has closed; healed, all of it passes",
    () =>
      Effect.gen(function* () {
        const { client, next, proxy, server } = yield* through
        yield* proxy.behave({ isSilent: true })
        client.socket.end("up")
        server.socket.write("down")
        // One that is opened now is not concerned.
        const other = yield* dial(proxy.port)
        other.socket.write("through")
        yield* (yield* next(1)).gets("through")
        yield* Effect.sleep(AWHILE)
        expect([client.text, server.text, server.hasEnded]).toEqual(["b", "a", false])
        yield* proxy.heal
        yield* Effect.all([client.gets("bdown"), server.gets("aup"), server.closes])
      })
  )

  live("silence in all connections is one of those that are opened later, too", () =>
    Effect.gen(function* () {
      const { client, next, proxy, server } = yield* through
      yield* proxy.behaveAll({ isSilent: true })
      const later = yield* dial(proxy.port)
      later.socket.write("late")
      const laterServer = yield* next(1)
      client.socket.write("up")
      yield* Effect.sleep(AWHILE)
      expect([server.text, laterServer.text]).toEqual(["a", ""])
      yield* proxy.heal
      yield* Effect.all([server.gets("aup"), laterServer.gets("late")])
    })
  )

  live("one way only: silent in one direction, as ever in the other", () =>
    Effect.gen(function* () {
      const { client, proxy, server } = yield* through
      yield* proxy.behave({ isSilent: true }, "down")
      server.socket.write("down")
      client.socket.write("up")
      yield* server.gets("aup")
      yield* Effect.sleep(AWHILE)
      expect(client.text).toBe("b")
      yield* proxy.behave({}, "down")
      yield* client.gets("bdown")
    })
  )

  live("delay: each byte comes so much later, in order", () =>
    Effect.gen(function* () {
      const { client, proxy, server } = yield* through
      yield* proxy.behave({ delay: 200 }, "up")
      const sent = performance.now()
      for (const text of ["1", "2", "3"]) client.socket.write(text)
      yield* server.gets("a123")
      expect(performance.now() - sent).toBeGreaterThanOrEqual(195)
    })
  )

  live("throttle: so many bytes a second pass, all of them, in order", () =>
    Effect.gen(function* () {
      const { client, proxy, server } = yield* through
      yield* proxy.behave({ rate: 20_000 }, "down")
      const text = Array.from({ length: 1000 }, (_, index) => String(index).padStart(8, "0")).join("")
      const sent = performance.now()
      server.socket.write(text)
      yield* client.gets(`b${text}`)
      // 8,000 bytes, of which the first step is free.
      expect(performance.now() - sent).toBeGreaterThanOrEqual(370)
    })
  )

  live("throttle: who sends more than passes is not read from any more", () =>
    Effect.gen(function* () {
      const { client, proxy, server } = yield* through
      yield* proxy.behave({ rate: 1000 }, "up")
      const chunk = Buffer.alloc(1024 * 1024, "x")
      for (let index = 0; index < 16; index++) client.socket.write(chunk)
      yield* eventually(
        Effect.sync(() => client.socket.writableLength),
        (waiting) => waiting > 0,
        "it has to wait"
      )
      yield* Effect.sleep(AWHILE)
      expect(client.socket.writableLength).toBeGreaterThan(chunk.length)
      expect(server.text.length).toBeLessThan(2000)
    })
  )

  live("a connection without a target is refused", () =>
    Effect.gen(function* () {
      const proxy = yield* Proxy.start(() => undefined)
      const client = yield* dial(proxy.port)
      yield* client.closes
      expect(proxy.connections()).toEqual([])
    })
  )
})

// ── Redis ────────────────────────────────────────────────────────────────────

/** A client that stays open until it is closed from the other side, or the scope is. */
const clientOf = ({ port }: { readonly port: number }) =>
  Effect.acquireRelease(
    Effect.sync(() => new Client(port, "127.0.0.1", { retryStrategy: () => null })),
    (client) => Effect.sync(() => Redis.hangUp(client))
  )

/** How long Redis needs for an answer, in milliseconds. */
const answerTime = (redis: Redis.Faulty) =>
  Effect.gen(function* () {
    const before = performance.now()
    yield* redis.use((client) => client.ping())
    return performance.now() - before
  })

const set = (redis: Redis.Faulty, key: string) => redis.use((client) => client.set(key, "value"))
const keys = (redis: Redis.Faulty) =>
  Effect.map(
    redis.use((client) => client.keys("*")),
    (all) => all.toSorted()
  )

const runId = (redis: Redis.Faulty) =>
  Effect.map(
    redis.use((client) => client.info("server")),
    (info) => /^run_id:(\S+)/m.exec(info)?.[1]
  )

/** The error of a command. */
const refusal = (redis: Redis.Faulty, run: Parameters<Redis.Faulty["use"]>[0]) =>
  redis.use((client) =>
    run(client).then(
      () => "none",
      (error: Error) => error.message
    )
  )

describe("the fault kit: a Redis", () => {
  live("kill, restart, restartEmpty: another process, with the snapshot that was written, or with nothing", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const first = yield* runId(redis)
      yield* set(redis, "one")
      yield* redis.snapshot
      yield* set(redis, "two")
      const before = performance.now()
      yield* redis.restart(100)
      expect(performance.now() - before).toBeGreaterThanOrEqual(95)
      expect(yield* keys(redis)).toEqual(["one"])
      const second = yield* runId(redis)
      yield* redis.restartEmpty()
      expect(yield* keys(redis)).toEqual([])
      expect(new Set([first, second, yield* runId(redis)]).size).toBe(3)
    })
  )

  live("freeze: connections are accepted and nothing is answered, until it is thawed", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      yield* redis.freeze
      const answering = yield* Effect.fork(answerTime(redis))
      yield* Effect.sleep(AWHILE)
      yield* redis.thaw
      expect(yield* Fiber.join(answering)).toBeGreaterThanOrEqual(140)
    })
  )

  live("pauseClients and sleep: it answers so much later; of a pause for who writes, the others notice nothing", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      yield* redis.pauseClients(200)
      expect(yield* answerTime(redis)).toBeGreaterThan(100)
      yield* redis.pauseClients(60_000, "WRITE")
      yield* answerTime(redis)
      const writing = yield* Effect.fork(set(redis, "written"))
      yield* Effect.sleep(AWHILE)
      expect(writing.unsafePoll()).toBe(null)
      yield* redis.use((client) => client.call("CLIENT", "UNPAUSE"))
      yield* Fiber.join(writing)
      yield* redis.sleep(300)
      yield* eventually(answerTime(redis), (time) => time > 100, "it has slept")
    })
  )

  live("killClients: the connections of one type are closed, and no others", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const [asking, hearing] = yield* Effect.all([clientOf(redis), clientOf(redis)])
      const closed: Array<string> = []
      asking.on("close", () => closed.push("normal"))
      hearing.on("close", () => closed.push("pubsub"))
      yield* Effect.promise(() => Promise.all([asking.ping(), hearing.subscribe("topic")]))
      yield* redis.killClients("pubsub")
      yield* eventually(
        Effect.sync(() => closed.length),
        (count) => count > 0,
        "closed"
      )
      expect(closed).toEqual(["pubsub"])
      yield* redis.killClients("normal")
      yield* eventually(
        Effect.sync(() => closed.length),
        (count) => count > 1,
        "closed"
      )
      expect(closed).toEqual(["pubsub", "normal"])
    })
  )

  live("permit: what a user may not do any more is refused, until it may", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const publishes = refusal(redis, (client) => client.publish("topic", "text"))
      expect(yield* publishes).toBe("none")
      yield* redis.permit("default", "-publish")
      expect(yield* publishes).toContain("NOPERM")
      yield* redis.permit("default", "+publish")
      expect(yield* publishes).toBe("none")
    })
  )

  live("limitMemory: writes are refused, reads are not, until there is room", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      yield* set(redis, "kept")
      yield* redis.limitMemory(1)
      expect(yield* refusal(redis, (client) => client.set("more", "value"))).toContain("OOM")
      expect(yield* redis.use((client) => client.get("kept"))).toBe("value")
      yield* redis.limitMemory(0)
      yield* set(redis, "more")
    })
  )

  live("limitOutput: a subscriber that does not read is cut off", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      yield* redis.limitOutput(10_000)
      const proxy = yield* Proxy.start(() => redis.port)
      const hearing = yield* clientOf(proxy)
      const closed: Array<string> = []
      hearing.on("close", () => closed.push("closed"))
      yield* Effect.promise(() => hearing.subscribe("topic"))
      yield* proxy.behave({ isSilent: true }, "down")
      const text = "x".repeat(1_000_000)
      const heard = yield* redis.use(async (client) => {
        let receivers = 1
        // What the kernel has room for does not count.
        for (let sent = 0; receivers > 0 && sent < 100; sent++) receivers = await client.publish("topic", text)
        return receivers
      })
      expect(heard).toBe(0)
      yield* proxy.heal
      yield* eventually(
        Effect.sync(() => closed),
        ({ length }) => length > 0,
        "its connection is closed"
      )
    })
  )

  live("flushScripts and flushAll: it knows no script, no key", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const sha = yield* redis.use((client) => client.call("SCRIPT", "LOAD", "return 1"))
      expect(yield* refusal(redis, (client) => client.evalsha(String(sha), 0))).toBe("none")
      yield* redis.flushScripts
      expect(yield* refusal(redis, (client) => client.evalsha(String(sha), 0))).toContain("NOSCRIPT")
      yield* set(redis, "key")
      yield* redis.flushAll
      expect(yield* keys(redis)).toEqual([])
    })
  )

  live("a pair: FAILOVER changes their places, without a loss; a promotion loses the other one", () =>
    Effect.gen(function* () {
      const pair = yield* Redis.startPair()
      const first = pair.primary()
      yield* set(first, "one")
      yield* pair.failOver
      expect(pair.primary()).not.toBe(first)
      expect([yield* pair.primary().role, yield* pair.replica().role]).toEqual(["master", "slave"])
      expect(yield* refusal(first, (client) => client.set("two", "value"))).toContain("READONLY")
      expect(yield* keys(pair.primary())).toEqual(["one"])
      yield* pair.promote
      expect(pair.primary()).toBe(first)
      expect([yield* pair.primary().role, yield* pair.replica().role]).toEqual(["master", "slave"])
      yield* set(first, "two")
      expect(yield* keys(first)).toEqual(["one", "two"])
    })
  )
})

// ── Nodes ────────────────────────────────────────────────────────────────────

const health = (node: Node.Node) => Effect.map(Http.send(`${node.program()?.http}/health/live`), ({ status }) => status)

describe("the fault kit: nodes", () => {
  for (const runtime of ["node", "deno"] as const) {
    live(`under ${runtime}: killed, frozen, told to end, and started again`, () =>
      Effect.gen(function* () {
        const node = yield* Node.make("n1", runtime, { FANFARE_WARM_UP: "false" })
        expect(node.program()).toBe(undefined)
        yield* node.start
        const first = node.program()?.pid
        expect(yield* health(node)).toBe(200)
        yield* node.freeze
        const asking = yield* Effect.fork(health(node))
        yield* Effect.sleep(AWHILE)
        expect(asking.unsafePoll()).toBe(null)
        yield* node.thaw
        expect(yield* Fiber.join(asking)).toBe(200)
        yield* node.kill
        expect(node.program()).toBe(undefined)
        yield* node.start
        expect(node.program()?.pid).not.toBe(first)
        expect(yield* node.terminate).toEqual({ code: 0, signal: null })
        expect(node.program()).toBe(undefined)
        expect(node.output().split("listening on").length - 1).toBe(2)
      })
    )
  }
})
