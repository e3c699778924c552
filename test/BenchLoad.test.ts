/** The benchmark's load: its account of what came, from servers that deliver well and from others. */
import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { AddressInfo } from "node:net"
import { type WebSocket, WebSocketServer } from "ws"
import { load } from "./support/bench.ts"
import { live } from "./support/it.ts"

const { Load } = await load("harness/Load.mjs")
const { jsonRooms } = await load("peers/internal/json-rooms.mjs")

/** What a client gets in place of a message: `index` is the client's, `nth` the message's, from 1. */
type Deliver = (text: string, index: number, nth: number, socket: WebSocket) => ReadonlyArray<string>

/** A server of rooms in this process; what a client of the room gets is for `deliver` to say. */
const rooms = (deliver: Deliver) =>
  Effect.gen(function* () {
    const members: Array<{ readonly socket: WebSocket; readonly room: string; heard: number }> = []
    const server = yield* Effect.acquireRelease(
      Effect.async<WebSocketServer>((resume) => {
        const one: WebSocketServer = new WebSocketServer({ host: "127.0.0.1", port: 0 })
        one.once("listening", () => resume(Effect.succeed(one)))
      }),
      (one) =>
        Effect.async<void>((resume) => {
          for (const client of one.clients) client.terminate()
          one.close(() => resume(Effect.void))
        })
    )
    server.on("connection", (socket) => {
      socket.on("message", (bytes) => {
        const { data, room, type } = JSON.parse(String(bytes))
        if (type === "join") {
          members.push({ socket, room, heard: 0 })
          socket.send(JSON.stringify({ type: "joined", room }))
          return
        }
        for (const [index, member] of members.entries()) {
          if (member.room !== room) continue
          const text = JSON.stringify({ type: "message", room, data })
          for (const one of deliver(text, index, ++member.heard, member.socket)) member.socket.send(one)
        }
      })
    })
    return {
      port: (server.address() as AddressInfo).port,
      /** Sends to all clients. */
      tell: (text: string) => {
        for (const { socket } of members) socket.send(text)
      }
    }
  })

/** The load on such a server, all of its clients connected. */
const loadOn = (deliver: Deliver, options: object) =>
  Effect.gen(function* () {
    const { port, tell } = yield* rooms(deliver)
    const load = yield* Effect.acquireRelease(
      Effect.sync(() => new Load(jsonRooms, options)),
      (one) => Effect.sync(() => one.close())
    )
    yield* Effect.promise(() => load.open([{ port }]))
    return {
      load,
      tell,
      publish: (times: number) =>
        Effect.repeatN(
          Effect.promise(() => load.once()),
          times - 1
        )
    }
  })

const ROOM = { connections: 4, publishers: 2 }

const asIs: Deliver = (text) => [text]

/** What goes wrong for the client 1, with its third message: the second one of its first publisher. */
const third =
  (instead: (text: string, socket: WebSocket) => ReadonlyArray<string>): Deliver =>
  (text, index, nth, socket) =>
    index === 1 && nth === 3 ? instead(text, socket) : [text]

/** The message that the same publisher sends next. */
const later = (text: string): string =>
  text.replace(/:(\d{8}):/, (_, n) => `:${String(Number(n) + 1).padStart(8, "0")}:`)

describe("Load, the account of a run", () => {
  live("has no fault where every message came to everybody of its room, once and in order", () =>
    Effect.gen(function* () {
      for (const options of [ROOM, { connections: 12, rooms: 3, publishers: 6 }, { ...ROOM, size: 1000 }]) {
        const { load, publish } = yield* loadOn(asIs, options)
        yield* publish(5)
        const each = load.connections / ("rooms" in options ? options.rooms : 1)
        expect([load.published, load.received, load.fault]).toEqual([
          5 * options.publishers,
          5 * options.publishers * each,
          undefined
        ])
      }
    })
  )

  live("counts each message of a frame that holds several", () =>
    Effect.gen(function* () {
      const held = new Map<number, string>()
      const { load, publish } = yield* loadOn((text, index) => {
        const before = held.get(index)
        if (before === undefined) {
          held.set(index, text)
          return []
        }
        held.delete(index)
        return [`${before}\n${text}`]
      }, ROOM)
      yield* publish(5)
      expect([load.received, load.fault]).toEqual([40, undefined])
    })
  )

  live("keeps the latencies from when it is told to, one for each delivery", () =>
    Effect.gen(function* () {
      const { load, publish } = yield* loadOn(asIs, ROOM)
      yield* publish(2)
      const latencies = load.keepLatencies()
      yield* publish(3)
      expect(latencies.length).toBe(24)
      expect(latencies.every((latency: number) => latency >= 0 && latency < 10e6)).toBe(true)
    })
  )

  const STALE = "1 deliveries twice, out of order or in the wrong room"

  const cases: ReadonlyArray<
    readonly [name: string, deliver: Deliver, times: number, why: string, options?: typeof ROOM & { rooms: number }]
  > = [
    ["a message is lost", third(() => []), 2, "1 of 16 deliveries lost"],
    ["a message comes twice", third((text) => [text, text]), 3, STALE],
    ["one is lost, and another comes twice", third((text) => [later(text), later(text)]), 3, "1 of 24 deliveries lost"],
    ["one comes before its time", third((text) => [text, later(later(text))]), 3, STALE],
    [
      "one comes that is of another room",
      third((text) => [text, later(text).replace("@@00001:", "@@00000:")]),
      3,
      STALE,
      { connections: 4, rooms: 2, publishers: 2 }
    ],
    [
      "a client is closed",
      third((_, socket) => {
        socket.close(1011)
        return []
      }),
      3,
      "a connection ended: closed with 1011"
    ],
    [
      "a client is cut off",
      third((_, socket) => {
        socket.terminate()
        return []
      }),
      3,
      "a connection ended: "
    ]
  ]

  for (const [name, deliver, times, why, options = ROOM] of cases) {
    live(`has a fault where ${name}`, () =>
      Effect.gen(function* () {
        const { load, publish } = yield* loadOn(deliver, options)
        yield* publish(times)
        expect(load.fault).toContain(why)
      })
    )
  }

  live("has a fault where two of one publisher are out of order", () =>
    Effect.gen(function* () {
      const held: Array<string> = []
      const deliver: Deliver = (text, index, nth) => {
        if (index !== 1 || nth < 3 || nth > 4) return [text]
        held.push(text)
        return nth === 3 ? [] : held.toReversed()
      }
      const { load } = yield* loadOn(deliver, { connections: 4, publishers: 1 })
      yield* Effect.promise(() => load.saturate(0.05, 8))
      expect(load.published).toBeGreaterThanOrEqual(8)
      // What came too late is not made up for.
      expect([load.stale, load.fault]).toEqual([1, `1 of ${load.expected} deliveries lost`])
    })
  )
})
