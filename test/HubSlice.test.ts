/** What the hub fans out in one turn of the event loop. */
import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Frame from "../src/Frame.ts"
import { Member, start, Stub } from "./support/hub.ts"
import { live } from "./support/it.ts"

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
      const turn = Effect.async<void>((resume) => void setImmediate(() => resume(Effect.void)))
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
})
