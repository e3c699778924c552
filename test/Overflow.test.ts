import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { WebSocket } from "ws"
import { channel, publishAll, raw, WIDE } from "./support/history.ts"
import { live } from "./support/it.ts"
import { Reader } from "./support/reader.ts"
import * as Sdk from "./support/sdk.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"
import { Watched } from "./support/wait.ts"

describe("a mailbox that overflows", () => {
  const DATA = "x".repeat(8 * 1024)

  /** Publishes until a subscription has been ended by it; returns how many were published. */
  const overflow = (server: Server.Running, name: string) =>
    Effect.gen(function* () {
      let count = 0
      while (server.metrics.insufficient.overflow.value === 0) {
        yield* server.publisher.publish(name, `${++count} ${DATA}`)
        yield* Effect.yieldNow()
      }
      return count
    })

  live(
    "in a recoverable channel the subscription ends at the first drop, and a resubscription makes the log whole",
    () =>
      Effect.gen(function* () {
        const server = yield* Server.start({ config: { channel, client: WIDE } })
        const reader = new Reader("kept:x")
        yield* Effect.addFinalizer(() => reader.disconnect)
        yield* reader.connect(server.ws)
        reader.pause()
        const count = yield* overflow(server, "kept:x")
        expect(server.metrics.subscriptions.value).toBe(0)
        yield* publishAll(server, "kept:x", 5)
        reader.resume()
        yield* reader.until(() => reader.ended.length > 0, "it is told")
        const prefix = reader.log.length
        expect(prefix).toBeLessThan(count)
        expect((yield* reader.subscribe()).recovered).toBe(true)
        yield* reader.until(() => reader.position?.offset === count + 5, "all of it")
        expect(reader.log).toEqual([
          ...Array.from({ length: count }, (_, index) => `${index + 1} ${DATA}`),
          1,
          2,
          3,
          4,
          5
        ])
        expect([reader.violations, reader.ended]).toEqual([[], [2500]])
      })
  )

  live("the stock client does so by itself, also with the policy drop_oldest", () =>
    Effect.gen(function* () {
      const config = { channel, client: { ...WIDE, overflow: "drop_oldest" } }
      const server = yield* Server.start({ config })
      const sockets: Array<WebSocket> = []
      class Pausable extends WebSocket {
        constructor(url: string) {
          super(url)
          sockets.push(this)
        }
      }
      const client = yield* Sdk.connect(server.ws, { websocket: Pausable })
      const watched = new Watched()
      const log: Array<string> = []
      const states: Array<string> = []
      const subscription = client.newSubscription("kept:x")
      subscription.on("publication", ({ data }) => {
        log.push((data as string).split(" ")[0] ?? "")
        watched.changed()
      })
      subscription.on("subscribing", ({ code }) => states.push(`subscribing ${code}`))
      subscription.on("subscribed", ({ recovered }) => states.push(`subscribed ${recovered}`))
      subscription.subscribe()
      yield* Effect.promise(() => subscription.ready(5000))
      sockets[0]?.pause()
      const count = yield* overflow(server, "kept:x")
      sockets[0]?.resume()
      yield* watched.until(
        () => log.length >= count,
        () => `${log.length} of ${count}`
      )
      expect(log).toEqual(Array.from({ length: count }, (_, index) => String(index + 1)))
      expect(states).toEqual(["subscribing 0", "subscribed false", "subscribing 2500", "subscribed true"])
      expect(sockets.length).toBe(1)
    })
  )

  const bursts = [
    { what: "in bytes", channels: 64, data: "x".repeat(60_000), turns: 30, client: {} },
    { what: "in frames", channels: 600, data: "x", turns: 2, client: { queue_max_frames: 64, channel_limit: 600 } }
  ]
  for (const { channels, client, data, turns, what } of bursts) {
    live(`is not what a burst over many channels makes of one whose socket keeps up: long ${what}`, () =>
      Effect.gen(function* () {
        const server = yield* Server.start({ config: { channel, client } })
        const { socket, ask } = yield* raw(server)
        const names = Array.from({ length: channels }, (_, index) => `bare:${index}`)
        for (const name of names) yield* ask("subscribe", { channel: name })
        const before = server.metrics.deliveryDuration.count
        yield* Effect.forEach(names, (name) => server.publisher.publish(name, data), { discard: true })
        yield* socket.gets(`{"push":{"channel":"bare:${channels - 1}"`)
        expect(socket.received.filter((frame) => frame.startsWith('{"push"')).length).toBe(channels)
        expect(server.metrics.dropped.mailbox_full.value).toBe(0)
        // Its socket was waited for in between.
        expect(server.metrics.deliveryDuration.count - before).toBeGreaterThanOrEqual(turns)
      })
    )
  }

  live("in a channel without history it costs publications, which are counted, and nothing else", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: { channel } })
      const { socket, ask } = yield* raw(server)
      yield* ask("subscribe", { channel: "bare:x" })
      socket.pause()
      while (server.metrics.dropped.mailbox_full.value === 0) {
        yield* server.publisher.publish("bare:x", DATA)
        yield* Effect.yieldNow()
      }
      socket.resume()
      yield* server.publisher.publish("bare:y", 0)
      expect((yield* ask("ping", {}))["ping"]).toEqual({})
      expect(socket.received.some((frame) => frame.includes("unsubscribe"))).toBe(false)
      expect(server.metrics.insufficient.overflow.value).toBe(0)
    })
  )

  live("a plain socket in a channel with history is closed with 3008", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: { channel } })
      const socket = yield* Socket.open(`${server.ws}/channels/kept:x`)
      socket.pause()
      yield* overflow(server, "kept:x")
      socket.resume()
      expect(yield* socket.closed).toEqual({ code: 3008, reason: "slow" })
      expect(socket.received.map((text) => Number.parseInt(text.slice(1), 10))).toEqual(
        socket.received.map((_, index) => index + 1)
      )
    })
  )
})
