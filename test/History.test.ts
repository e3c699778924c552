import { describe, expect } from "@effect/vitest"
import { Centrifuge } from "centrifuge"
import * as Effect from "effect/Effect"
import { WebSocket } from "ws"
import * as Hooks from "../src/Hooks.ts"
import { live } from "./support/it.ts"
import { Reader } from "./support/reader.ts"
import * as Redis from "./support/redis.ts"
import * as Sdk from "./support/sdk.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"
import { Watched } from "./support/wait.ts"

const OPEN = {
  allow_subscribe_for_client: true,
  allow_subscribe_for_anonymous: true,
  allow_publish_for_client: true,
  allow_publish_for_anonymous: true
}
const KEPT = { ...OPEN, history_size: 20_000, history_ttl: "10m" }
const READABLE = { allow_history_for_subscriber: true, allow_history_for_anonymous: true }

const channel = {
  namespaces: [
    { name: "kept", ...KEPT, ...READABLE, force_recovery: true },
    { name: "asked", ...KEPT, ...READABLE },
    { name: "hidden", ...KEPT },
    { name: "placed", ...KEPT, force_positioning: true },
    { name: "bare", ...OPEN }
  ]
}

const WIDE = { recovery_max_publication_limit: 20_000, reply_max_size: 2 ** 26 }

/** A connection of the client protocol, by hand. */
const raw = (server: Server.Running) =>
  Effect.gen(function* () {
    const socket = yield* Socket.open(`${server.ws}/connection/websocket`)
    socket.send('{"id":1,"connect":{}}')
    yield* socket.gets('"connect"')
    let id = 1
    /** Sends a command; returns its reply. */
    return {
      socket,
      ask: (method: string, params: object) =>
        Effect.gen(function* () {
          const own = ++id
          socket.send(JSON.stringify({ id: own, [method]: params }))
          const isReply = (frame: string): boolean => frame.startsWith(`{"id":${own},`)
          yield* socket.gets(`{"id":${own},`)
          const reply = socket.received.flatMap((frame) => frame.split("\n")).find(isReply) ?? "{}"
          return JSON.parse(reply) as Record<string, any>
        })
    }
  })

const publishAll = (server: Server.Running, name: string, count: number) =>
  Effect.forEach(
    Array.from({ length: count }, (_, index) => index + 1),
    (data) => server.publisher.publish(name, data),
    { discard: true }
  )

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
        expect(whole).toMatchObject({ was_recovering: true, recovered: true, offset: 8, epoch })
        expect(whole.publications).toEqual([4, 5, 6, 7, 8].map((data) => ({ data, offset: data })))
        expect(yield* recover({ epoch, offset: 8 })).toEqual({
          ...whole,
          publications: undefined
        })
        const said = { recoverable: true, positioned: true, was_recovering: true, offset: 8, epoch }
        expect(yield* recover({ epoch, offset: 2 })).toEqual(said)
        expect(yield* recover({ epoch, offset: 9 })).toEqual(said)
        expect(yield* recover({ epoch: "another", offset: 8 })).toEqual(said)
        expect(yield* recover({ offset: 8 })).toEqual(said)
        expect(server.metrics.recoveries).toEqual({ recovered: 2, unrecovered: 5 })
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
      const lost = { channel: "kept:x", recover: true, epoch: "another", flag: 3 }
      expect((yield* ask("subscribe", lost))["error"]).toEqual({ code: 112, message: "unrecoverable position" })
      expect(server.metrics.subscriptions).toBe(0)
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

describe("a mailbox that overflows", () => {
  const DATA = "x".repeat(8 * 1024)

  /** Publishes until a subscription has been ended by it; returns how many were published. */
  const overflow = (server: Server.Running, name: string) =>
    Effect.gen(function* () {
      let count = 0
      while (server.metrics.insufficient.overflow === 0) {
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
        expect(server.metrics.subscriptions).toBe(0)
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

  live("in a channel without history it costs publications, which are counted, and nothing else", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: { channel } })
      const { socket, ask } = yield* raw(server)
      yield* ask("subscribe", { channel: "bare:x" })
      socket.pause()
      while (server.metrics.dropped.mailbox_full === 0) {
        yield* server.publisher.publish("bare:x", DATA)
        yield* Effect.yieldNow()
      }
      socket.resume()
      yield* server.publisher.publish("bare:y", 0)
      expect((yield* ask("ping", {}))["ping"]).toEqual({})
      expect(socket.received.some((frame) => frame.includes("unsubscribe"))).toBe(false)
      expect(server.metrics.insufficient.overflow).toBe(0)
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

describe("the command history", () => {
  live("limit, since and reverse; the position alone; every byte of data as it was", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: { channel } })
      const { ask, socket } = yield* raw(server)
      yield* ask("subscribe", { channel: "kept:x" })
      yield* publishAll(server, "kept:x", 4)
      yield* server.publisher.publishRaw("kept:x", { data: '{"n": 1e400}', json: true }, { tags: { kind: "raw" } })
      const read = (params: object) => Effect.map(ask("history", { channel: "kept:x", ...params }), (r) => r["history"])
      const position = yield* read({})
      expect(position).toEqual({ epoch: expect.any(String) as string, offset: 5 })
      const offsets = (params: object) =>
        Effect.map(read(params), (page) => (page.publications ?? []).map(({ offset }: { offset: number }) => offset))
      const { epoch } = position
      expect(yield* offsets({ limit: -1 })).toEqual([1, 2, 3, 4, 5])
      expect(yield* offsets({ limit: 2 })).toEqual([1, 2])
      expect(yield* offsets({ limit: 2, reverse: true })).toEqual([5, 4])
      expect(yield* offsets({ limit: 2, since: { epoch, offset: 2 } })).toEqual([3, 4])
      expect(yield* offsets({ limit: 9, since: { offset: 3 } })).toEqual([4, 5])
      expect(yield* offsets({ limit: 2, reverse: true, since: { epoch, offset: 3 } })).toEqual([2, 1])
      expect(yield* offsets({ limit: 9, since: { epoch, offset: 5 } })).toEqual([])
      expect(
        yield* ask("history", { channel: "kept:x", limit: 1, since: { epoch: "another", offset: 1 } })
      ).toMatchObject({
        error: { code: 112 }
      })
      yield* ask("history", { channel: "kept:x", limit: 1, reverse: true })
      expect(socket.received.at(-1)).toContain('{"data":{"n": 1e400},"offset":5,"tags":{"kind":"raw"}}')
    })
  )

  live("a page has at most client.history_max_publication_limit publications and client.reply_max_size bytes", () =>
    Effect.gen(function* () {
      const config = { channel, client: { history_max_publication_limit: 3, reply_max_size: 64 * 1024 } }
      const server = yield* Server.start({ config })
      const { ask } = yield* raw(server)
      yield* ask("subscribe", { channel: "kept:x" })
      yield* publishAll(server, "kept:x", 5)
      const count = (limit: number) =>
        Effect.map(ask("history", { channel: "kept:x", limit }), (reply) => reply["history"].publications.length)
      expect([yield* count(3), yield* count(4), yield* count(-1)]).toEqual([3, 3, 3])
      yield* Effect.forEach([1, 2, 3], () => server.publisher.publish("kept:big", "x".repeat(30_000)))
      yield* ask("subscribe", { channel: "kept:big" })
      expect((yield* ask("history", { channel: "kept:big", limit: 3 }))["history"].publications.length).toBe(2)
    })
  )

  live("is refused without permission, in a channel without history, and in an unknown namespace", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({
        config: { channel: { namespaces: [...channel.namespaces, { name: "plain", ...OPEN, ...READABLE }] } }
      })
      const { ask } = yield* raw(server)
      const code = (name: string) => Effect.map(ask("history", { channel: name }), (reply) => reply["error"]?.code)
      expect(yield* code("hidden:x")).toBe(103)
      expect(yield* code("kept:x")).toBe(103)
      yield* ask("subscribe", { channel: "kept:x" })
      expect(yield* code("kept:x")).toBe(undefined)
      yield* ask("subscribe", { channel: "plain:x" })
      expect(yield* code("plain:x")).toBe(108)
      expect(yield* code("nowhere:x")).toBe(102)
    })
  )

  live("the stock client pages through a stream from its beginning", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: { channel } })
      const client = yield* Sdk.connect(server.ws)
      yield* publishAll(server, "kept:x", 7)
      const subscription = yield* Sdk.subscribe(client, "kept:x")
      const pages: Array<ReadonlyArray<unknown>> = []
      let since = { offset: 0, epoch: "" }
      for (;;) {
        const page = yield* Effect.promise(() => subscription.history({ limit: 3, since }))
        if (page.publications.length === 0) break
        pages.push(page.publications.map(({ data }) => data))
        since = { epoch: page.epoch, offset: page.publications.at(-1)?.offset ?? 0 }
      }
      expect(pages).toEqual([[1, 2, 3], [4, 5, 6], [7]])
    })
  )
})

describe("the plain socket", () => {
  live("?history=N: first the last N publications, then what comes", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: { channel } })
      yield* publishAll(server, "kept:x", 5)
      const open = (query: string) => Socket.open(`${server.ws}/channels/kept:x${query}`)
      const three = yield* open("?history=3")
      const many = yield* open("?history=300")
      const none = yield* open("?history=0")
      yield* server.publisher.publish("kept:x", 6)
      yield* three.count(4)
      yield* many.count(6)
      yield* none.count(1)
      expect(three.received).toEqual(["3", "4", "5", "6"])
      expect(many.received).toEqual(["1", "2", "3", "4", "5", "6"])
      expect(none.received).toEqual(["6"])
    })
  )

  live("?history=N while publications keep coming: no hole, no duplicate", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: { redis_url: (yield* Redis.start()).url, channel } })
      yield* publishAll(server, "kept:x", 50)
      const [sockets] = yield* Effect.all(
        [
          Effect.forEach(Array.from({ length: 20 }), () => Socket.open(`${server.ws}/channels/kept:x?history=10`), {
            concurrency: 4
          }),
          publishAll(server, "kept:x", 300)
        ],
        { concurrency: "unbounded" }
      )
      yield* server.publisher.publish("kept:x", "end")
      for (const socket of sockets) {
        yield* socket.gets("end")
        const numbers = socket.received.slice(0, -1).map(Number)
        const all = [...Array.from({ length: 50 }, (_, i) => i + 1), ...Array.from({ length: 300 }, (_, i) => i + 1)]
        expect(numbers.length).toBeGreaterThanOrEqual(10)
        expect(numbers).toEqual(all.slice(-numbers.length))
      }
    })
  )

  live("?history is refused where it is not a number, too large, not permitted, or there is none", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: { channel } })
      const status = (path: string) =>
        Effect.map(Socket.refusal(`${server.ws}/channels/${path}`), ({ status, body }) => [status, body.trim()])
      expect(yield* status("kept:x?history=many")).toEqual([400, "?history: expected a number from 0 to 300"])
      expect(yield* status("kept:x?history=-1")).toEqual([400, "?history: expected a number from 0 to 300"])
      expect(yield* status("kept:x?history=301")).toEqual([400, "?history: expected a number from 0 to 300"])
      expect(yield* status("bare:x?history=1")).toEqual([400, "?history: the channel has none"])
      expect((yield* status("hidden:x?history=1"))[0]).toBe(403)
    })
  )
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
          "subscribed kept:a true 4",
          "subscribed bare:b false undefined",
          'kept:a "missed"'
        ].toSorted()
      )
    })
  )

  live("a drop ends the connection with 3010: the client comes back and recovers", () =>
    Effect.gen(function* () {
      const server = yield* start()
      const socket = yield* Socket.open(`${server.ws}/connection/websocket`)
      socket.send('{"id":1,"connect":{}}')
      yield* socket.gets('"subs":{"kept:a":{"recoverable":true')
      socket.pause()
      while (server.metrics.insufficient.overflow === 0) {
        yield* server.publisher.publish("kept:a", "x".repeat(8192))
        yield* Effect.yieldNow()
      }
      socket.resume()
      expect(yield* socket.closed).toEqual({ code: 3010, reason: "insufficient state" })
    })
  )

  live("more than client.channel_limit: 3505; a channel that is none: 3004", () =>
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
      expect(yield* closes([""])).toBe(3004)
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

describe("Publisher", () => {
  live("skipHistory: heard, without an offset, and in no history; nobody takes it for a hole", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: { channel } })
      const { socket, ask } = yield* raw(server)
      yield* ask("subscribe", { channel: "kept:x" })
      yield* server.publisher.publish("kept:x", 1)
      expect(yield* server.publisher.publish("kept:x", "now", { skipHistory: true })).toBe(undefined)
      expect((yield* server.publisher.publish("kept:x", 2))?.offset).toBe(2)
      yield* socket.gets('"data":2')
      expect(socket.received.slice(-3)).toEqual(
        ['"data":1,"offset":1', '"data":"now"', '"data":2,"offset":2'].map(
          (pub) => `{"push":{"channel":"kept:x","pub":{${pub}}}}`
        )
      )
      const { publications } = (yield* ask("history", { channel: "kept:x", limit: -1 }))["history"]
      expect(publications).toEqual([
        { data: 1, offset: 1 },
        { data: 2, offset: 2 }
      ])
      expect(server.metrics.holes).toBe(0)
    })
  )

  for (const name of ["memory", "redis"] as const) {
    live(
      `idempotencyKey, over ${name}: the same key in the same channel publishes once, with and without history`,
      () =>
        Effect.gen(function* () {
          const redis = name === "redis" ? { redis_url: (yield* Redis.start()).url } : {}
          const server = yield* Server.start({ config: { ...redis, channel } })
          const kept = yield* Socket.open(`${server.ws}/channels/kept:x`)
          const bare = yield* Socket.open(`${server.ws}/channels/bare:x`)
          const publish = (name: string, data: string, idempotencyKey: string) =>
            server.publisher.publish(name, data, { idempotencyKey })
          const first = yield* publish("kept:x", "one", "a")
          expect(first?.offset).toBe(1)
          expect(yield* publish("kept:x", "again", "a")).toEqual(first)
          expect((yield* publish("kept:x", "two", "b"))?.offset).toBe(2)
          expect((yield* publish("kept:y", "elsewhere", "a"))?.offset).toBe(1)
          expect(yield* publish("bare:x", "one", "a")).toBe(undefined)
          expect(yield* publish("bare:x", "again", "a")).toBe(undefined)
          yield* publish("bare:x", "two", "b")
          yield* kept.count(2)
          yield* bare.count(2)
          expect([kept.received, bare.received]).toEqual([
            ['"one"', '"two"'],
            ['"one"', '"two"']
          ])
          expect(yield* Effect.flip(publish("kept:x", "x", ""))).toMatchObject({ reason: "IdempotencyKey" })
          expect(yield* Effect.flip(publish("kept:x", "x", "k".repeat(256)))).toMatchObject({
            reason: "IdempotencyKey"
          })
          const tags = { t: "x".repeat(4096) }
          expect(yield* Effect.flip(server.publisher.publish("kept:x", "x", { tags }))).toMatchObject({
            reason: "Tags"
          })
        })
    )
  }
})
