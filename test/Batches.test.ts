/** Publishes of one turn: with Redis in the test's hands, and with a real one. */
import { describe, expect, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/TestClock"
import type * as Broker from "../src/Broker.ts"
import * as Batches from "../src/Broker/Batches.ts"
import * as InFlight from "../src/Broker/InFlight.ts"
import * as RedisBroker from "../src/Broker/Redis.ts"
import type * as Streams from "../src/Broker/RedisStreams.ts"
import * as Metrics from "../src/Metrics.ts"
import { instance } from "./support/broker.ts"
import { live } from "./support/it.ts"
import * as Redis from "./support/redis.ts"

/** A Redis that keeps what it is sent, until the test answers. */
const redis = () => {
  const sent: Array<{
    readonly command: string
    readonly args: ReadonlyArray<string>
    answer: (value: unknown) => void
  }> = []
  const take = (command: string, args: ReadonlyArray<string>) =>
    new Promise((resolve, reject) => {
      const answer = (value: unknown): void => (value instanceof Error ? reject(value) : resolve(value))
      sent.push({ command, args, answer })
    })
  const client = {
    cork: () => undefined,
    redis: {
      publish: (...args: ReadonlyArray<string>) => take("publish", args),
      eval: (_lua: string, _keys: number, ...args: ReadonlyArray<string>) => take("eval", args)
    }
  }
  const target = { client, keys: { topic: (channel: string) => `t:${channel}` } } as unknown as Streams.Target
  return { sent, target }
}

const setup = Effect.gen(function* () {
  const metrics = Context.get(yield* Layer.build(Metrics.layer), Metrics.Metrics)
  const inFlight = yield* InFlight.make(metrics)
  let begun: InFlight.Sent<never> | undefined
  const batches = Batches.make({
    ...inFlight,
    begin: (sent) => {
      begun = sent
      inFlight.begin(sent)
    }
  })
  const { sent, target } = redis()
  const told: Array<string> = []
  const publish = (channel: string, envelope = "e", at: Streams.Target | undefined = target): void =>
    batches.publish(at, channel, envelope, {
      sent: () => void told.push(`${channel} sent`),
      done: Exit.match({
        onSuccess: () => void told.push(`${channel} accepted`),
        onFailure: (cause) => void told.push(cause._tag === "Fail" ? cause.error.message : cause._tag)
      })
    })
  /** The time of what was begun last is over, and none of its turn: as behind a loop that was blocked. */
  const expire = (): void => {
    if (begun === undefined) return expect.fail("nothing was begun")
    begun.isOn = false
    begun.expire()
  }
  return { batches, expire, inFlight, metrics, publish, sent, target, told }
})

const turn = Effect.promise(() => new Promise<void>((resolve) => setImmediate(resolve)))

const commands = (sent: ReadonlyArray<{ readonly command: string; readonly args: ReadonlyArray<string> }>) =>
  sent.map(({ command, args }) => [command, ...args])

describe("Batches", () => {
  it.scoped("what is published in one turn is one command at its end, and answered as one", () =>
    Effect.gen(function* () {
      const { publish, sent, told } = yield* setup
      publish("a", "1")
      publish("b", "2")
      publish("a", "3")
      expect(told.splice(0)).toEqual(["a sent", "b sent", "a sent"])
      expect(sent).toEqual([])
      yield* turn
      publish("c", "4")
      yield* turn
      yield* turn
      expect(commands(sent)).toEqual([
        ["eval", "t:a", "1", "t:b", "2", "t:a", "3"],
        ["eval", "t:c", "4"]
      ])
      expect(told.splice(0)).toEqual(["c sent"])
      sent[0]?.answer([])
      yield* turn
      expect(told.splice(0)).toEqual(["a accepted", "b accepted", "a accepted"])
      sent[1]?.answer([])
      yield* turn
      expect(told).toEqual(["c accepted"])
    })
  )

  it.scoped("a refusal is told to whom it is for; where the link breaks, all are told", () =>
    Effect.gen(function* () {
      const { publish, sent, told } = yield* setup
      for (const channel of ["a", "b", "c"]) publish(channel)
      yield* turn
      for (const channel of ["d", "e"]) publish(channel)
      yield* turn
      publish("f")
      yield* turn
      told.splice(0)
      sent[0]?.answer([0, "NOPERM", 2, "OOM"])
      sent[1]?.answer(new Error("the link broke"))
      sent[2]?.answer(Object.assign(new Error("NOPERM"), { name: "ReplyError" }))
      yield* turn
      expect(told).toEqual([
        'publish "a": Failed',
        "b accepted",
        'publish "c": Failed',
        'publish "d": Failed',
        'publish "e": Failed',
        'publish "f": Failed'
      ])
    })
  )

  it.scoped("is bounded in publishes and in bytes: what is above is the next command, of the same turn", () =>
    Effect.gen(function* () {
      const { publish, sent } = yield* setup
      for (let count = 0; count < 1100; count++) publish("many", String(count))
      expect(sent.map(({ args }) => args.length / 2)).toEqual([512, 512])
      yield* turn
      expect(sent.map(({ args }) => args.length / 2)).toEqual([512, 512, 76])
      expect(sent.flatMap(({ args }) => args.filter((_, at) => at % 2 === 1))).toEqual(
        Array.from({ length: 1100 }, (_, count) => String(count))
      )
      sent.splice(0)
      for (let count = 0; count < 10; count++) publish("large", "x".repeat(64 * 1024))
      yield* turn
      expect(sent.map(({ args }) => args.length / 2)).toEqual([4, 4, 2])
    })
  )

  it.scoped("counts each publish, until it is answered: at the bound it is refused, and not sent", () =>
    Effect.gen(function* () {
      const { metrics, publish, sent, told } = yield* setup
      for (let count = 0; count < 16_384; count++) publish("many")
      told.splice(0)
      publish("one too many")
      expect(told.splice(0)).toEqual(['publish "one too many": Overloaded'])
      expect(metrics.limits.publishes_in_flight.value).toBe(1)
      yield* turn
      expect(sent.flatMap(({ args }) => args).includes("t:one too many")).toBe(false)
      for (const { answer } of sent.splice(0)) answer([])
      yield* turn
      expect(told.splice(0).length).toBe(16_384)
      const large = "x".repeat(8 * 1024 * 1024)
      for (const channel of ["a", "b", "c", "d", "e"]) publish(channel, large)
      expect(told.splice(0)).toEqual(["a sent", "b sent", "c sent", "d sent", 'publish "e": Overloaded'])
      yield* turn
      for (const { answer } of sent.splice(0)) answer([])
      yield* turn
      told.splice(0)
      publish("again")
      expect(told).toEqual(["again sent"])
    })
  )

  it.scoped("goes to the link that it was published at; without one it fails at once", () =>
    Effect.gen(function* () {
      const { publish, sent, told } = yield* setup
      const another = redis()
      publish("a")
      publish("b", "e", another.target)
      expect(commands(sent)).toEqual([["eval", "t:a", "e"]])
      yield* turn
      expect(commands(another.sent)).toEqual([["eval", "t:b", "e"]])
      told.splice(0)
      const { batches } = yield* setup
      batches.publish(undefined, "c", "e", {
        sent: () => expect.fail("sent"),
        done: (result) => void told.push(Exit.isFailure(result) ? "not live" : "accepted")
      })
      expect(told).toEqual(["not live"])
    })
  )

  it.scoped("flush sends what waits, so that what follows comes after it", () =>
    Effect.gen(function* () {
      const { batches, inFlight, publish, sent, target } = yield* setup
      publish("a", "1")
      publish("a", "2")
      batches.flush()
      const run = () => target.client.redis.publish("t:a", "3")
      inFlight.unsafeSend(
        target,
        { kind: { what: "append", lost: "Failed", read: () => 0 }, channel: "a", bytes: 1 },
        run,
        {
          done: () => undefined
        }
      )
      yield* turn
      expect(commands(sent)).toEqual([
        ["eval", "t:a", "1", "t:a", "2"],
        ["publish", "t:a", "3"]
      ])
    })
  )

  it.scoped("all are told when their time is over, once; what is published after that waits for its own answer", () =>
    Effect.gen(function* () {
      const { expire, publish, sent, told } = yield* setup
      publish("a")
      publish("b")
      yield* turn
      yield* TestClock.adjust("1 seconds")
      expect(told.splice(0)).toEqual(["a sent", "b sent", 'publish "a": Timeout', 'publish "b": Timeout'])
      sent[0]?.answer([])
      yield* turn
      expect(told).toEqual([])
      publish("c")
      expire()
      publish("d")
      yield* turn
      expect(commands(sent.slice(1))).toEqual([
        ["eval", "t:c", "e"],
        ["eval", "t:d", "e"]
      ])
      for (const { answer } of sent) answer([])
      yield* turn
      expect(told).toEqual(["c sent", 'publish "c": Timeout', "d sent", "d accepted"])
    })
  )
})

describe("Broker/Redis, many publishes in one turn", () => {
  live("of which Redis refuses some: those fail, and the others are heard", () =>
    Effect.gen(function* () {
      const server = yield* Redis.start()
      yield* server.use((client) =>
        client.call("ACL", "SETUSER", "wary", "on", ">secret", "~fanfare:*", "&fanfare:pub:open*", "+@all")
      )
      const url = server.url.replace("redis://", "redis://wary:secret@")
      const one = yield* instance(RedisBroker.layer(Redacted.make(url)))
      yield* one.broker.subscribe("open")
      const publish = (channel: string, data: string) =>
        Effect.match(one.broker.publish(channel, { data, json: false }), {
          onFailure: ({ reason, message, cause }: Broker.BrokerError) => `${reason} ${message} ${String(cause)}`,
          onSuccess: () => "accepted"
        })
      const results = yield* Effect.all(
        [publish("open", "1"), publish("closed", "2"), publish("open", "3"), publish("shut", "4")],
        { concurrency: "unbounded" }
      )
      yield* one.hears(2)
      expect(one.heard.map(([, { data }]) => data)).toEqual(["1", "3"])
      expect([results[0], results[2]]).toEqual(["accepted", "accepted"])
      expect(results[1]).toMatch(/^Failed publish "closed": Failed .*(NOPERM|can't publish)/)
      expect(results[3]).toMatch(/^Failed publish "shut": Failed .*(NOPERM|can't publish)/)
    })
  )
})
