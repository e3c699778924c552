/** The way outward of a connection, with a socket in the test's hands. */
import { describe, expect, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Buffer } from "node:buffer"
import * as Frame from "../src/Frame.ts"
import * as Hub from "../src/Hub.ts"
import * as Mailbox from "../src/Mailbox.ts"
import * as Metrics from "../src/Metrics.ts"
import { Outbound } from "../src/Outbound.ts"

const FRAMES = 4

/** The texts of short frames; of longer ones, nothing that a test looks at. */
const textsIn = (bytes: Buffer): string => {
  let text = ""
  for (let at = 0; at < bytes.length;) {
    const end = at + 2 + (bytes[at + 1] ?? 0)
    text += bytes.toString("latin1", at + 2, end)
    at = end
  }
  return text
}

const setup = (overflow: Mailbox.Overflow = "drop_newest") =>
  Effect.gen(function* () {
    const metrics = Context.get(yield* Layer.build(Metrics.layer), Metrics.Metrics)
    const mailbox = yield* Mailbox.make(FRAMES, 1024 * 1024, overflow)
    const hub = { touched: 0, givenBack: 0 }
    const outbound = new Outbound(
      mailbox,
      {
        touch: () => void hub.touched++,
        giveBack: () => void hub.givenBack++
      } as unknown as Context.Tag.Service<Hub.Hub>,
      metrics
    )
    const socket = { written: [] as Array<string>, sizes: [] as Array<number>, takes: true, isOpen: true }
    outbound.open({
      write: (bytes) => {
        socket.written.push(textsIn(bytes))
        socket.sizes.push(bytes.length)
        return socket.takes
      },
      isOpen: () => socket.isOpen
    })
    const deliver = (...texts: ReadonlyArray<string>): boolean => outbound.deliver(Frame.encode(texts), false)
    return { deliver, hub, metrics, outbound, socket }
  })

describe("Outbound", () => {
  it.scoped("is written in one piece at the end of the turn, which the hub is asked for once", () =>
    Effect.gen(function* () {
      const { deliver, hub, outbound, socket } = yield* setup()
      expect([deliver("a"), deliver("b")]).toEqual([true, true])
      outbound.send("c")
      expect([hub.touched, socket.written]).toEqual([1, []])
      outbound.flush()
      expect([socket.written, outbound.isEmpty]).toEqual([["abc"], true])
      deliver("d")
      expect(hub.touched).toBe(2)
    })
  )

  it.scoped("more than the mailbox holds is written meanwhile, while the socket takes it", () =>
    Effect.gen(function* () {
      const { deliver, metrics, outbound, socket } = yield* setup()
      expect(deliver("1", "2", "3", "4", "5", "6", "7", "8", "9")).toBe(true)
      outbound.flush()
      expect(socket.written).toEqual(["1234", "5678", "9"])
      expect([metrics.deliveries.value, metrics.dropped.mailbox_full.value]).toEqual([9, 0])
    })
  )

  it.scoped("more than 64 KiB are several writes, of whole frames", () =>
    Effect.gen(function* () {
      const { deliver, outbound, socket } = yield* setup()
      const long = (kibibytes: number): string => "x".repeat(kibibytes * 1024)
      deliver(long(40))
      deliver(long(20))
      deliver(long(40))
      outbound.send(long(100))
      outbound.flush()
      expect(socket.sizes.map((size) => Math.floor(size / 1024))).toEqual([60, 40, 100])
    })
  )

  it.scoped("once the socket pushes back, nothing is written until it has drained, and the mailbox overflows", () =>
    Effect.gen(function* () {
      const { deliver, metrics, outbound, socket } = yield* setup()
      socket.takes = false
      deliver("a")
      outbound.flush()
      expect([socket.written, outbound.isBlocked]).toEqual([["a"], true])
      expect(deliver("1", "2", "3", "4", "5", "6")).toBe(false)
      outbound.flush()
      expect(outbound.backlog).toEqual({ frames: 4, bytes: 12, isBlocked: true })
      expect([socket.written.length, outbound.makeRoom()]).toEqual([1, false])
      expect([metrics.deliveries.value, metrics.dropped.mailbox_full.value]).toEqual([5, 2])
      socket.takes = true
      expect([outbound.drained(), outbound.drained()]).toEqual([true, false])
      expect([outbound.makeRoom(), socket.written]).toEqual([true, ["a", "1234"]])
    })
  )

  it.scoped("what makes room for newer ones is counted as dropped, and no counter goes back", () =>
    Effect.gen(function* () {
      const { deliver, metrics, outbound, socket } = yield* setup("drop_oldest")
      socket.takes = false
      deliver("a")
      outbound.flush()
      deliver("1", "2", "3", "4")
      expect(metrics.deliveries.value).toBe(5)
      // As large as all of the bound: all others go.
      expect(deliver("x".repeat(1024 * 1024 - 10))).toBe(false)
      expect([metrics.deliveries.value, metrics.dropped.mailbox_full.value]).toEqual([5, 4])
    })
  )

  it.scoped("ends the turn when it was given enough publications, or bytes; the next turn counts anew", () =>
    Effect.gen(function* () {
      const { deliver, hub, outbound } = yield* setup()
      const many = Array.from({ length: Hub.ENOUGH_PUBLICATIONS - 1 }, () => "m")
      deliver(...many)
      outbound.flush()
      deliver("m")
      expect(hub.givenBack).toBe(0)
      deliver(...many)
      expect(hub.givenBack).toBe(1)
      outbound.flush()
      deliver("x".repeat(Hub.ENOUGH_BYTES))
      expect(hub.givenBack).toBe(2)
    })
  )

  it.scoped("replies and what was dropped do not count for it; of one that is blocked, each turn by itself", () =>
    Effect.gen(function* () {
      const { deliver, hub, outbound, socket } = yield* setup()
      outbound.send("x".repeat(2 * Hub.ENOUGH_BYTES))
      socket.takes = false
      outbound.flush()
      const quarter = "x".repeat(Hub.ENOUGH_BYTES / 4)
      deliver(quarter, quarter)
      outbound.flush()
      deliver(quarter, quarter)
      expect([hub.givenBack, outbound.backlog.frames]).toEqual([0, 4])
      // The mailbox is full: for many turns more all of it is dropped.
      for (let count = 0; count < 20; count++) deliver(quarter)
      expect(hub.givenBack).toBe(0)
      expect(hub.touched).toBe(3)
    })
  )

  it.scoped(
    "takes nothing once it is stopped, or the socket is closing, and counts it; what waits may be written",
    () =>
      Effect.gen(function* () {
        const { deliver, metrics, outbound, socket } = yield* setup()
        deliver("a")
        outbound.stop()
        expect(deliver("b", "c")).toBe(true)
        outbound.send("d")
        outbound.flush()
        expect([socket.written, metrics.dropped.connection_closed.value]).toEqual([["a"], 2])

        const closing = yield* setup()
        closing.deliver("a")
        closing.socket.isOpen = false
        expect(closing.deliver("b")).toBe(true)
        closing.outbound.flush()
        expect([closing.socket.written, closing.outbound.isEmpty]).toEqual([[], false])
        closing.outbound.send("c")
        closing.outbound.discard()
        expect([closing.outbound.isEmpty, closing.metrics.dropped.connection_closed.value]).toEqual([true, 2])
      })
  )
})
