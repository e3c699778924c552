import type { Centrifuge, Options, Subscription } from "centrifuge"
import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Hooks from "../src/Hooks.ts"
import { clusters } from "./support/clusters.ts"
import { OPEN, READABLE } from "./support/history.ts"
import { live } from "./support/it.ts"
import * as Sdk from "./support/sdk.ts"
import { inSeconds, KEY, token } from "./support/tokens.ts"
import { eventually } from "./support/wait.ts"

const SEEN = { allow_presence_for_subscriber: true, presence: true, join_leave: true }

const config = {
  channel: {
    namespaces: [
      { name: "room", ...OPEN, ...SEEN, ...READABLE, history_size: 100, history_ttl: "1m", force_recovery: true },
      { name: "private", ...SEEN, allow_publish_for_subscriber: true },
      { name: "news" }
    ]
  },
  client: { token: { hmac_secret_key: KEY }, expired_close_delay: "1500ms" }
}

const hooks: Partial<Hooks.Hooks["Type"]> = {
  onRpc: ({ client, data, method }) => Effect.succeed(`{"method":"${method}","user":"${client?.user}","data":${data}}`),
  onMessage: ({ data }) => Effect.sync(() => void messages.push(data))
}
const messages: Array<string> = []

const user = (name: string, claims: object = {}): Partial<Options> => ({ token: token({ sub: name, ...claims }) })

/** A back end that does not answer. */
const never = (): Promise<string> => new Promise(() => undefined)

const clientOf = (client: Centrifuge): string => (client as unknown as { readonly _client: string })._client

/** What a subscription hears, a line each. */
const listen = (subscription: Subscription): ReadonlyArray<string> => {
  const heard: Array<string> = []
  subscription.on("publication", ({ data, info }) => heard.push(`${JSON.stringify(data)} by ${info?.user}`))
  subscription.on("join", ({ info }) => heard.push(`join ${info.user}`))
  subscription.on("leave", ({ info }) => heard.push(`leave ${info.user}`))
  subscription.on("unsubscribed", ({ code }) => heard.push(`unsubscribed ${code}`))
  return heard
}

const hears = (heard: ReadonlyArray<string>, what: string) =>
  eventually(
    Effect.sync(() => heard),
    (all) => all.includes(what),
    what
  )

const cases = Sdk.versions.flatMap(({ Client, name: version }) =>
  clusters({ config, hooks }).map(([over, cluster]) => ({ Client, cluster, name: `${version} over ${over}` }))
)

for (const { Client, cluster, name } of cases) {
  const connect = (ws: string, options: Partial<Options> = {}) => Sdk.connect(ws, options, Client)

  describe(name, () => {
    live("connects with a token that it gets, and again with a new one once it expires", () =>
      Effect.gen(function* () {
        const { ws } = yield* cluster
        let asked = 0
        const client = yield* connect(ws, {
          getToken: () => Promise.resolve(token({ sub: "ada", exp: inSeconds(++asked === 1 ? 3 : 600) }))
        })
        const ended: Array<number> = []
        client.on("disconnected", ({ code }) => ended.push(code))
        client.on("connecting", ({ code }) => ended.push(code))
        // It refreshes in place: the connection stays the same one.
        const id = clientOf(client)
        yield* eventually(
          Effect.sync(() => asked),
          (count) => count === 2,
          "a refresh"
        )
        const other = yield* connect(ws, { ...user("eve", { exp: inSeconds(3) }), getToken: never })
        const why = yield* Effect.promise(
          () => new Promise<number>((resolve) => other.once("connecting", ({ code }) => resolve(code)))
        )
        // The one that does not refresh, for its back end does not answer, is closed.
        expect(why).toBe(3005)
        expect([clientOf(client), ended]).toEqual([id, []])
      })
    )

    live("subscribes with a token, and refreshes it", () =>
      Effect.gen(function* () {
        const { ws } = yield* cluster
        const client = yield* connect(ws, user("ada"))
        const denied = client.newSubscription("private:no")
        const refusal = new Promise<number>((resolve) => denied.once("unsubscribed", ({ code }) => resolve(code)))
        denied.subscribe()
        expect(yield* Effect.promise(() => refusal)).toBe(103)
        let asked = 0
        const subscription = client.newSubscription("private:a", {
          getToken: ({ channel }) =>
            Promise.resolve(token({ sub: "ada", channel, exp: inSeconds(++asked === 1 ? 3 : 600) }))
        })
        const ended: Array<number> = []
        subscription.on("subscribing", ({ code }) => ended.push(code))
        subscription.on("unsubscribed", ({ code }) => ended.push(code))
        subscription.subscribe()
        yield* Effect.promise(() => subscription.ready(10_000))
        ended.length = 0
        yield* eventually(
          Effect.sync(() => asked),
          (count) => count === 2,
          "a refresh"
        )
        // One that does not refresh, for its back end does not answer, ends with 2501, and subscribes again.
        const brief = client.newSubscription("private:b", {
          token: token({ sub: "ada", channel: "private:b", exp: inSeconds(3) }),
          getToken: never
        })
        const again = new Promise<number>((resolve) =>
          brief.on("subscribing", ({ code }) => code >= 2000 && resolve(code))
        )
        brief.subscribe()
        expect(yield* Effect.promise(() => again)).toBe(2501)
        yield* Effect.promise(() => subscription.publish("still here"))
        expect(ended).toEqual([])
      })
    )

    live("publishes, hears joins and leaves, reads presence and its stats, history, and calls", () =>
      Effect.gen(function* () {
        const { ws } = yield* cluster
        const ada = yield* connect(ws, user("ada", { info: { name: "Ada" } }))
        const eve = yield* connect(ws, user("eve"))
        const first = ada.newSubscription("room:a", { joinLeave: true })
        const heard = listen(first)
        first.subscribe()
        yield* Effect.promise(() => first.ready(10_000))
        const second = yield* Sdk.subscribe(eve, "room:a")
        yield* hears(heard, "join eve")
        yield* Effect.promise(() => second.publish({ n: 1 }))
        yield* hears(heard, '{"n":1} by eve')
        const presence = yield* Effect.promise(() => second.presence())
        expect(presence.clients[clientOf(ada)]).toMatchObject({ user: "ada", connInfo: { name: "Ada" } })
        expect(Object.keys(presence.clients).length).toBe(2)
        expect(yield* Effect.promise(() => first.presenceStats())).toMatchObject({ numClients: 2, numUsers: 2 })
        expect((yield* Effect.promise(() => first.history({ limit: 10 }))).publications.length).toBe(1)
        second.unsubscribe()
        yield* hears(heard, "leave eve")
        expect(yield* Effect.promise(() => first.presenceStats())).toMatchObject({ numClients: 1, numUsers: 1 })
        expect(yield* Effect.promise(() => ada.rpc("sum", [1, 2]))).toMatchObject({
          data: { method: "sum", user: "ada", data: [1, 2] }
        })
        const mark = `"${name}"`
        yield* Effect.promise(() => ada.send(name))
        yield* eventually(
          Effect.sync(() => messages),
          (all) => all.includes(mark),
          "the message"
        )
      })
    )

    live("is subscribed by its token, and by the server while it is connected; gets messages", () =>
      Effect.gen(function* () {
        const { servers, ws } = yield* cluster
        const events: Array<string> = []
        const clients = [0, 1].map(() => connect(ws, user("ada", { channels: ["news:a"] })))
        for (const [index, connecting] of clients.entries()) {
          const client = yield* connecting
          client.on("publication", ({ channel, data }) => events.push(`${index} ${channel} ${data}`))
          client.on("message", ({ data }) => events.push(`${index} message ${data}`))
          client.on("subscribed", ({ channel }) => events.push(`${index} subscribed ${channel}`))
          client.on("unsubscribed", ({ channel }) => events.push(`${index} unsubscribed ${channel}`))
          client.on("disconnected", ({ code }) => events.push(`${index} disconnected ${code}`))
        }
        const both = (what: string) =>
          eventually(
            Effect.sync(() => events),
            (all) => all.includes(`0 ${what}`) && all.includes(`1 ${what}`),
            `both: ${what}`
          )
        const [server] = servers
        yield* server.publisher.publish("news:a", "by token")
        yield* both("news:a by token")
        const done = { isPartial: false, clients: 2 }
        const perform = server.cluster.perform
        expect(yield* perform({ type: "subscribe", user: "ada", channel: "news:b" })).toEqual(done)
        yield* both("subscribed news:b")
        yield* server.publisher.publish("news:b", "by server")
        yield* both("news:b by server")
        const unsubscribe = { type: "unsubscribe", user: "ada", code: 2000, reason: "x" } as const
        expect(yield* perform({ ...unsubscribe, channel: "news:b" })).toEqual(done)
        yield* both("unsubscribed news:b")
        yield* server.publisher.message("ada", "hello")
        yield* both("message hello")
        const disconnect = { type: "disconnect", user: "ada", whitelist: [], code: 3503, reason: "x" } as const
        expect(yield* perform(disconnect)).toEqual(done)
        yield* both("disconnected 3503")
      })
    )
  })
}
