import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as HashMap from "effect/HashMap"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Scope from "effect/Scope"
import * as Exit from "effect/Exit"
import { createServer, type IncomingMessage, type Server as NodeServer } from "node:http"
import type { AddressInfo } from "node:net"
import * as Hooks from "../src/Hooks.ts"
import * as FanfareServer from "../src/Server.ts"
import * as ServerConfig from "../src/ServerConfig.ts"
import { raw } from "./support/history.ts"
import { live } from "./support/it.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"
import { eventually } from "./support/wait.ts"

interface Entry {
  readonly message: string
  readonly about: Readonly<Record<string, unknown>>
}

/** What is logged, with its annotations, from where the layer is provided. */
const recorded = () => {
  const entries: Array<Entry> = []
  const logger = Logger.make(({ annotations, message }) => {
    entries.push({ message: String(message), about: Object.fromEntries(HashMap.toEntries(annotations)) })
  })
  const about = (text: string) => entries.filter(({ message }) => message.includes(text)).map((entry) => entry.about)
  return { about, layer: Logger.add(logger) }
}

const hooks = { onDisconnect: () => Effect.logInfo("left") }

describe("what a connection logs carries its client", () => {
  live("when it ends by itself, is ended, and is a plain socket", () =>
    Effect.gen(function* () {
      const { about, layer } = recorded()
      const server = yield* Server.start({ hooks, layer })
      const leaves = yield* raw(server)
      leaves.socket.ws.close()
      yield* eventually(
        Effect.sync(() => about("left")),
        (left) => left.length === 1,
        "it has left"
      )
      const ended = yield* raw(server)
      ended.socket.send("nonsense")
      expect((yield* ended.socket.closed).code).toBe(3501)
      const plain = yield* Socket.open(`${server.ws}/channels/public:a`)
      plain.ws.close()
      const left = yield* eventually(
        Effect.sync(() => about("left")),
        (all) => all.length === 3,
        "all have left"
      )
      const [one, other] = [leaves, ended].map(({ connected }) => ({ client: connected["client"] }))
      expect(left.slice(0, 2)).toEqual([one, other])
      expect(Object.keys(left[2] ?? {})).toEqual(["client"])
      expect(about("disconnecting with 3501")).toEqual([other])
    })
  )

  live("when it is terminated", () =>
    Effect.gen(function* () {
      const { about, layer } = recorded()
      const scope = yield* Scope.make()
      const shutdown = { timeout: "20ms", close_rate: 100 }
      const server = yield* Scope.extend(Server.start({ hooks, layer, config: { shutdown } }), scope)
      const clients = yield* Effect.all(Array.from({ length: 20 }, () => raw(server)))
      yield* Scope.close(scope, Exit.void)
      expect(about("terminating").length).toBe(1)
      const ids = clients.map(({ connected }) => connected["client"] as string)
      expect(
        about("left")
          .map(({ client }) => client)
          .toSorted()
      ).toEqual(ids.toSorted())
    })
  )

  live("when it is refused", () =>
    Effect.gen(function* () {
      const { about, layer } = recorded()
      const server = yield* Server.start({ layer })
      const foreign = { headers: { origin: "http://evil.example" } }
      for (const path of ["connection/websocket", "channels/public:a"]) {
        expect((yield* Socket.refusal(`${server.ws}/${path}`, foreign)).status).toBe(403)
      }
      const uuid = expect.stringMatching(/^[\da-f-]{36}$/) as unknown
      expect(about("refused upgrade")).toEqual([{ client: uuid }, { client: uuid, channel: "public:a" }])
    })
  )
})

/** An HTTP server of a program's own. */
const listening: Effect.Effect<NodeServer, never, Scope.Scope> = Effect.acquireRelease(
  Effect.async<NodeServer>((resume) => {
    const server = createServer()
    server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
  }),
  (server) =>
    Effect.async<void>((resume) => {
      server.close(() => resume(Effect.void))
      server.closeAllConnections()
    })
)

const bug = (): never => {
  throw new Error("a fault of its own")
}

describe("an upgrade", () => {
  live("that throws is answered with 500 and logged, and takes no place for a connection", () =>
    Effect.gen(function* () {
      const { about, layer } = recorded()
      const http = yield* listening
      yield* Layer.build(
        FanfareServer.layer.pipe(
          Layer.provide([Hooks.layer({}), Layer.succeed(FanfareServer.HttpServer, http)]),
          Layer.provide(ServerConfig.layer({ client: { connection_limit: 2 } })),
          Layer.provide([Logger.remove(Logger.defaultLogger), layer])
        )
      )
      // The checks read the socket; the library reads the method, as has been done before to tell whose the upgrade is.
      const emit = http.emit.bind(http)
      http.emit = (event: string, ...args: Array<unknown>) => {
        const request = args[0] as IncomingMessage
        const fault = event === "upgrade" ? /fault=(\w+)/.exec(request.url ?? "")?.[1] : undefined
        let reads = fault === "method" ? 1 : 0
        if (fault !== undefined) Object.defineProperty(request, fault, { get: () => (reads-- > 0 ? "GET" : bug()) })
        return emit(event, ...args)
      }
      const ws = `ws://127.0.0.1:${(http.address() as AddressInfo).port}`
      for (const path of ["connection/websocket", "channels/public:a"]) {
        for (const fault of ["socket", "method"]) {
          for (let count = 0; count < 3; count++) {
            expect((yield* Socket.refusal(`${ws}/${path}?fault=${fault}`)).status).toBe(500)
          }
        }
      }
      expect(about("failed").length).toBe(12)
      expect(about("failed").map((entry) => entry["channel"])).toEqual([
        ...Array.from({ length: 6 }, () => undefined),
        ...Array.from({ length: 6 }, () => "public:a")
      ])
      expect(about("failed").filter(({ client }) => typeof client === "string").length).toBe(12)
      yield* raw({ ws })
      yield* raw({ ws })
      expect((yield* Socket.refusal(`${ws}/connection/websocket`)).status).toBe(503)
    })
  )

  live("that waits for a decision counts for client.connection_limit, for both kinds", () =>
    Effect.gen(function* () {
      const latch = yield* Effect.makeLatch(false)
      let asked = 0
      const server = yield* Server.start({
        config: { client: { connection_limit: 2 } },
        hooks: {
          onConnect: ({ kind }) =>
            kind === "protocol"
              ? Effect.succeed({ user: "" })
              : Effect.suspend(() => (asked++, Effect.as(latch.await, { user: "" })))
        }
      })
      yield* raw(server)
      const waits = yield* Effect.forkScoped(Socket.open(`${server.ws}/channels/public:a`))
      yield* eventually(
        Effect.sync(() => asked),
        (count) => count === 1,
        "it waits"
      )
      for (const path of ["connection/websocket", "channels/public:a"]) {
        expect((yield* Socket.refusal(`${server.ws}/${path}`)).status).toBe(503)
      }
      yield* latch.open
      const open = yield* waits
      expect((yield* Socket.refusal(`${server.ws}/connection/websocket`)).status).toBe(503)
      open.ws.close()
      yield* open.closed
      yield* eventually(Effect.either(raw(server)), Either.isRight, "there is room again")
    })
  )
})
