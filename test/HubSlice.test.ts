/** What the hub fans out in one turn of the event loop. */
import { describe, expect } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type * as Frame from "../src/Frame.ts"
import * as Hub from "../src/Hub.ts"
import { LIMIT, MANY } from "../src/Hub/Gathering.ts"
import { Member, start, Stub } from "./support/hub.ts"
import { live } from "./support/it.ts"
import { stillTimers } from "./support/stillTimers.ts"

const turn = Effect.async<void>((resume) => void setImmediate(() => resume(Effect.void)))

describe("Hub, a slice", () => {
  live("ends behind the channel in which a connection has enough; the rest comes in the next turns, in order", () =>
    Effect.gen(function* () {
      const stub = new Stub()
      const running = yield* start(stub)
      let count = 0
      const offer = (...texts: ReadonlyArray<string>) => {
        for (const data of texts) stub.sink?.offer(data.slice(0, 1), { data, json: false })
      }
      class Full extends Member {
        override deliver(frame: Frame.Frame): boolean {
          // What comes meanwhile is behind what is left.
          if (this.log.length === 0) offer(`b${3 + count++}`)
          running.hub.giveBack()
          return super.deliver(frame)
        }
      }
      const members = new Map([..."abc"].map((channel) => [channel, new Full(false)]))
      for (const [channel, member] of members) yield* member.join(running, undefined, channel)
      const logs = () => Array.from(members.values(), (member) => member.log.join(" "))
      offer("a1", "b1", "a2", "c1", "b2")
      yield* turn
      expect(logs()).toEqual(["a1 a2", "", ""])
      offer("a3")
      yield* turn
      expect(logs()).toEqual(["a1 a2", "b1 b2", ""])
      yield* turn
      expect(logs()).toEqual(["a1 a2", "b1 b2", "c1"])
      yield* turn
      expect(logs()).toEqual(["a1 a2", "b1 b2 b3 b4 b5", "c1"])
      yield* turn
      expect(logs()).toEqual(["a1 a2 a3", "b1 b2 b3 b4 b5", "c1"])
      yield* running.hub.idle
    })
  )

  /** Somebody in a channel, in a hub whose last turn has written to many connections. */
  const busy = Effect.gen(function* () {
    const timers = yield* stillTimers
    const stub = new Stub()
    const running = yield* start(stub)
    const member = new Member(false)
    yield* member.join(running, undefined, "a")
    const offer = (...texts: ReadonlyArray<string>) => {
      for (const data of texts) stub.sink?.offer("a", { data, json: false })
    }
    const written: Array<string> = []
    const touch = (name: string) => running.hub.touch({ flush: () => void written.push(name) })
    for (let index = 0; index < MANY; index++) touch("one of many")
    offer("a0")
    yield* turn
    member.log.length = 0
    return { stub, running, member, offer, timers, touch, written }
  })

  live("waits for what this instance has published itself; all of it is fanned out and written in one turn", () =>
    Effect.gen(function* () {
      const { member, offer, stub, touch, written } = yield* busy
      stub.progress.asked++
      offer("a1")
      yield* turn
      offer("a2")
      touch("asked meanwhile")
      yield* turn
      expect([member.log, written.at(-1)]).toEqual([[], "one of many"])
      stub.progress.answered++
      offer("a3")
      yield* turn
      expect([member.log, written.at(-1)]).toEqual([["a1", "a2", "a3"], "asked meanwhile"])
      // Few were written to.
      stub.progress.asked++
      offer("a4")
      yield* turn
      expect(member.log.at(-1)).toBe("a4")
    })
  )

  live("does not wait for longer than the limit; who waits for the hub waits for that", () =>
    Effect.gen(function* () {
      const { member, offer, running, stub, timers } = yield* busy
      stub.progress.asked++
      offer("a1", "a2")
      yield* turn
      expect(member.log).toEqual([])
      const idle = yield* Effect.fork(running.hub.idle)
      yield* turn
      expect(yield* Fiber.poll(idle)).toEqual(Option.none())
      timers.advance(Duration.toMillis(LIMIT))
      yield* Fiber.join(idle)
      expect(member.log).toEqual(["a1", "a2"])
    })
  )

  live("does not wait where the inbox is full, nor on where it becomes so", () =>
    Effect.gen(function* () {
      const { member, offer, stub, timers } = yield* busy
      stub.progress.asked++
      offer("a")
      yield* turn
      expect([member.log, timers.pending()]).toEqual([[], 1])
      offer(...Array.from({ length: Hub.INBOX_PUBLICATIONS - 1 }, () => "a"))
      expect(stub.sink?.isFull()).toBe(true)
      yield* turn
      expect(member.log.length).toBeGreaterThan(0)
      expect(timers.pending()).toBe(0)
    })
  )

  live("does not wait where more waits already than a slice has", () =>
    Effect.gen(function* () {
      const { member, offer, stub, touch } = yield* busy
      const full = Hub.ENOUGH_PUBLICATIONS
      offer(...Array.from({ length: full + 1 }, () => "a"))
      for (let index = 0; index < MANY; index++) touch("one of many")
      yield* turn
      expect(member.log.length).toBe(full)
      stub.progress.asked++
      yield* turn
      expect(member.log.length).toBe(full + 1)
    })
  )

  live("does not wait behind a turn that wrote to many what was no publication", () =>
    Effect.gen(function* () {
      const { member, offer, stub, touch } = yield* busy
      offer("a1")
      yield* turn
      for (let index = 0; index < MANY; index++) touch("one of many")
      yield* turn
      stub.progress.asked++
      offer("a2")
      yield* turn
      expect(member.log).toEqual(["a1", "a2"])
    })
  )

  live("leaves no timer behind where it ends while it waits", () =>
    Effect.gen(function* () {
      const timers = yield* Effect.scoped(
        Effect.gen(function* () {
          const waiting = yield* busy
          waiting.stub.progress.asked++
          waiting.offer("a1")
          yield* turn
          expect(waiting.timers.pending()).toBe(1)
          return waiting.timers
        })
      )
      expect(timers.pending()).toBe(0)
    })
  )
})
