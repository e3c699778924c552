/** Commands on their way to a Redis in the test's hands. */
import { describe, expect, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import type * as Broker from "../src/Broker.ts"
import * as InFlight from "../src/Broker/InFlight.ts"
import type * as Streams from "../src/Broker/RedisStreams.ts"
import * as Metrics from "../src/Metrics.ts"

const KIND = { what: "double", lost: "NotLive", read: (answer: number) => 2 * answer } as const

/** What Redis says when it refuses a command. */
const refusal = Object.assign(new Error("OOM"), { name: "ReplyError" })

const setup = Effect.gen(function* () {
  const metrics = Context.get(yield* Layer.build(Metrics.layer), Metrics.Metrics)
  const inFlight = yield* InFlight.make(metrics)
  const target = { client: { cork: () => undefined } } as unknown as Streams.Target
  const told: Array<string> = []
  const say = (result: Exit.Exit<number, Broker.BrokerError>): string =>
    Exit.match(result, {
      onSuccess: (value) => String(value),
      onFailure: (cause) => (cause._tag === "Fail" ? cause.error.message : cause._tag)
    })
  /** Sends one of so many bytes; returns how Redis answers. */
  const send = (channel: string, bytes = 0, at: Streams.Target | undefined = target) => {
    const answer: { give: (answer: number) => void; refuse: (cause: unknown) => void } = {
      give: () => expect.fail("not sent"),
      refuse: () => expect.fail("not sent")
    }
    const run = () =>
      new Promise<number>((resolve, reject) => {
        Object.assign(answer, { give: resolve, refuse: reject })
      })
    inFlight.unsafeSend(at, { kind: KIND, channel, bytes }, run, { done: (result) => void told.push(say(result)) })
    return answer
  }
  return { inFlight, metrics, send, target, told }
})

/** Lets what was promised be told. */
const settle = Effect.promise(() => Promise.resolve())

describe("InFlight", () => {
  it.scoped("tells what an answer says, or why there is none", () =>
    Effect.gen(function* () {
      const { inFlight, send, target, told } = yield* setup
      const [a, b, c] = [send("a"), send("b"), send("c")]
      expect(inFlight.progress).toEqual({ asked: 3, answered: 0 })
      c.refuse(new Error("the link broke"))
      b.refuse(refusal)
      a.give(21)
      yield* settle
      inFlight.unsafeSend(undefined, { kind: KIND, channel: "d", bytes: 0 }, () => Promise.resolve(1), {
        done: () => void told.push("nowhere")
      })
      const broken = (): Promise<number> => {
        throw new Error("before it was sent")
      }
      expect((yield* Effect.flip(inFlight.send(target, { kind: KIND, channel: "e", bytes: 0 }, broken))).reason).toBe(
        "NotLive"
      )
      expect(told).toEqual(['double "c": NotLive', 'double "b": Failed (OOM)', "42", "nowhere"])
      expect(inFlight.progress).toEqual({ asked: 4, answered: 4 })
    })
  )

  it.scoped("tells once: an answer behind the deadline is none", () =>
    Effect.gen(function* () {
      const { send, told } = yield* setup
      const [late, lost, timely] = [send("late"), send("lost"), send("timely")]
      yield* TestClock.adjust("999 millis")
      timely.give(1)
      yield* settle
      yield* TestClock.adjust("1 millis")
      expect(told).toEqual(["2", 'double "late": Timeout', 'double "lost": Timeout'])
      late.give(1)
      lost.refuse(new Error("the link broke"))
      yield* settle
      yield* TestClock.adjust("10 seconds")
      expect(told.length).toBe(3)
    })
  )

  it.scoped("is bounded in bytes: what has timed out counts until Redis has answered it, or the link is gone", () =>
    Effect.gen(function* () {
      const { metrics, send, told } = yield* setup
      const half = 16 * 1024 * 1024
      const [first, second] = [send("first", half), send("second", half)]
      yield* TestClock.adjust("1 seconds")
      send("third")
      expect(told.splice(0)).toEqual([
        'double "first": Timeout',
        'double "second": Timeout',
        'double "third": Overloaded'
      ])
      expect(metrics.limits.publishes_in_flight.value).toBe(1)
      first.give(1)
      yield* settle
      const fourth = send("fourth", half)
      send("fifth")
      second.refuse(new Error("the link broke"))
      fourth.give(4)
      yield* settle
      // Nothing is on its way any more: as much fits as at first.
      send("sixth", half)
      send("seventh", half).give(7)
      yield* settle
      expect(told).toEqual(['double "fifth": Overloaded', "8", "14"])
    })
  )

  it.scoped("is bounded in number", () =>
    Effect.gen(function* () {
      const { send, told } = yield* setup
      const answers = Array.from({ length: 16_384 }, () => send("many"))
      send("one too many")
      expect(told.splice(0)).toEqual(['double "one too many": Overloaded'])
      for (const { give } of answers) give(1)
      yield* settle
      expect(told.splice(0).length).toBe(16_384)
      send("again").give(3)
      yield* settle
      expect(told).toEqual(["6"])
    })
  )
})
