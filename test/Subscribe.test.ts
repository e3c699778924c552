import { describe, expect } from "@effect/vitest"
import { Centrifuge } from "centrifuge"
import * as Effect from "effect/Effect"
import { WebSocket } from "ws"
import * as Hooks from "../src/Hooks.ts"
import { channel, publishAll, raw, WIDE } from "./support/history.ts"
import { live } from "./support/it.ts"
import { valuesOf } from "./support/metrics.ts"
import { Reader } from "./support/reader.ts"
import * as Redis from "./support/redis.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"
import { eventually, Watched } from "./support/wait.ts"

describe("subscribe", () => {
  live("the reply says what the namespace forces, what was asked for and granted, and where the stream stands", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: { channel } })
      const { ask } = yield* raw(server)
      for (const name of ["kept:x", "asked:x", "asked:y", "hidden:x", "placed:x", "bare:x"]) {
        yield* publishAll(server, name, 2)
      }
      const asked = { recoverable: true, positioned: true }
      const at = { epoch: expect.stringMatching(/.{8,}/) as string, offset: 2 }
      const recoverable = { recoverable: true, positioned: true, ...at }
      const results = yield* Effect.all([
        ask("subscribe", { channel: "kept:x" }),
        ask("subscribe", { channel: "asked:x" }),
        ask("subscribe", { channel: "asked:y", ...asked }),
        ask("subscribe", { channel: "hidden:x", ...asked }),
        ask("subscribe", { channel: "placed:x" }),
        ask("subscribe", { channel: "bare:x", ...asked })
      ])
      expect(results.map((reply) => reply["subscribe"])).toEqual([
        recoverable,
        {},
        recoverable,
        {},
        { positioned: true, ...at },
        {}
      ])
    })
  )

  live(
    "recover: everything missed, in order; above the top, another epoch, or too long ago: nothing, and said so",
    () =>
      Effect.gen(function* () {
        const config = { channel, client: { recovery_max_publication_limit: 5 } }
        const server = yield* Server.start({ config })
        yield* publishAll(server, "kept:x", 8)
        const recover = (since: object) =>
          Effect.gen(function* () {
            const { ask } = yield* raw(server)
            return (yield* ask("subscribe", { channel: "kept:x", recover: true, ...since }))["subscribe"]
          })
        const { epoch } = yield* recover({})
        const whole = yield* recover({ epoch, offset: 3 })
        // The place asked from: the client moves on as it applies what it missed.
        expect(whole).toMatchObject({ was_recovering: true, recovered: true, offset: 3, epoch })
        expect(whole.publications).toEqual([4, 5, 6, 7, 8].map((data) => ({ data, offset: data })))
        expect(yield* recover({ epoch, offset: 8 })).toEqual({
          ...whole,
          offset: 8,
          publications: undefined
        })
        const said = { recoverable: true, positioned: true, was_recovering: true, offset: 8, epoch }
        expect(yield* recover({ epoch, offset: 2 })).toEqual(said)
        expect(yield* recover({ epoch, offset: 9 })).toEqual(said)
        expect(yield* recover({ epoch: "another", offset: 8 })).toEqual(said)
        // An empty epoch, or none, is that of any stream.
        expect(yield* recover({ offset: 3 })).toEqual(whole)
        expect(yield* recover({ offset: 3, epoch: null })).toEqual(whole)
        expect(yield* recover({ offset: 8, epoch: "" })).toEqual({ ...whole, offset: 8, publications: undefined })
        expect(yield* recover({ offset: 9, epoch: "" })).toEqual(said)
        expect(yield* recover({ offset: 2 ** 63 })).toEqual(said)
        expect(valuesOf(server.metrics.recoveries)).toEqual({ recovered: 5, unrecovered: 6 })
      })
  )

  live("recover: a replay above client.reply_max_size is not made", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: { channel, client: { reply_max_size: 64 * 1024 } } })
      const [first] = yield* Effect.forEach([1, 2, 3], () => server.publisher.publish("kept:x", "x".repeat(30_000)))
      const epoch = first?.epoch
      const { ask } = yield* raw(server)
      const reply = (yield* ask("subscribe", { channel: "kept:x", recover: true, epoch }))["subscribe"]
      expect(reply).toMatchObject({ was_recovering: true, offset: 3 })
      expect([reply.recovered, reply.publications]).toEqual([undefined, undefined])
      const near = yield* raw(server)
      const since = { recover: true, epoch, offset: 1 }
      const whole = (yield* near.ask("subscribe", { channel: "kept:x", ...since }))["subscribe"]
      expect([whole.recovered, whole.publications.length]).toEqual([true, 2])
    })
  )

  live("flag 2: what cannot be recovered is error 112, and leaves no subscription", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: { channel } })
      const { ask } = yield* raw(server)
      // What is recovered from the beginning of whatever stream there is, is no such position.
      const begun = { channel: "kept:new", recover: true, epoch: "", flag: 3 }
      expect((yield* ask("subscribe", begun))["subscribe"]).toMatchObject({ recovered: true })
      yield* ask("unsubscribe", { channel: "kept:new" })
      const lost = { channel: "kept:x", recover: true, epoch: "another", flag: 3 }
      expect((yield* ask("subscribe", lost))["error"]).toEqual({ code: 112, message: "unrecoverable position" })
      expect(server.metrics.subscriptions.value).toBe(0)
      expect((yield* ask("subscribe", { ...lost, flag: 1 }))["subscribe"]).toMatchObject({ was_recovering: true })
    })
  )

  for (const name of ["memory", "redis"] as const) {
    live(
      `a race, over ${name}: 200 clients recover while 4 publishers write 2,000 messages; every log is whole`,
      () =>
        Effect.gen(function* () {
          const redis = name === "redis" ? { redis_url: (yield* Redis.start()).url } : {}
          const servers = yield* Effect.all(
            Array.from({ length: name === "redis" ? 2 : 1 }, () =>
              Server.start({ config: { ...redis, channel, client: WIDE } })
            )
          )
          const at = (index: number): Server.Running => servers[index % servers.length] as Server.Running
          const first = yield* at(0).publisher.publish("kept:race", "first")
          const readers = Array.from({ length: 200 }, () => new Reader("kept:race"))
          for (const reader of readers) reader.position = first
          // Both keep pace with each other, so that every client joins in the middle of it: the
          // publishers are at most 400 messages ahead of what the last one that has joined needed.
          let published = 1
          let joined = 0
          const pace = new Watched()
          const publisher = (index: number) =>
            Effect.forEach(
              Array.from({ length: 500 }, (_, number) => `${index}:${number}`),
              (data) =>
                pace
                  .until(() => joined === readers.length || published < 400 + 8 * joined, "a client has joined")
                  .pipe(
                    Effect.zipRight(at(index).publisher.publish("kept:race", data)),
                    Effect.tap(() =>
                      Effect.sync(() => {
                        published++
                        pace.changed()
                      })
                    )
                  ),
              { discard: true }
            )
          const join = (reader: Reader, index: number) =>
            pace
              .until(() => published > index * 8, "its turn")
              .pipe(
                Effect.zipRight(reader.connect(at(index).ws)),
                Effect.tap(() =>
                  Effect.sync(() => {
                    joined++
                    pace.changed()
                  })
                )
              )
          const [replies] = yield* Effect.all(
            [
              Effect.forEach(readers, join, { concurrency: "unbounded" }),
              Effect.forEach([0, 1, 2, 3], publisher, { concurrency: "unbounded", discard: true })
            ],
            { concurrency: "unbounded" }
          )
          expect(replies.every(({ recovered }) => recovered === true)).toBe(true)
          for (const reader of readers) {
            yield* reader.until(() => reader.position?.offset === 2001, "the last one")
            expect([reader.violations, reader.ended]).toEqual([[], []])
            expect(reader.log.length).toBe(2000)
          }
          const [log] = readers.map((reader) => reader.log)
          expect(readers.every((reader) => reader.log.join() === log?.join())).toBe(true)
          expect(new Set(log).size).toBe(2000)
          // Some came early and some late, or it was no race.
          const replayed = replies.map(({ publications = [] }) => publications.length)
          expect(replayed.some((count) => count === 0 || count < 1000)).toBe(true)
          expect(replayed.some((count) => count > 1000)).toBe(true)
          yield* Effect.forEach(readers, (reader) => reader.disconnect)
        }),
      90_000
    )
  }
})

describe("server-side subscriptions", () => {
  const start = (config: object = {}) =>
    Server.start({
      config: { channel, ...config },
      hooks: {
        onConnect: () => Effect.succeed({ user: "42", channels: ["kept:a", "bare:b"] })
      }
    })

  live("are in the reply to connect, and recover with it", () =>
    Effect.gen(function* () {
      const server = yield* start()
      yield* publishAll(server, "kept:a", 2)
      const sockets: Array<WebSocket> = []
      class Known extends WebSocket {
        constructor(url: string) {
          super(url)
          sockets.push(this)
        }
      }
      const client = new Centrifuge(`${server.ws}/connection/websocket`, { websocket: Known, minReconnectDelay: 1 })
      yield* Effect.addFinalizer(() => Effect.sync(() => client.disconnect()))
      const watched = new Watched()
      const events: Array<string> = []
      const note = (text: string): void => {
        events.push(text)
        watched.changed()
      }
      client.on("subscribed", ({ channel, recovered, streamPosition }) =>
        note(`subscribed ${channel} ${recovered} ${streamPosition?.offset}`)
      )
      client.on("publication", ({ channel, data }) => note(`${channel} ${JSON.stringify(data)}`))
      client.connect()
      yield* watched.until(() => events.length === 2, "both")
      yield* server.publisher.publish("kept:a", "live")
      yield* server.publisher.publish("bare:b", "live")
      yield* watched.until(() => events.length === 4, "both publications")
      // The transport is cut; what is published before the client is back is replayed.
      client.on("connecting", () => Effect.runFork(server.publisher.publish("kept:a", "missed")))
      sockets[0]?.terminate()
      yield* watched.until(
        () => events.includes('kept:a "missed"'),
        () => events.join()
      )
      expect(events.toSorted()).toEqual(
        [
          "subscribed kept:a false 2",
          "subscribed bare:b false undefined",
          'kept:a "live"',
          'bare:b "live"',
          "subscribed kept:a true 3",
          "subscribed bare:b false undefined",
          'kept:a "missed"'
        ].toSorted()
      )
    })
  )

  live("recover from the beginning, and from any offset, with an empty epoch in subs of connect", () =>
    Effect.gen(function* () {
      const server = yield* start()
      yield* publishAll(server, "kept:a", 3)
      const recover = (since: object) =>
        Effect.map(
          raw(server, { subs: { "kept:a": { recover: true, ...since } } }),
          ({ connected }) => connected["subs"]["kept:a"]
        )
      const { epoch, ...all } = yield* recover({})
      expect(all).toMatchObject({ recovered: true, publications: [{ data: 1 }, { data: 2 }, { data: 3 }] })
      expect(all.offset).toBe(undefined)
      expect(yield* recover({ offset: 2, epoch: "" })).toMatchObject({
        recovered: true,
        epoch,
        offset: 2,
        publications: [{ data: 3, offset: 3 }]
      })
      const unrecovered = yield* recover({ offset: 4, epoch: null })
      expect([unrecovered.recovered, unrecovered.offset]).toEqual([undefined, 3])
    })
  )

  live("a drop ends the connection with 3010: the client comes back and recovers", () =>
    Effect.gen(function* () {
      const server = yield* start()
      const socket = yield* Socket.open(`${server.ws}/connection/websocket`)
      socket.send('{"id":1,"connect":{}}')
      yield* socket.gets('"subs":{"kept:a":{"recoverable":true')
      socket.pause()
      while (server.metrics.insufficient.overflow.value === 0) {
        yield* server.publisher.publish("kept:a", "x".repeat(8192))
        yield* Effect.yieldNow()
      }
      socket.resume()
      expect(yield* socket.closed).toEqual({ code: 3010, reason: "insufficient state" })
    })
  )

  live("a channel named twice is one subscription, and nothing is left of it", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({
        config: { channel },
        hooks: { onConnect: () => Effect.succeed({ user: "42", channels: ["kept:a", "kept:a"] }) }
      })
      const socket = yield* Socket.open(`${server.ws}/connection/websocket`)
      socket.send('{"id":1,"connect":{}}')
      yield* socket.gets('"subs":{"kept:a":')
      expect(server.metrics.subscriptions.value).toBe(1)
      yield* server.publisher.publish("kept:a", "once")
      yield* server.publisher.publish("kept:a", "last")
      yield* socket.gets('"last"')
      expect(socket.received.filter((frame) => frame.includes('"once"')).length).toBe(1)
      socket.ws.close()
      yield* eventually(
        Effect.sync(() => [server.metrics.subscriptions.value, server.metrics.channels.value]),
        ([subscriptions, channels]) => subscriptions === 0 && channels === 0,
        "nothing is left"
      )
    })
  )

  live("more than client.channel_limit: 3505; a channel that is none is refused", () =>
    Effect.gen(function* () {
      const closes = (channels: ReadonlyArray<string>) =>
        Effect.gen(function* () {
          const server = yield* Server.start({
            config: { channel, client: { channel_limit: 2 } },
            hooks: { onConnect: () => Effect.succeed({ user: "42", channels }) }
          })
          const socket = yield* Socket.open(`${server.ws}/connection/websocket`)
          socket.send('{"id":1,"connect":{}}')
          return (yield* socket.closed).code
        })
      expect(yield* closes(["kept:a", "kept:b", "kept:c"])).toBe(3505)
      expect(yield* closes([""])).toBe(3000)
    })
  )
})

describe("Hooks.onHistory", () => {
  live("decides about history and about recovery that a client asks for", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({
        config: { channel },
        hooks: { onHistory: () => Effect.fail(new Hooks.Rejected({ code: 403, message: "no" })) }
      })
      const { ask } = yield* raw(server)
      expect((yield* ask("subscribe", { channel: "asked:x", recoverable: true }))["subscribe"]).toEqual({})
      expect((yield* ask("history", { channel: "asked:x" }))["error"]).toEqual({ code: 403, message: "no" })
      expect((yield* ask("subscribe", { channel: "kept:x" }))["subscribe"]).toMatchObject({ recoverable: true })
      expect((yield* Socket.refusal(`${server.ws}/channels/kept:x?history=1`)).status).toBe(403)
    })
  )
})
