// What history costs: a publish with and without it, and a position check over
// 10,000 channels. Over a Redis of its own (`redis-server` on PATH or in
// REDIS_SERVER_BIN), on loopback, on the built `dist`. Prints medians of ROUNDS
// alternating rounds, and their range.
//
//   npm run bench:history
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import { Redis } from "ioredis"
import { spawn } from "node:child_process"
import { createServer } from "node:net"
import { performance } from "node:perf_hooks"
import { Broker, Metrics, RedisBroker, ServerConfig } from "../dist/index.js"

const ROUNDS = 7
const PUBLISHES = 20_000
const CONCURRENCY = 64
const CHANNELS = 10_000

const retention = { size: 100, ttl: Duration.minutes(5), metaTtl: Duration.hours(720) }
const publication = { data: JSON.stringify("x".repeat(126)), json: true }

const freePort = () =>
  new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address()
      server.close(() => resolve(port))
    })
  })

const startRedis = async () => {
  const port = await freePort()
  const child = spawn(
    process.env.REDIS_SERVER_BIN ?? "redis-server",
    ["--port", String(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
    { stdio: ["ignore", "pipe", "inherit"] }
  )
  await new Promise((resolve, reject) => {
    child.once("error", reject)
    child.stdout.on("data", (text) => String(text).includes("Ready to accept") && resolve())
  })
  return { port, stop: () => child.kill() }
}

const seconds = (info, name) => Number(new RegExp(`^${name}:([\\d.]+)`, "m").exec(info)[1])

/** Wall time, CPU time of this process and of Redis, in milliseconds. */
const measure = async (redis, run) => {
  const redisCpu = async () => {
    const info = await redis.info("cpu")
    return (seconds(info, "used_cpu_user_main_thread") + seconds(info, "used_cpu_sys_main_thread")) * 1000
  }
  const cpuBefore = await redisCpu()
  const ownBefore = process.cpuUsage()
  const before = performance.now()
  await run()
  const wall = performance.now() - before
  const { user, system } = process.cpuUsage(ownBefore)
  return { wall, own: (user + system) / 1000, redis: (await redisCpu()) - cpuBefore }
}

const median = (values) => values.toSorted((one, other) => one - other)[Math.floor(values.length / 2)]

const summary = (rounds, key, scale = 1) => {
  const values = rounds.map((round) => round[key] * scale)
  return `${median(values).toFixed(1)} (${Math.min(...values).toFixed(1)}–${Math.max(...values).toFixed(1)})`
}

const print = (line) => process.stdout.write(`${line}\n`)

const main = async () => {
  const server = await startRedis()
  const redis = new Redis(server.port, "127.0.0.1")
  const url = `redis://127.0.0.1:${server.port}`
  const layer = (broker) =>
    broker.pipe(
      Layer.provide(Metrics.layer),
      Layer.provide(ServerConfig.layer()),
      Layer.provide(Logger.remove(Logger.defaultLogger))
    )

  const program = Effect.gen(function* () {
    const overRedis = Context.get(yield* Layer.build(layer(RedisBroker.layer(Redacted.make(url)))), Broker.Broker)
    const overMemory = Context.get(yield* Layer.build(layer(Broker.layerMemory)), Broker.Broker)
    yield* Effect.repeat(Broker.isLive(overRedis), {
      until: (isLive) => isLive,
      schedule: Schedule.spaced("20 millis")
    })

    const publishAll = (broker, options) =>
      Effect.forEach(
        Array.from({ length: PUBLISHES }, (_, index) => index),
        (index) => broker.publish(`room:${index % 100}`, publication, options),
        { concurrency: CONCURRENCY, discard: true }
      )
    const cases = [
      ["Redis, without history", overRedis, {}],
      ["Redis, with history 100 / 300 s", overRedis, { retention }],
      ["in process, without history", overMemory, {}],
      ["in process, with history 100 / 300 s", overMemory, { retention }]
    ]
    const results = new Map(cases.map(([name]) => [name, []]))
    for (let round = 0; round <= ROUNDS; round++) {
      for (const [name, broker, options] of cases) {
        const result = yield* Effect.promise(() => measure(redis, () => Effect.runPromise(publishAll(broker, options))))
        // The first round warms up.
        if (round > 0) results.get(name).push(result)
      }
    }
    print(`| publish, µs each (128 bytes, ${CONCURRENCY} at a time) | wall | CPU of the instance | CPU of Redis |`)
    print("| --- | --- | --- | --- |")
    const each = 1000 / PUBLISHES
    for (const [name, rounds] of results) {
      print(`| ${name} | ${["wall", "own", "redis"].map((key) => summary(rounds, key, each)).join(" | ")} |`)
    }

    const kept = Array.from({ length: CHANNELS }, (_, index) => ({ channel: `check:${index}`, retention }))
    yield* Effect.forEach(kept, ({ channel }) => overRedis.publish(channel, publication, { retention }), {
      concurrency: CONCURRENCY,
      discard: true
    })
    const checks = []
    for (let round = 0; round <= ROUNDS; round++) {
      const result = yield* Effect.promise(() => measure(redis, () => Effect.runPromise(overRedis.positions(kept))))
      if (round > 0) checks.push(result)
    }
    print(`\n| position check of ${CHANNELS} channels, ms | wall | CPU of the instance | CPU of Redis |`)
    print("| --- | --- | --- | --- |")
    print(`| Redis | ${["wall", "own", "redis"].map((key) => summary(checks, key)).join(" | ")} |`)
  })

  try {
    await Effect.runPromise(Effect.scoped(program))
  } finally {
    await redis.quit()
    server.stop()
  }
}

await main()
