/** What the stock client relies on when it recovers, loads its state and refreshes its subscriptions. */
import type {
  Centrifuge,
  Options,
  StreamPosition,
  SubscribedContext,
  Subscription,
  SubscriptionOptions
} from "centrifuge"
import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Child from "./support/child.ts"
import { clusters } from "./support/clusters.ts"
import { OPEN, READABLE } from "./support/history.ts"
import { live } from "./support/it.ts"
import * as Sdk from "./support/sdk.ts"
import type * as Server from "./support/server.ts"
import { inSeconds, KEY, token } from "./support/tokens.ts"
import { eventually } from "./support/wait.ts"

const config = {
  channel: {
    namespaces: [
      {
        name: "room",
        ...OPEN,
        ...READABLE,
        history_size: 10,
        history_ttl: "1m",
        force_recovery: true,
        presence: true,
        allow_presence_for_client: true,
        allow_presence_for_anonymous: true
      },
      { name: "private", history_size: 10, history_ttl: "1m", force_recovery: true }
    ]
  },
  client: {
    allow_anonymous_connect_without_token: true,
    token: { hmac_secret_key: KEY, leeway: "0s" },
    expired_close_delay: "1s"
  }
}

/** What a subscription gets. */
const listen = (subscription: Subscription) => {
  const heard = { data: [] as Array<unknown>, subscribed: [] as Array<SubscribedContext>, ended: [] as Array<number> }
  subscription.on("publication", ({ data }) => heard.data.push(data))
  subscription.on("subscribed", (context) => heard.subscribed.push(context))
  subscription.on("unsubscribed", ({ code }) => heard.ended.push(code))
  return heard
}

type Heard = ReturnType<typeof listen>

const has = (heard: Heard, last: unknown) =>
  eventually(
    Effect.sync(() => heard.data),
    (data) => data.includes(last),
    `publication ${last}`
  )

const times = (happened: ReadonlyArray<unknown>, count: number) =>
  eventually(
    Effect.sync(() => happened.length),
    (length) => length >= count,
    `${count} times`
  )

const BEGINNING: StreamPosition = { offset: 0, epoch: "" }

/** Publishes one after the other; returns the epoch of the stream. */
const publish = (server: Server.Running, channel: string, all: ReadonlyArray<unknown>) =>
  Effect.map(
    Effect.forEach(all, (data) => server.publisher.publish(channel, data)),
    (positions) => positions.at(-1)?.epoch ?? ""
  )

/** What is published from now on does not reach a connection that is closing. */
const isLeft = (servers: readonly [Server.Running, ...ReadonlyArray<Server.Running>], channel: string) =>
  eventually(
    Effect.map(servers[0].cluster.channels(channel), ({ channels }) => channels.size),
    (count) => count === 0,
    `nobody in ${channel}`
  )

const cases = Sdk.versions.flatMap(({ Client, module, name: version }) =>
  clusters({ config }).map(([over, cluster]) => ({ Client, cluster, module, name: `${version} over ${over}` }))
)

for (const { Client, cluster, module, name } of cases) {
  const connect = (ws: string, options: Partial<Options> = {}): ReturnType<typeof Sdk.connect> =>
    Sdk.connect(ws, { minReconnectDelay: 10, maxReconnectDelay: 50, ...options }, Client)

  /** A subscription that listens from the start. */
  const subscribe = (client: Centrifuge, channel: string, options: Partial<SubscriptionOptions> = {}) => {
    const subscription = client.newSubscription(channel, {
      minResubscribeDelay: 10,
      maxResubscribeDelay: 50,
      ...options
    })
    const heard = listen(subscription)
    subscription.subscribe()
    return { subscription, heard }
  }

  describe(name, () => {
    live(
      "since and getState: from the beginning with an empty epoch, and only what came after the position given",
      () =>
        Effect.gen(function* () {
          const { servers, ws } = yield* cluster
          const client = yield* connect(ws)
          yield* publish(servers[0], "room:a", [1, 2, 3])

          const all = subscribe(client, "room:a", { since: BEGINNING })
          yield* has(all.heard, 3)
          expect(all.heard.data).toEqual([1, 2, 3])
          expect(all.heard.subscribed).toMatchObject([{ wasRecovering: true, recovered: true }])

          // A stream that has nothing yet is recovered too, and what comes then arrives.
          const none = subscribe(client, "room:none", { since: BEGINNING })
          yield* times(none.heard.subscribed, 1)
          expect(none.heard.subscribed).toMatchObject([{ wasRecovering: true, recovered: true }])
          yield* publish(servers[0], "room:none", [1])
          yield* has(none.heard, 1)

          // The application's state is as of some position; what came since is added to it.
          const epoch = yield* publish(servers[0], "room:b", [1, 2, 3, 4])
          const states: ReadonlyArray<readonly [StreamPosition, ReadonlyArray<number>]> = [
            [BEGINNING, [1, 2, 3, 4]],
            [{ offset: 2, epoch }, [3, 4]],
            [{ offset: 3, epoch: "" }, [4]]
          ]
          for (const [state, missed] of states) {
            const own = yield* connect(ws)
            let loads = 0
            const one = subscribe(own, "room:b", {
              getState: () => {
                loads++
                return Promise.resolve(state)
              }
            })
            yield* has(one.heard, 4)
            expect([one.heard.data, loads]).toEqual([missed, 1])
            expect(one.heard.subscribed).toMatchObject([{ wasRecovering: true, recovered: true }])
          }
        })
    )

    live("getState is asked again after a position that cannot be recovered from, once", () =>
      Effect.gen(function* () {
        const { servers, ws } = yield* cluster
        const client = yield* connect(ws)
        let position = { offset: 0, epoch: "" }
        let loads = 0
        const { heard } = subscribe(client, "room:a", {
          getState: () => {
            loads++
            return Promise.resolve(position)
          }
        })
        yield* times(heard.subscribed, 1)
        client.disconnect()
        yield* isLeft(servers, "room:a")
        // More than history keeps.
        const epoch = yield* publish(
          servers[0],
          "room:a",
          Array.from({ length: 15 }, (_, index) => index + 1)
        )
        position = { offset: 12, epoch }
        client.connect()
        yield* has(heard, 15)
        expect([heard.data, loads]).toEqual([[13, 14, 15], 2])
        // With a position that it can recover from it is not asked.
        client.disconnect()
        yield* isLeft(servers, "room:a")
        yield* publish(servers[0], "room:a", [16])
        client.connect()
        yield* has(heard, 16)
        expect([heard.data, loads]).toEqual([[13, 14, 15, 16], 2])
        expect(heard.ended).toEqual([])
      })
    )

    live("presenceStats are numbers, also where nobody is; an anonymous client has an empty user", () =>
      Effect.gen(function* () {
        const { ws } = yield* cluster
        const client = yield* connect(ws)
        const stats = () => Effect.promise(() => client.presenceStats("room:a"))
        expect(yield* stats()).toEqual({ numClients: 0, numUsers: 0 })
        expect(yield* Effect.promise(() => client.presence("room:a"))).toEqual({ clients: {} })
        const { heard, subscription } = subscribe(client, "room:a")
        yield* times(heard.subscribed, 1)
        expect(yield* stats()).toEqual({ numClients: 1, numUsers: 1 })
        const { clients } = yield* Effect.promise(() => subscription.presence())
        expect(Object.values(clients)).toMatchObject([{ user: "", client: Object.keys(clients)[0] }])
        const author = new Promise<unknown>((resolve) => subscription.once("publication", ({ info }) => resolve(info)))
        yield* Effect.promise(() => subscription.publish(1))
        expect(yield* Effect.promise(() => author)).toMatchObject({ user: "" })
        yield* Effect.promise(() => subscription.history({ limit: 0 })).pipe(
          Effect.map((page) => expect(page).toMatchObject({ publications: [], offset: 1 }))
        )
        subscription.unsubscribe()
        expect(yield* eventually(stats(), ({ numClients }) => numClients === 0, "nobody")).toEqual({
          numClients: 0,
          numUsers: 0
        })
      })
    )

    for (const isServerSide of [false, true]) {
      const whose = isServerSide ? "a subscription that the server has made" : "its own subscription"
      live(
        `a handler that throws during a replay, at its first or a later publication, skips nothing, in ${whose}`,
        () =>
          Effect.gen(function* () {
            const { servers, ws } = yield* cluster
            const replays = (throwsAt: number) =>
              Effect.gen(function* () {
                const channel = `room:${throwsAt}`
                const child = yield* Child.start("replay-client.mjs", {
                  url: `${ws}/connection/websocket`,
                  token: token({ sub: "ada", channels: isServerSide ? [channel] : [] }),
                  channel,
                  sdk: module,
                  throwsAt,
                  last: 5,
                  isServerSide
                })
                yield* child.says("subscribed", "20 seconds")
                child.send({ type: "disconnect" })
                yield* child.says("left", "20 seconds")
                yield* isLeft(servers, channel)
                yield* publish(servers[0], channel, [1, 2, 3, 4, 5])
                child.send({ type: "connect" })
                yield* child.says("threw", "20 seconds")
                child.send({ type: "connect" })
                return (yield* child.says<Child.Message & { readonly handled: unknown }>("seen", "20 seconds")).handled
              })
            const all = [1, 2, 3, 4, 5]
            expect(yield* Effect.all([replays(1), replays(3)], { concurrency: "unbounded" })).toEqual([all, all])
          })
      )
    }

    live("a subscription refreshed with an expired token goes on, and gets a new one", () =>
      Effect.gen(function* () {
        const { servers, ws } = yield* cluster
        const client = yield* connect(ws, { token: token({ sub: "ada" }) })
        const expired = inSeconds(-60)

        /** Its tokens expire as `expirations` say, one after the other. */
        const begin = (channel: string, expirations: ReadonlyArray<number>) => {
          const asked: Array<number> = []
          const one = subscribe(client, channel, {
            getToken: () => {
              const exp = expirations[Math.min(asked.length, expirations.length - 1)] as number
              asked.push(exp)
              return Promise.resolve(token({ sub: "ada", channel, exp }))
            }
          })
          const errors: Array<number> = []
          one.subscription.on("error", ({ error }) => errors.push(error.code))
          return { ...one, asked, errors }
        }

        // It asks again before the grace is over: the SDK waits 10 to 20 seconds for that, which is shortened here.
        const [first, fresh] = [inSeconds(2), inSeconds(600)]
        const soon = begin("private:soon", [first, expired, fresh])
        Object.assign(soon.subscription, { _getRefreshRetryDelay: () => 50 })
        // It does not: the subscription is ended with 2501, and it asks before it subscribes again.
        const late = begin("private:late", [first, expired, fresh])

        for (const one of [soon, late]) yield* times(one.asked, 3)
        yield* times(late.heard.subscribed, 2)
        expect(soon.heard.subscribed.length).toBe(1)
        for (const one of [soon, late]) {
          expect([one.asked, one.heard.ended, one.subscription.state]).toEqual([
            [first, expired, fresh],
            [],
            "subscribed"
          ])
        }
        expect([soon.errors, late.errors]).toEqual([[110], [110, 109]])
        for (const one of [soon, late]) yield* publish(servers[0], one.subscription.channel, ["still here"])
        for (const one of [soon, late]) yield* has(one.heard, "still here")
      })
    )
  })
}
