import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { OPEN, raw } from "./support/history.ts"
import { live } from "./support/it.ts"
import * as Redis from "./support/redis.ts"
import * as Server from "./support/server.ts"
import { inSeconds } from "./support/tokens.ts"
import { eventually } from "./support/wait.ts"

const ROOM = {
  name: "room",
  ...OPEN,
  presence: true,
  join_leave: true,
  allow_presence_for_subscriber: true,
  allow_presence_for_anonymous: true
}

const channel = { namespaces: [ROOM] }

const bug = (): never => {
  throw new Error("a fault of its own")
}

describe("a session", () => {
  live(
    "a subscription that expires while another is asked for: the other is present, and each join has its leave",
    () =>
      Effect.gen(function* () {
        const release = yield* Effect.makeLatch(false)
        const server = yield* Server.start({
          config: { channel, client: { expired_close_delay: "100ms" } },
          hooks: {
            onSubscribe: ({ data }) => Effect.succeed(data === '"brief"' ? { expiresAt: inSeconds(1) } : {}),
            onPublish: () => release.await
          }
        })
        const observer = yield* raw(server)
        yield* observer.ask("subscribe", { channel: "room:a", join_leave: true })
        const { ask, connected, socket } = yield* raw(server)
        yield* ask("subscribe", { channel: "room:a", data: "brief" })
        // They wait in the channel's lane while the subscription expires.
        socket.send(
          [
            { id: 50, publish: { channel: "room:a", data: 1 } },
            { id: 51, unsubscribe: { channel: "room:a" } },
            { id: 52, subscribe: { channel: "room:a" } }
          ]
            .map((command) => JSON.stringify(command))
            .join("\n")
        )
        yield* socket.gets('"code":2501')
        yield* release.open
        yield* socket.gets('{"id":52,"subscribe"')
        // Answered behind whatever still waited in the lane.
        yield* ask("unsubscribe", { channel: "room:b" })
        const { presence } = (yield* ask("presence", { channel: "room:a" }))["presence"]
        expect(Object.keys(presence)).toContain(connected["client"])
        yield* server.publisher.publish("room:a", "end")
        yield* observer.socket.gets('"end"')
        const news = observer.socket.received
          .flatMap((frame) => frame.split("\n"))
          .filter((line) => line.includes(connected["client"]))
          .flatMap((line) => /"(join|leave)"/.exec(line)?.[1] ?? [])
        expect(news).toEqual(["join", "leave", "join"])
      })
  )

  live("whatever onDisconnect does, the connection ends and is in no channel", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: { channel }, hooks: { onDisconnect: bug } })
      const { ask, connected, socket } = yield* raw(server)
      yield* ask("subscribe", { channel: "room:a" })
      const disconnect = { type: "disconnect", user: "", whitelist: [], code: 3503, reason: "x" } as const
      yield* server.cluster.perform({ ...disconnect, client: connected["client"] })
      expect((yield* socket.closed).code).toBe(3503)
      expect(yield* server.presence.stats("room:a")).toEqual({ clients: 0, users: 0 })
      expect(server.metrics.subscriptions.value).toBe(0)
    })
  )

  live("an onSubscribe that throws costs its command, and no place for a subscription", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({
        config: { channel, client: { channel_limit: 2 } },
        hooks: { onSubscribe: ({ data }) => (data === '"bad"' ? bug() : Effect.void) }
      })
      const { ask } = yield* raw(server)
      for (let index = 0; index < 5; index++) {
        expect((yield* ask("subscribe", { channel: "room:a", data: "bad" }))["error"].code).toBe(100)
      }
      expect((yield* ask("subscribe", { channel: "room:a" }))["error"]).toBe(undefined)
    })
  )

  live("subscriptions that the server makes at the same time are no more than client.channel_limit", () =>
    Effect.gen(function* () {
      const { url } = yield* Redis.start()
      const server = yield* Server.start({ config: { channel, client: { channel_limit: 3 }, redis_url: url } })
      const { connected } = yield* raw(server)
      const outcomes = yield* Effect.forEach(
        Array.from({ length: 20 }, (_, index) => `room:${index}`),
        (name) => server.cluster.perform({ type: "subscribe", user: "", client: connected["client"], channel: name }),
        { concurrency: "unbounded" }
      )
      expect(outcomes.filter(({ isPartial }) => !isPartial).length).toBe(3)
      expect(server.metrics.subscriptions.value).toBe(3)
    })
  )

  live("messages to a client that does not read are dropped and counted once its mailbox is full", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({
        config: { channel },
        hooks: { onConnect: () => Effect.succeed({ user: "ada" }) }
      })
      const { socket } = yield* raw(server)
      socket.pause()
      for (let index = 0; index < 400; index++) yield* server.publisher.message("ada", "x".repeat(60_000))
      expect(server.metrics.dropped.mailbox_full.value).toBeGreaterThan(100)
      socket.resume()
    })
  )

  live("a peer that is gone makes room for its user at once, whatever it has left to do", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({
        config: { channel, client: { user_connection_limit: 1 } },
        hooks: { onConnect: () => Effect.succeed({ user: "ada" }), onPublish: () => Effect.never }
      })
      const first = yield* raw(server)
      first.socket.send('{"id":9,"publish":{"channel":"room:a","data":1}}')
      first.socket.ws.terminate()
      // Its publish is still under way when the next connection comes.
      yield* eventually(
        Effect.either(raw(server)),
        ({ _tag }) => _tag === "Right",
        "the next one is let in",
        "3 seconds"
      )
      expect(server.connections.count()).toBe(2)
    })
  )

  live("hooks of one's own are not even called where the configuration refuses", () =>
    Effect.gen(function* () {
      const called: Array<string> = []
      const note = (what: string) => () => {
        called.push(what)
        return Effect.void
      }
      const server = yield* Server.start({
        config: { channel: { namespaces: [{ name: "closed" }] } },
        hooks: {
          onSubscribe: note("subscribe"),
          onPublish: note("publish"),
          onHistory: note("history"),
          onPresence: note("presence")
        }
      })
      const { ask } = yield* raw(server)
      for (const method of ["subscribe", "publish", "history", "presence"]) {
        expect((yield* ask(method, { channel: "closed:a", data: 1 }))["error"].code).toBe(103)
      }
      expect(called).toEqual([])
    })
  )

  live("errors of too many commands do not overtake the answers before them on a channel", () =>
    Effect.gen(function* () {
      const release = yield* Effect.makeLatch(false)
      const server = yield* Server.start({
        config: { channel, client: { command_rate: 4 } },
        hooks: { onPublish: () => release.await }
      })
      const { socket } = yield* raw(server)
      const publish = (id: number): string => JSON.stringify({ id, publish: { channel: "room:a", data: id } })
      // Two more than the rate, and one beside the channel, which waits for none of them.
      socket.send([...[2, 3, 4, 5, 6].map(publish), '{"id":7,"ping":{}}'].join("\n"))
      yield* socket.gets('{"id":7,"error":{"code":111')
      yield* release.open
      yield* socket.gets('{"id":6,"error":{"code":111')
      const ids = socket.received
        .flatMap((frame) => frame.split("\n"))
        .flatMap((line) => /^\{"id":(\d+)/.exec(line)?.[1] ?? [])
      expect(ids).toEqual(["1", "7", "2", "3", "4", "5", "6"])
    })
  )
})
