import { describe, expect } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { constVoid } from "effect/Function"
import type * as Broker from "../src/Broker.ts"
import type { Publication } from "../src/protocol/Publication.ts"
import { adapters, type Instance } from "./support/broker.ts"
import { live } from "./support/it.ts"

const isTimeout = ({ reason }: Broker.BrokerError): boolean => reason === "Timeout"

const text = (data: string): Publication => ({ data, json: false })

const dataOf = (instance: Instance, channel: string): ReadonlyArray<string> =>
  instance.heard.filter(([name]) => name === channel).map(([, publication]) => publication.data)

/** Publishes a last message to each channel, and waits until it has come: everything before it has, too. */
const sync = (publisher: Instance, reader: Instance, channel: string) =>
  Effect.gen(function* () {
    const before = dataOf(reader, channel).length
    yield* publisher.broker.publish(channel, text("sync"))
    yield* reader.hears(reader.heard.length + (dataOf(reader, channel).length > before ? 0 : 1))
  })

for (const adapter of adapters) {
  describe(adapter.name, () => {
    live("publish: every subscribed instance hears it, with all that belongs to it, and no other does", () =>
      Effect.gen(function* () {
        const [a, b, c] = yield* adapter.cluster(3)
        if (a === undefined || b === undefined || c === undefined) return
        yield* a.broker.subscribe("x")
        yield* b.broker.subscribe("x")
        const full: Publication = {
          data: '{"raw": 1e400,\n"tab":\t"ü🎺"}',
          json: true,
          info: { client: "c1", user: "42", connInfo: '{"a":1}', chanInfo: "[2]" },
          tags: { t: "v" }
        }
        yield* c.broker.publish("x", full)
        yield* c.broker.publish("y", text("nobody hears this"))
        yield* a.hears(1)
        yield* b.hears(1)
        expect(a.heard).toEqual([["x", full]])
        expect(b.heard).toEqual([["x", full]])
      })
    )

    live("publish: publications of concurrent publishers are heard in one order everywhere", () =>
      Effect.gen(function* () {
        const [a, b] = yield* adapter.cluster(2)
        if (a === undefined || b === undefined) return
        yield* a.broker.subscribe("x")
        yield* b.broker.subscribe("x")
        const publisher = (from: Instance, name: string) =>
          Effect.forEach(
            Array.from({ length: 500 }, (_, index) => `${name}${index}`),
            (data) => from.broker.publish("x", text(data)),
            { discard: true }
          )
        yield* Effect.all([publisher(a, "a"), publisher(b, "b"), publisher(a, "c")], { concurrency: "unbounded" })
        yield* a.hears(1500)
        yield* b.hears(1500)
        expect(dataOf(b, "x")).toEqual(dataOf(a, "x"))
        expect(new Set(dataOf(a, "x")).size).toBe(1500)
        for (const name of ["a", "b", "c"]) {
          const own = dataOf(a, "x").filter((data) => data.startsWith(name))
          expect(own).toEqual(Array.from({ length: 500 }, (_, index) => `${name}${index}`))
        }
      })
    )

    live("publish: what is published in one turn of the event loop is heard in that order, in whatever ways", () =>
      Effect.gen(function* () {
        const [a, b] = yield* adapter.cluster(2)
        if (a === undefined || b === undefined) return
        for (const channel of ["x", "y"]) yield* a.broker.subscribe(channel)
        const retention = { size: 8, ttl: Duration.minutes(5), metaTtl: Duration.hours(1) }
        const failures: Array<unknown> = []
        let undecided = 0
        const unanswered = () => b.broker.progress.asked - b.broker.progress.answered
        const publish = (index: number): void => {
          undecided++
          const way = index % 97 === 0 ? { retention } : index % 31 === 0 ? { idempotencyKey: String(index) } : {}
          const done = (result: Exit.Exit<unknown, Broker.BrokerError>): void => {
            undecided--
            if (Exit.isFailure(result)) failures.push(result.cause)
          }
          const wasTaken = b.broker.unsafePublish(index % 2 === 0 ? "x" : "y", text(String(index)), way, {
            sent: constVoid,
            done
          })
          if (!wasTaken) failures.push("it has to wait")
        }
        for (let index = 0; index < 2000; index++) publish(index)
        expect(unanswered()).toBe(undecided)
        yield* a.hears(2000)
        expect(unanswered()).toBe(undecided)
        expect(failures).toEqual([])
        for (const [at, channel] of ["x", "y"].entries()) {
          expect(dataOf(a, channel)).toEqual(Array.from({ length: 1000 }, (_, index) => String(2 * index + at)))
        }
      })
    )

    live("unsubscribe: the channel is heard no more; subscribe again: it is", () =>
      Effect.gen(function* () {
        const [a, b] = yield* adapter.cluster(2)
        if (a === undefined || b === undefined) return
        yield* a.broker.subscribe("x")
        yield* a.broker.subscribe("y")
        a.broker.unsubscribe("x")
        yield* b.broker.publish("x", text("unheard"))
        yield* sync(b, a, "y")
        yield* a.broker.subscribe("x")
        yield* b.broker.publish("x", text("heard"))
        yield* sync(b, a, "y")
        expect(dataOf(a, "x")).toEqual(["heard"])
      })
    )

    live("subscribe: names that mean something elsewhere are ordinary", () =>
      Effect.gen(function* () {
        const [a, b] = yield* adapter.cluster(2)
        if (a === undefined || b === undefined) return
        const names = ["__proto__", "constructor", "*", "a?[b]", "{slot}x", "ünï:🎺", "with space", "a:b:c", "\\", '"']
        yield* Effect.forEach(names, (name) => a.broker.subscribe(name))
        yield* Effect.forEach(names, (name) => b.broker.publish(name, text(name)))
        yield* a.hears(names.length)
        expect(a.heard.map(([channel, { data }]) => [channel, data])).toEqual(names.map((name) => [name, name]))
      })
    )

    live("subscribe and unsubscribe: thousands at once end in exactly the wanted set", () =>
      Effect.gen(function* () {
        const [a, b] = yield* adapter.cluster(2)
        if (a === undefined || b === undefined) return
        const channels = Array.from({ length: 3000 }, (_, index) => `room:${index}`)
        // Every channel is wanted, given up and, in two of three cases, wanted again, without waiting.
        yield* Effect.forEach(
          channels,
          (channel, index) =>
            Effect.gen(function* () {
              const begun = yield* Effect.makeLatch(false)
              const first = yield* Effect.fork(Effect.ignore(Effect.zipRight(begun.open, a.broker.subscribe(channel))))
              yield* begun.await
              a.broker.unsubscribe(channel)
              // One that is not confirmed in time stays wanted: asked again, it is confirmed.
              if (index % 3 !== 0) yield* Effect.retry(a.broker.subscribe(channel), { while: isTimeout })
              yield* Fiber.interrupt(first)
            }),
          { concurrency: "unbounded", discard: true }
        )
        yield* Effect.forEach(channels, (channel) => b.broker.publish(channel, text(channel)), {
          concurrency: 100,
          discard: true
        })
        yield* a.broker.subscribe("end")
        yield* b.broker.publish("end", text("end"))
        yield* a.hears(2001)
        const wanted = channels.filter((_, index) => index % 3 !== 0)
        expect(new Set(a.heard.map(([channel]) => channel))).toEqual(new Set([...wanted, "end"]))
        expect(a.heard.length).toBe(2001)
      })
    )

    live("attach: a full sink holds publications back, and gets every one of them once it has room", () =>
      Effect.gen(function* () {
        const [a, b] = yield* adapter.cluster(2)
        if (a === undefined || b === undefined) return
        yield* a.broker.subscribe("x")
        yield* b.broker.publish("x", text("0"))
        yield* a.hears(1)
        yield* a.setFull(true)
        const publishing = yield* Effect.fork(
          Effect.forEach(
            Array.from({ length: 200 }, (_, index) => String(index + 1)),
            (data) => b.broker.publish("x", text(data))
          )
        )
        // In process the publisher waits; over Redis the socket is not read. Either way little arrives.
        yield* Effect.yieldNow()
        yield* a.setFull(false)
        yield* Fiber.join(publishing)
        yield* a.hears(201)
        expect(dataOf(a, "x")).toEqual(Array.from({ length: 201 }, (_, index) => String(index)))
      })
    )

    live("settled: what was accepted before has reached the sink", () =>
      Effect.gen(function* () {
        const [a, b] = yield* adapter.cluster(2)
        if (a === undefined || b === undefined) return
        yield* a.broker.subscribe("x")
        yield* Effect.forEach(Array.from({ length: 300 }), () => b.broker.publish("x", text("m")), {
          concurrency: "unbounded",
          discard: true
        })
        yield* a.broker.settled
        expect(a.heard.length).toBe(300)
      })
    )
  })
}
