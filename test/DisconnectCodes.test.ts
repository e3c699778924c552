import { Centrifuge, type Options } from "centrifuge"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { WebSocket } from "ws"
import * as Hooks from "../src/Hooks.ts"
import * as Codes from "../src/protocol/Codes.ts"
import { type Cluster, clusters } from "./support/clusters.ts"
import { OPEN, READABLE } from "./support/history.ts"
import { live } from "./support/it.ts"
import * as Server from "./support/server.ts"
import { inSeconds, KEY, token } from "./support/tokens.ts"

const config = {
  channel: {
    namespaces: [{ name: "room", ...OPEN, ...READABLE, history_size: 500, history_ttl: "1m" }, { name: "news" }]
  },
  client: {
    token: { hmac_secret_key: KEY },
    channel_limit: 3,
    command_rate: 300,
    error_limit: 5,
    expired_close_delay: "100ms",
    overflow: "disconnect",
    ping_interval: "4s",
    pong_timeout: "3s",
    queue_max_frames: 16,
    // Longer than a busy machine takes to carry out `connect`: those of other codes must not end with 3502.
    stale_close_delay: "3s",
    user_connection_limit: 4,
    write_timeout: "10s"
  }
}

const hooks: Partial<Hooks.Hooks["Type"]> = {
  onRpc: ({ method }) =>
    method === "leave"
      ? Effect.fail(new Hooks.Rejected({ code: 4999, message: "as you wish", disconnect: true }))
      : Effect.fail(new Hooks.Rejected({ code: 400, message: "no" })),
  onMessage: ({ data }) =>
    data === "1"
      ? Effect.fail(new Hooks.Rejected({ code: 403, message: "not that" }))
      : Effect.die("a fault of its own")
}

const connect = (ws: string, options: Partial<Options> = {}): Effect.Effect<Centrifuge, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(
      () =>
        new Centrifuge(`${ws}/connection/websocket`, {
          websocket: WebSocket,
          token: token({ sub: "ada" }),
          minReconnectDelay: 60_000,
          maxReconnectDelay: 60_000,
          maxServerPingDelay: 60_000,
          ...options
        })
    ),
    (client) => Effect.sync(() => client.disconnect())
  )

/** The code with which the server ends the connection, and whether the client comes back by itself. */
const end = (client: Centrifuge) =>
  Effect.async<readonly [code: number, comesBack: boolean]>((resume) => {
    client.on("connecting", ({ code }) => {
      if (code !== 0) resume(Effect.succeed([code, true]))
    })
    client.on("disconnected", ({ code }) => {
      if (code !== 0) resume(Effect.succeed([code, false]))
    })
    client.connect()
  })

/** A socket of the client's own that does as it is told before it sends a frame; `false`: it is not sent. */
const tampering = (onSend: (frame: string, socket: WebSocket) => boolean | string): typeof WebSocket =>
  class extends WebSocket {
    override send(data: string): void {
      const sent = onSend(data, this)
      if (sent !== false) super.send(sent === true ? data : sent)
    }
  } as typeof WebSocket

const behindConnect = (text: string): Partial<Options> => ({
  websocket: tampering((frame) => (frame.includes('"connect"') ? `${frame}\n${text}` : true))
})

type Scenario = (cluster: Cluster) => Effect.Effect<readonly [number, boolean], unknown, Scope.Scope>

const ends =
  (options: Partial<Options>): Scenario =>
  ({ ws }) =>
    Effect.flatMap(connect(ws, options), end)

const commands = (count: number, command: (index: number) => object): string =>
  Array.from({ length: count }, (_, index) => JSON.stringify({ id: 1000 + index, ...command(index) })).join("\n")

/** How a client gets to see each code. */
const scenarios: Readonly<Record<number, Scenario>> = {
  3001: ({ ws, servers }) =>
    Effect.gen(function* () {
      const client = yield* connect(ws)
      client.once("connected", () =>
        Effect.runFork(Effect.forEach(servers, ({ connections }) => connections.drain, { concurrency: "unbounded" }))
      )
      return yield* end(client)
    }),
  3004: ends(behindConnect('{"send":{"data":2}}')),
  3005: ends({
    token: token({ sub: "ada", exp: inSeconds(600) }),
    ...behindConnect(JSON.stringify({ id: 9, refresh: { token: token({ sub: "ada", exp: inSeconds(-60) }) } }))
  }),
  3008: ({ ws, servers }) =>
    Effect.gen(function* () {
      let socket: WebSocket | undefined
      const client = yield* connect(ws, {
        websocket: tampering((_, own) => {
          socket = own
          return true
        })
      })
      const subscription = client.newSubscription("room:slow")
      subscription.once("subscribed", () => {
        socket?.pause()
        // It reads again once it has been given up: then it sees why.
        const isGivenUp = () => servers.some(({ metrics }) => metrics.disconnects(Codes.slow.code).value > 0)
        Effect.runFork(
          Effect.zipRight(
            Effect.repeat(servers[0].publisher.publish("room:slow", "x".repeat(60_000)), { until: isGivenUp }),
            Effect.sync(() => socket?.resume())
          )
        )
      })
      subscription.subscribe()
      return yield* end(client)
    }),
  3012: ends({ websocket: tampering((frame) => frame !== "{}") }),
  3013: ends(behindConnect(commands(900, () => ({ ping: {} })))),
  3500: ends({ token: token({ sub: "ada" }, "another secret of 32 bytes or so!") }),
  3501: ends(behindConnect("{")),
  3502: ends({ websocket: tampering(() => false), timeout: 60_000 }),
  3503: ({ ws, servers: [server] }) =>
    Effect.gen(function* () {
      const client = yield* connect(ws)
      const { code, reason } = Codes.forceDisconnect
      client.once("connected", () =>
        Effect.runFork(server.cluster.perform({ type: "disconnect", user: "ada", whitelist: [], code, reason }))
      )
      return yield* end(client)
    }),
  3504: ({ ws }) =>
    Effect.gen(function* () {
      // Two instances take turns: each of them has four.
      const clients = yield* Effect.forEach(Array.from({ length: 10 }), () => connect(ws))
      return yield* Effect.raceAll(clients.map(end))
    }),
  3505: ends({ token: token({ sub: "ada", channels: ["news:1", "news:2", "news:3", "news:4"] }) }),
  3507: ends(behindConnect('{"send":{"data":1}}')),
  // Of a server whose application takes no messages.
  3508: () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config })
      return yield* end(yield* connect(server.ws, behindConnect('{"send":{"data":1}}')))
    }),
  3509: ends(behindConnect(commands(6, () => ({ rpc: { method: "x" } })))),
  4999: ends(behindConnect('{"id":9,"rpc":{"method":"leave"}}'))
}

/** Codes that no client gets by what it does itself in this protocol, and the tests that show them. */
const ELSEWHERE: ReadonlyArray<number> = [
  // To one that was refused by an error: the stock client has closed the socket by then. Tokens.test.ts.
  Codes.connectionClosed.code,
  // A subscription that the server has made, and that expires: Tokens.test.ts.
  Codes.subscriptionExpiredDisconnect.code,
  // A gap, on the plain socket: HistoryFaults.test.ts.
  Codes.insufficientState.code,
  // The plain socket: BadInput.test.ts, RedisFaults.test.ts.
  Codes.unsupportedData.code,
  Codes.publishFailed.code
]

describe("disconnect codes", () => {
  it("all have a test", () => {
    const all = Object.values(Codes).flatMap((one) => (typeof one === "object" && "reason" in one ? [one.code] : []))
    const shown = new Set([...Object.keys(scenarios).map(Number), ...ELSEWHERE])
    expect(all.filter((code) => code < 2000 || code >= 3000).filter((code) => !shown.has(code))).toEqual([])
  })
})

for (const [name, cluster] of clusters({ config, hooks })) {
  describe(`what the stock client is told by its end, over ${name}`, () => {
    for (const [code, scenario] of Object.entries(scenarios)) {
      live(`${code}: it ${Number(code) < 3500 ? "comes back" : "stays away"}`, () =>
        Effect.gen(function* () {
          const comesBack = Number(code) < 3500
          expect(yield* scenario(yield* cluster)).toEqual([Number(code), comesBack])
        })
      )
    }
  })
}
