import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Http from "./support/http.ts"
import { live } from "./support/it.ts"
import { valuesOf } from "./support/metrics.ts"
import * as Program from "./support/program.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"
import { eventually, Watched } from "./support/wait.ts"
import type { Json } from "./support/json.ts"

const OPEN = {
  allow_subscribe_for_client: true,
  allow_subscribe_for_anonymous: true,
  allow_publish_for_subscriber: true,
  allow_publish_for_anonymous: true
}

/** Where drops are counted, and nobody is ended by them. */
const NO_HISTORY = { namespaces: [{ name: "fast", ...OPEN }] }

const CHANNEL = "fast:lane"
const PATH = `/channels/${CHANNEL}`
const BYTES = 16 * 1024
const MESSAGES = (20 * 1024 * 1024) / BYTES
/** Messages on their way at a time: half of a mailbox's bytes. */
const WINDOW = 32

const message = (index: number): string => `${index} `.padEnd(BYTES, "x")

/** A reader that counts, and checks that what it gets is in order. */
const counting = (url: string, watched: Watched) =>
  Effect.gen(function* () {
    const reader = { count: 0, last: -1, ordered: true }
    const socket = yield* Socket.open(url, {
      onText: (text) => {
        const index = Number.parseInt(text, 10)
        reader.ordered &&= index > reader.last
        reader.last = index
        reader.count++
        watched.changed()
      }
    })
    return { reader, socket }
  })

describe("a reader that stops", () => {
  live(
    "harms nobody: 99 others get 20 MB, memory stays, and what it gets plus what is counted as dropped is everything",
    () =>
      Effect.gen(function* () {
        const server = yield* Program.start({
          preload: "memory-probe.cjs",
          env: { FANFARE_CHANNEL_NAMESPACES: JSON.stringify(NO_HISTORY.namespaces), FANFARE_CLIENT_WRITE_TIMEOUT: "5m" }
        })
        const watched = new Watched()
        const fast = yield* Effect.all(Array.from({ length: 99 }, () => counting(server.ws + PATH, watched)))
        const slow = yield* counting(server.ws + PATH, watched)
        slow.socket.pause()
        const before = yield* server.memory
        const publisher = fast[0]?.socket
        const confirmed = (): number => Math.min(...fast.map(({ reader }) => reader.count))
        for (let index = 0; index < MESSAGES; index++) {
          publisher?.send(message(index))
          yield* watched.until(
            () => index + 1 - confirmed() < WINDOW,
            () => `${confirmed()} of ${index} confirmed`
          )
        }
        yield* watched.until(
          () => confirmed() === MESSAGES,
          () => `${confirmed()} of ${MESSAGES} confirmed`
        )
        expect(fast.every(({ reader, socket }) => reader.ordered && !socket.isClosed())).toBe(true)
        expect(slow.reader.count).toBe(0)
        const after = yield* server.memory
        expect(after - before).toBeLessThan(64 * 1024 * 1024)

        slow.socket.resume()
        const dropped = (yield* Http.metrics(server.http))['fanfare_dropped_total{reason="mailbox_full"}'] ?? 0
        expect(dropped).toBeGreaterThan(0)
        yield* watched.until(
          () => slow.reader.count + dropped >= MESSAGES,
          () => `${slow.reader.count} received and ${dropped} dropped of ${MESSAGES}`
        )
        // The last message comes behind all that was queued.
        publisher?.send(message(MESSAGES))
        yield* watched.until(() => slow.reader.last === MESSAGES, "the last message")
        expect(slow.reader.count + dropped).toBe(MESSAGES + 1)
        expect(slow.reader.ordered).toBe(true)
        expect(slow.socket.isClosed()).toBe(false)
      }),
    120_000
  )

  /** Publishes until a paused reader's mailbox has overflowed. */
  const overflow = (server: Server.Running, channel: string) =>
    Effect.gen(function* () {
      for (let index = 0; server.metrics.disconnects(3008).value === 0; index++) {
        yield* server.publisher.publishRaw(channel, { data: message(index), json: false })
        yield* Effect.yieldNow()
      }
    })

  live("overflow disconnect: one that resumes in time sees 3008", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: { channel: NO_HISTORY, client: { overflow: "disconnect" } } })
      const slow = yield* counting(server.ws + PATH, new Watched())
      slow.socket.pause()
      yield* overflow(server, CHANNEL)
      slow.socket.resume()
      expect(yield* slow.socket.closed).toEqual({ code: 3008, reason: "slow" })
      expect(slow.reader.ordered).toBe(true)
    })
  )

  live("overflow disconnect: one that does not is terminated after client.write_timeout", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({
        config: { channel: NO_HISTORY, client: { overflow: "disconnect", write_timeout: "1s" } }
      })
      const slow = yield* counting(server.ws + PATH, new Watched())
      slow.socket.pause()
      yield* overflow(server, CHANNEL)
      const before = Date.now()
      yield* eventually(Effect.sync(server.connections.count), (count) => count === 0, "the slow one is gone")
      expect(Date.now() - before).toBeGreaterThan(700)
      expect(Date.now() - before).toBeLessThan(3000)
      slow.socket.resume()
      expect((yield* slow.socket.closed).code).toBe(1006)
    })
  )

  live("write timeout: one that takes nothing is disconnected with 3008, whatever the overflow policy", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: { channel: NO_HISTORY, client: { write_timeout: "1s" } } })
      const slow = yield* counting(server.ws + PATH, new Watched())
      slow.socket.pause()
      yield* overflow(server, CHANNEL)
      expect(server.metrics.dropped.mailbox_full.value).toBeGreaterThan(0)
      slow.socket.resume()
      expect(yield* slow.socket.closed).toEqual({ code: 3008, reason: "slow" })
    })
  )

  live("a reader with a backlog is not taken for one that does not answer pings", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({
        config: { channel: NO_HISTORY, client: { ping_interval: "200ms", pong_timeout: "400ms" } }
      })
      const slow = yield* counting(server.ws + PATH, new Watched())
      slow.socket.pause()
      while (server.metrics.dropped.mailbox_full.value === 0) {
        yield* server.publisher.publishRaw(CHANNEL, { data: message(0), json: false })
        yield* Effect.yieldNow()
      }
      // Two clients that answer no ping tell that its time is over twice.
      for (let round = 1; round <= 2; round++) {
        const deaf = yield* Socket.open(`${server.ws}/channels/fast:other`, { autoPong: false })
        expect((yield* deaf.closed).code).toBe(3012)
      }
      expect(server.metrics.disconnects(3012).value).toBe(2)
      yield* eventually(Effect.sync(server.connections.count), (count) => count === 1, "only the slow one is left")
      slow.socket.resume()
      yield* Effect.asVoid(
        eventually(
          Effect.sync(() => slow.reader.count),
          (count) => count > 0,
          "it reads on"
        )
      )
      expect(slow.socket.isClosed()).toBe(false)
    })
  )

  live("drop_oldest: what is kept is the newest", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({
        config: { channel: NO_HISTORY, client: { overflow: "drop_oldest", queue_max_frames: 8 } }
      })
      const watched = new Watched()
      const slow = yield* counting(server.ws + PATH, watched)
      slow.socket.pause()
      let published = 0
      while (server.metrics.dropped.mailbox_full.value < 100) {
        yield* server.publisher.publishRaw(CHANNEL, { data: message(published++), json: false })
        yield* Effect.yieldNow()
      }
      const dropped = (): number => server.metrics.dropped.mailbox_full.value
      slow.socket.resume()
      yield* watched.until(
        () => slow.reader.last === published - 1,
        () => `the newest, ${published - 1}; the last is ${slow.reader.last}`
      )
      expect(slow.reader.count + dropped()).toBe(published)
      expect(slow.reader.ordered).toBe(true)
    })
  )
})

describe("a reader that stops, in a channel with history", () => {
  const CHANNEL = "public:lane"

  /** Publishes, tells when the first publication was dropped, and publishes as many again. */
  const overflow = (server: Server.Running) =>
    Effect.gen(function* () {
      let published = 0
      const publish = Effect.suspend(() =>
        server.publisher.publishRaw(CHANNEL, { data: message(published++), json: false })
      )
      while (server.metrics.insufficient.overflow.value === 0) {
        yield* publish
        yield* Effect.yieldNow()
      }
      for (let rest = published; rest > 0; rest--) yield* publish
      return published
    })

  for (const policy of ["drop_newest", "drop_oldest"] as const) {
    live(`overflow ${policy}: a plain socket is closed with 3008, and what it got has no hole`, () =>
      Effect.gen(function* () {
        const server = yield* Server.start({ config: { client: { overflow: policy } } })
        const seen = { next: 0, gapless: true }
        const slow = yield* Socket.open(`${server.ws}/channels/${CHANNEL}`, {
          onText: (text) => {
            seen.gapless &&= Number.parseInt(text, 10) === seen.next++
          }
        })
        slow.pause()
        const published = yield* overflow(server)
        slow.resume()
        expect(yield* slow.closed).toEqual({ code: 3008, reason: "slow" })
        expect(seen.gapless).toBe(true)
        expect(seen.next).toBeLessThan(published)
        expect(valuesOf(server.metrics.insufficient)).toEqual({ overflow: 1, gap: 0 })
        expect([server.metrics.subscriptions.value, server.metrics.channels.value]).toEqual([0, 0])
      })
    )

    live(`overflow ${policy}: a subscription ends with a 2500 push behind what was queued, and can begin again`, () =>
      Effect.gen(function* () {
        const server = yield* Server.start({ config: { client: { overflow: policy } } })
        const watched = new Watched()
        const got: Array<Record<string, Json>> = []
        const reply = (command: number) => got.find(({ id }) => id === command)?.["subscribe"]
        const slow = yield* Socket.open(`${server.ws}/connection/websocket`, {
          onText: (text) => {
            got.push(...text.split("\n").map((line) => JSON.parse(line) as Record<string, Json>))
            watched.changed()
          }
        })
        slow.send(`{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"${CHANNEL}"}}`)
        yield* watched.until(() => got.some(({ id }) => id === 2), "subscribed")
        const epoch: string = reply(2).epoch
        slow.pause()
        const published = yield* overflow(server)
        slow.resume()
        yield* watched.until(() => got.some(({ push }) => push?.unsubscribe !== undefined), "it is told")
        // Nothing of the channel comes behind it.
        slow.send('{"id":3,"ping":{}}')
        yield* watched.until(() => got.some(({ id }) => id === 3), "the answer to the ping")
        const pushes = got.flatMap(({ push }) => (push === undefined ? [] : [push]))
        expect(pushes.at(-1)).toEqual({
          channel: CHANNEL,
          unsubscribe: { code: 2500, reason: "insufficient state" }
        })
        const offsets = pushes.slice(0, -1).map(({ pub }) => pub.offset as number)
        expect(offsets).toEqual(offsets.map((_, index) => index + 1))
        expect(offsets.length).toBeGreaterThan(0)
        expect(offsets.length).toBeLessThan(published)
        expect(valuesOf(server.metrics.insufficient)).toEqual({ overflow: 1, gap: 0 })
        expect([server.metrics.subscriptions.value, server.metrics.channels.value]).toEqual([0, 0])

        // It is not subscribed any more, and may subscribe again, from where it really is.
        const from = { offset: published - 10, epoch, recover: true }
        slow.send(JSON.stringify({ id: 4, subscribe: { channel: CHANNEL, ...from } }))
        yield* watched.until(() => got.some(({ id }) => id === 4), "subscribed again")
        const again = reply(4)
        expect(again).toMatchObject({ recovered: true, offset: from.offset })
        expect(again.publications).toHaveLength(10)
        expect(slow.isClosed()).toBe(false)
      })
    )
  }
})

describe("a client that asks for much and reads nothing", () => {
  live("costs its mailbox and a few replies, not one for each that it asked for", () =>
    Effect.gen(function* () {
      const kept = JSON.stringify([
        {
          name: "fast",
          ...OPEN,
          allow_publish_for_client: true,
          history_size: 20,
          history_ttl: "5m",
          allow_history_for_client: true,
          allow_history_for_anonymous: true
        }
      ])
      const server = yield* Program.start({ preload: "memory-probe.cjs", env: { FANFARE_CHANNEL_NAMESPACES: kept } })
      const writer = yield* Socket.open(`${server.ws}${PATH}`, { onText: () => undefined })
      for (let index = 0; index < 20; index++) writer.send("x".repeat(60_000))
      const CLIENTS = 8
      const clients = yield* Effect.all(
        Array.from({ length: CLIENTS }, () => Socket.open(`${server.ws}/connection/websocket`))
      )
      const ask = (id: number): string => `{"id":${id},"history":{"channel":"fast:lane","limit":-1}}`
      // One is answered, so that every message is there and each reply as long as it may be.
      clients[0]?.send(`{"id":1,"connect":{}}\n${ask(2)}`)
      yield* clients[0]?.gets('"offset":17') ?? Effect.void
      const before = yield* server.memory
      for (const [index, client] of clients.entries()) {
        client.pause()
        const commands = Array.from({ length: 32 }, (_, number) => ask(number + 3)).join("\n")
        client.send(index === 0 ? commands : `{"id":1,"connect":{}}\n${commands}`)
      }
      // Once the last ones have been taken, nothing more is: their mailboxes are full.
      yield* eventually(
        Effect.map(Http.metrics(server.http), (metrics) => metrics["fanfare_frames_received_total"] ?? 0),
        (frames) => frames >= 20 + 1 + CLIENTS,
        "all frames have come"
      )
      let last = -1
      yield* eventually(
        server.memory,
        (now) => {
          const isSettled = Math.abs(now - last) < 1024 * 1024 && now > before + CLIENTS * 512 * 1024
          last = now
          return isSettled
        },
        "its memory is at rest"
      )
      expect(last - before).toBeLessThan(CLIENTS * 8 * 1024 * 1024)
      expect(clients.some((client) => client.isClosed())).toBe(false)
    })
  )
})

describe("a client that sends faster than it is served", () => {
  live("is not read any more at the bound of its inbox, and loses nothing", () =>
    Effect.gen(function* () {
      const gate = yield* Effect.makeLatch(false)
      const server = yield* Server.start({ hooks: { onPublish: () => gate.await } })
      const reader = yield* Socket.open(`${server.ws}/channels/public:lane`)
      const writer = yield* Socket.open(`${server.ws}/channels/public:lane`, { onText: () => undefined })
      const total = 4000
      for (let index = 0; index < total; index++) writer.send(`${index} `.padEnd(1024, "x"))
      yield* eventually(
        Effect.sync(() => server.metrics.framesReceived.value),
        (count) => count >= 64,
        "the inbox is full"
      )
      // A message through the server and back: whatever it would have read by then, it has.
      yield* Http.send(`${server.http}/health/live`)
      // The inbox, what is running, and what one read of 64 KiB held beyond it.
      expect(server.metrics.framesReceived.value).toBeLessThan(64 + 32 + 2 * 64)
      yield* gate.open
      yield* reader.count(total)
      expect(reader.received.map((text) => Number.parseInt(text, 10))).toEqual(
        Array.from({ length: total }, (_, index) => index)
      )
    })
  )
})
