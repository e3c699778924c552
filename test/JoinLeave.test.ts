import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { OPEN, raw, READABLE } from "./support/history.ts"
import { live } from "./support/it.ts"
import * as Redis from "./support/redis.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"
import { KEY, token } from "./support/tokens.ts"
import { eventually } from "./support/wait.ts"
import type { Json } from "./support/json.ts"

const SEEN = { allow_presence_for_subscriber: true, allow_presence_for_anonymous: true }

const config = {
  channel: {
    namespaces: [
      { name: "room", ...OPEN, ...SEEN, presence: true, join_leave: true },
      { name: "loud", ...OPEN, join_leave: true, force_push_join_leave: true },
      { name: "shy", ...OPEN, presence: true, join_leave: true },
      {
        name: "kept",
        ...OPEN,
        ...SEEN,
        ...READABLE,
        join_leave: true,
        history_size: 10,
        history_ttl: "1m",
        force_recovery: true
      }
    ]
  },
  client: { token: { hmac_secret_key: KEY }, allow_anonymous_connect_without_token: true }
}

/** Two servers of one cluster; over memory both are the same one. */
const clusters: ReadonlyArray<
  readonly [string, Effect.Effect<readonly [Server.Running, Server.Running], unknown, Scope.Scope>]
> = [
  ["memory", Effect.map(Server.start({ config }), (server) => [server, server] as const)],
  [
    "redis (two instances)",
    Effect.gen(function* () {
      const { url } = yield* Redis.start()
      const one = Server.start({ config: { ...config, redis_url: url } })
      return [yield* one, yield* one] as const
    })
  ]
]

/** The joins and leaves that a socket has heard in a channel, in their order. */
const news = (socket: Socket.Socket, channel: string): ReadonlyArray<readonly [string, Json]> =>
  socket.received
    .flatMap((frame) => frame.split("\n"))
    .map((line) => JSON.parse(line).push)
    .filter((push) => push?.channel === channel)
    .flatMap(({ join, leave }) => (join ? [["join", join.info]] : leave ? [["leave", leave.info]] : []))

const heard = (socket: Socket.Socket, channel: string, count: number) =>
  eventually(
    Effect.sync(() => news(socket, channel)),
    (all) => all.length >= count,
    `${count} joins and leaves`
  )

for (const [name, cluster] of clusters) {
  describe(`joins and leaves over ${name}`, () => {
    live("are pushed to subscribers that ask and may read presence, with what is shown of the client", () =>
      Effect.gen(function* () {
        const [a, b] = yield* cluster
        const observer = yield* raw(a)
        const deaf = yield* raw(a)
        yield* observer.ask("subscribe", { channel: "room:1", join_leave: true })
        yield* deaf.ask("subscribe", { channel: "room:1" })
        const plain = yield* Socket.open(`${a.ws}/channels/room:1`)
        const ada = yield* raw(b, { token: token({ sub: "ada", info: { n: 1 } }) })
        yield* ada.ask("subscribe", {
          channel: "room:1",
          token: token({ sub: "ada", channel: "room:1", info: { m: 2 } })
        })
        yield* ada.ask("unsubscribe", { channel: "room:1" })
        yield* ada.ask("subscribe", { channel: "room:1" })
        ada.socket.ws.terminate()
        const all = yield* heard(observer.socket, "room:1", 7)
        const one = { user: "ada", client: ada.connected["client"], conn_info: { n: 1 } }
        expect(all.slice(-4)).toEqual([
          ["join", { ...one, chan_info: { m: 2 } }],
          ["leave", { ...one, chan_info: { m: 2 } }],
          ["join", one],
          ["leave", one]
        ])
        // Itself, the deaf one and the plain socket have joined as well.
        expect(all.slice(0, 3).map(([kind]) => kind)).toEqual(["join", "join", "join"])
        yield* a.publisher.publish("room:1", "end")
        yield* deaf.socket.gets('"end"')
        yield* plain.gets('"end"')
        expect(news(deaf.socket, "room:1")).toEqual([])
        expect(plain.received).toEqual(['"end"'])
      })
    )

    live("force_push_join_leave: to every subscriber of the client protocol", () =>
      Effect.gen(function* () {
        const [a, b] = yield* cluster
        const observer = yield* raw(a)
        yield* observer.ask("subscribe", { channel: "loud:1" })
        const other = yield* raw(b)
        yield* other.ask("subscribe", { channel: "loud:1" })
        yield* other.ask("unsubscribe", { channel: "loud:1" })
        const all = yield* heard(observer.socket, "loud:1", 3)
        expect(all.map(([kind]) => kind)).toEqual(["join", "join", "leave"])
        // Nobody is kept where presence is off.
        expect((yield* observer.ask("presence", { channel: "loud:1" }))["error"].code).toBe(103)
      })
    )

    live("are not for those who may not read presence", () =>
      Effect.gen(function* () {
        const [a, b] = yield* cluster
        const observer = yield* raw(a)
        yield* observer.ask("subscribe", { channel: "shy:1", join_leave: true })
        yield* (yield* raw(b)).ask("subscribe", { channel: "shy:1" })
        yield* b.publisher.publish("shy:1", "end")
        yield* observer.socket.gets('"end"')
        expect(news(observer.socket, "shy:1")).toEqual([])
      })
    )

    live("in a channel with history have no offset, and leave no hole", () =>
      Effect.gen(function* () {
        const [a, b] = yield* cluster
        const observer = yield* raw(a)
        yield* observer.ask("subscribe", { channel: "kept:1", join_leave: true })
        const other = yield* raw(b)
        for (let index = 0; index < 3; index++) {
          yield* other.ask("subscribe", { channel: "kept:1" })
          yield* other.ask("publish", { channel: "kept:1", data: index })
          yield* other.ask("unsubscribe", { channel: "kept:1" })
        }
        yield* heard(observer.socket, "kept:1", 7)
        yield* observer.socket.gets('"offset":3')
        expect([a.metrics.holes.value, b.metrics.holes.value]).toEqual([0, 0])
        const { history } = yield* observer.ask("history", { channel: "kept:1", limit: -1 })
        expect(history.publications.map(({ data }: { readonly data: unknown }) => data)).toEqual([0, 1, 2])
      })
    )

    live("presence and its counts are right on every instance as clients come and go", () =>
      Effect.gen(function* () {
        const [a, b] = yield* cluster
        const stats = (one: { readonly ask: typeof observer.ask }) =>
          Effect.map(one.ask("presence_stats", { channel: "room:2" }), (reply) => reply["presence_stats"])
        const observer = yield* raw(a)
        const reader = yield* raw(b)
        yield* observer.ask("subscribe", { channel: "room:2" })
        yield* reader.ask("subscribe", { channel: "room:2" })
        const ada = { token: token({ sub: "ada" }) }
        const first = yield* raw(a, ada)
        const second = yield* raw(b, ada)
        yield* first.ask("subscribe", { channel: "room:2" })
        yield* second.ask("subscribe", { channel: "room:2" })
        for (const one of [observer, reader]) expect(yield* stats(one)).toEqual({ num_clients: 4, num_users: 2 })
        const { presence } = (yield* reader.ask("presence", { channel: "room:2" }))["presence"]
        expect(new Set(Object.keys(presence))).toEqual(
          new Set([observer, reader, first, second].map(({ connected }) => connected["client"]))
        )
        first.socket.ws.terminate()
        yield* eventually(stats(reader), ({ num_clients }) => num_clients === 3, "one has left")
        expect(yield* stats(observer)).toEqual({ num_clients: 3, num_users: 2 })
        yield* second.ask("unsubscribe", { channel: "room:2" })
        for (const one of [observer, reader]) expect(yield* stats(one)).toEqual({ num_clients: 2, num_users: 1 })
      })
    )
  })
}
