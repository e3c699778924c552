/** Publishes of one turn, with Redis in the test's hands; BatchesRedis.test.ts has a real one. */
import { describe, expect, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import { inspect } from "node:util"
import * as Batches from "../src/Broker/Batches.ts"
import * as InFlight from "../src/Broker/InFlight.ts"
import type * as Streams from "../src/Broker/RedisStreams.ts"
import * as Metrics from "../src/Metrics.ts"

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
  const batches = Batches.make(inFlight)
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
  return { batches, inFlight, metrics, publish, sent, target, told }
})

const turn = Effect.promise(() => new Promise<void>((resolve) => setImmediate(resolve)))

const commands = (sent: ReadonlyArray<{ readonly command: string; readonly args: ReadonlyArray<string> }>) =>
  sent.map(({ command, args }) => [command, ...args])

const sizes = (sent: ReadonlyArray<{ readonly args: ReadonlyArray<string> }>) => sent.map(({ args }) => args.length / 2)

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
        ["publish", "t:c", "4"]
      ])
      expect(told.splice(0)).toEqual(["c sent"])
      sent[0]?.answer([])
      yield* turn
      expect(told.splice(0)).toEqual(["a accepted", "b accepted", "a accepted"])
      sent[1]?.answer(2)
      yield* turn
      expect(told).toEqual(["c accepted"])
    })
  )

  it.scoped(
    "a refusal is told to whom it is for; where the link breaks, or nobody understands the answer, to all",
    () =>
      Effect.gen(function* () {
        const { publish, sent, told } = yield* setup
        for (const channel of ["a", "b", "c"]) publish(channel)
        yield* turn
        for (const channel of ["d", "e"]) publish(channel)
        yield* turn
        publish("f")
        yield* turn
        for (const channel of ["g", "h"]) publish(channel)
        yield* turn
        told.splice(0)
        sent[0]?.answer([0, "NOPERM", 2, "OOM"])
        sent[1]?.answer(new Error("the link broke"))
        sent[2]?.answer(Object.assign(new Error("NOPERM"), { name: "ReplyError" }))
        sent[3]?.answer("OK")
        yield* turn
        expect(told).toEqual([
          'publish "a": Failed (NOPERM)',
          "b accepted",
          'publish "c": Failed (OOM)',
          'publish "d": Failed',
          'publish "e": Failed',
          'publish "f": Failed (NOPERM)',
          'publish "g": Failed',
          'publish "h": Failed'
        ])
      })
  )

  it.scoped("what Redis refuses as a whole tells nobody what others have published", () =>
    Effect.gen(function* () {
      const { batches, sent, target } = yield* setup
      const causes: Array<unknown> = []
      for (const channel of ["a", "b"]) {
        batches.publish(target, channel, "a secret", {
          sent: () => undefined,
          done: (result) => {
            if (Exit.isFailure(result) && result.cause._tag === "Fail") causes.push(result.cause.error.cause)
          }
        })
      }
      yield* turn
      const command = { name: "eval", args: sent[0]?.args }
      sent[0]?.answer(Object.assign(new Error("BUSY"), { name: "ReplyError", command }))
      yield* turn
      expect(causes.map(String)).toEqual(["ReplyError: BUSY", "ReplyError: BUSY"])
      expect(inspect(causes, { depth: 9 })).not.toContain("a secret")
    })
  )

  it.scoped("is bounded in publishes and in bytes: what is above is the next command, of the same turn", () =>
    Effect.gen(function* () {
      const { publish, sent } = yield* setup
      for (let count = 0; count < 600; count++) publish("many", String(count))
      expect(sizes(sent)).toEqual([256, 256])
      yield* turn
      expect(sizes(sent)).toEqual([256, 256, 88])
      expect(sent.flatMap(({ args }) => args.filter((_, at) => at % 2 === 1))).toEqual(
        Array.from({ length: 600 }, (_, count) => String(count))
      )
      sent.splice(0)
      for (let count = 0; count < 10; count++) publish("large", "x".repeat(20 * 1024))
      yield* turn
      expect(sizes(sent)).toEqual([7, 3])
    })
  )

  it.scoped("counts each publish until it is answered: at the bound it is refused, and not sent", () =>
    Effect.gen(function* () {
      const { inFlight, metrics, publish, sent, told } = yield* setup
      const answerAll = Effect.suspend(() => {
        for (const { answer } of sent.splice(0)) answer([])
        return turn
      })
      for (const round of [1, 2]) {
        for (let count = 0; count < 16_384; count++) publish("many")
        told.splice(0)
        publish("one too many")
        expect(told.splice(0)).toEqual(['publish "one too many": Overloaded'])
        expect(metrics.limits.publishes_in_flight.value).toBe(round)
        yield* turn
        expect(sent.flatMap(({ args }) => args).includes("t:one too many")).toBe(false)
        yield* answerAll
        expect(told.splice(0).length).toBe(16_384)
      }
      const large = "x".repeat(8 * 1024 * 1024)
      for (const channel of ["a", "b", "c", "d", "e"]) publish(channel, large)
      expect(told.splice(0)).toEqual(["a sent", "b sent", "c sent", "d sent", 'publish "e": Overloaded'])
      // Told in time or not: it is on the wire until Redis answers.
      yield* TestClock.adjust("1 seconds")
      told.splice(0)
      publish("f")
      expect(told.splice(0)).toEqual(['publish "f": Overloaded'])
      yield* answerAll
      publish("again")
      expect(told).toEqual(["again sent"])
      yield* turn
      yield* answerAll
      // Nothing is counted that is not there, and nothing less than nothing.
      for (let count = 0; count < 16_384; count++) expect(inFlight.admit(0)).toBe(true)
      expect(inFlight.admit(0)).toBe(false)
    })
  )

  it.scoped("goes to the link that it was published at; without one it fails at once", () =>
    Effect.gen(function* () {
      const { batches, publish, sent, told } = yield* setup
      const another = redis()
      publish("a")
      publish("b", "e", another.target)
      expect(commands(sent)).toEqual([["publish", "t:a", "e"]])
      yield* turn
      expect(commands(another.sent)).toEqual([["publish", "t:b", "e"]])
      told.splice(0)
      batches.publish(undefined, "c", "e", {
        sent: () => expect.fail("sent"),
        done: (result) => void told.push(Exit.isFailure(result) ? "not live" : "accepted")
      })
      expect(told).toEqual(["not live"])
    })
  )

  it.scoped(
    "flush sends what waits, so that what follows comes after it; of one channel, only if there is something of it",
    () =>
      Effect.gen(function* () {
        const { batches, publish, sent } = yield* setup
        publish("a", "1")
        batches.flushChannel("b")
        expect(sent).toEqual([])
        publish("b", "2")
        batches.flushChannel("a")
        expect(commands(sent)).toEqual([["eval", "t:a", "1", "t:b", "2"]])
        publish("a", "3")
        batches.flush()
        batches.flush()
        yield* turn
        expect(commands(sent.slice(1))).toEqual([["publish", "t:a", "3"]])
      })
  )

  it.scoped("a publisher that goes on within its answer, or once its place is settled, is in the next command", () =>
    Effect.gen(function* () {
      const { batches, sent, target } = yield* setup
      const told: Array<string> = []
      const publish = (name: string, next: { readonly sent?: () => void; readonly done?: () => void } = {}): void =>
        batches.publish(target, name, "e", {
          sent: () => next.sent?.(),
          done: (result) => {
            told.push(`${name} ${result._tag}`)
            next.done?.()
          }
        })
      publish("a", { sent: () => publish("b"), done: () => publish("c") })
      yield* turn
      expect(commands(sent)).toEqual([["eval", "t:a", "e", "t:b", "e"]])
      sent[0]?.answer([])
      yield* turn
      yield* turn
      expect(told).toEqual(["a Success", "b Success"])
      sent[1]?.answer(1)
      yield* turn
      expect([commands(sent.slice(1)), told.slice(2)]).toEqual([[["publish", "t:c", "e"]], ["c Success"]])
    })
  )

  it.scoped("all are told when their time is over, once", () =>
    Effect.gen(function* () {
      const { publish, sent, told } = yield* setup
      publish("a")
      publish("b")
      yield* turn
      yield* TestClock.adjust("1 seconds")
      expect(told.splice(0)).toEqual(["a sent", "b sent", 'publish "a": Timeout', 'publish "b": Timeout'])
      sent[0]?.answer([])
      yield* turn
      expect(told).toEqual([])
    })
  )

  it.scoped("their time begins when they are sent, however long the turn takes", () =>
    Effect.gen(function* () {
      const { inFlight } = yield* setup
      const begun: Array<number> = []
      const begin = (sent: InFlight.Sent<never>): void => {
        begun.push(sent.count)
        inFlight.begin(sent)
      }
      const batches = Batches.make({ ...inFlight, begin })
      const { target } = redis()
      const publish = (channel: string): void =>
        batches.publish(target, channel, "e", { sent: () => undefined, done: () => undefined })
      publish("a")
      publish("b")
      expect(begun).toEqual([])
      yield* turn
      expect(begun).toEqual([2])
    })
  )
})
