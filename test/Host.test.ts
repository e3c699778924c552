import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import type * as Scope from "effect/Scope"
import { readFileSync } from "node:fs"
import { createServer, type Server as NodeServer } from "node:http"
import { type AddressInfo, createServer as createTcpServer } from "node:net"
import * as Hooks from "../src/Hooks.ts"
import * as FanfareServer from "../src/Server.ts"
import * as ServerConfig from "../src/ServerConfig.ts"
import { live } from "./support/it.ts"
import * as Nginx from "./support/nginx.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"

/** Listens on a free port. */
const listen = (server: NodeServer, host: string): Effect.Effect<void> =>
  Effect.async((resume) => void server.listen(0, host, () => resume(Effect.void)))

const close = (server: NodeServer): Effect.Effect<void> =>
  Effect.async((resume) => {
    server.close(() => resume(Effect.void))
    server.closeAllConnections()
  })

const portOf = (server: { readonly address: () => unknown }): number => (server.address() as AddressInfo).port

/** A program's HTTP server that does not listen yet, with Fanfare on it; it is closed with the scope. */
const embedded = (config: ServerConfig.Input = {}) =>
  Effect.gen(function* () {
    const http = yield* Effect.acquireRelease(Effect.sync(createServer), close)
    const logs: Array<string> = []
    const logger = Logger.make(({ message }) => void logs.push(String(message)))
    yield* Layer.build(
      FanfareServer.layer.pipe(
        Layer.provide([Hooks.layer({}), Layer.succeed(FanfareServer.HttpServer, http)]),
        Layer.provide(ServerConfig.layer(config)),
        Layer.provide(Logger.replace(Logger.defaultLogger, logger))
      )
    )
    return { http, logs }
  })

interface Asked {
  readonly host?: string
  readonly origin?: string
  readonly path?: string
  readonly more?: Readonly<Record<string, string>>
}

/** What a socket is answered with on a port of this machine; 101 where it is opened. */
const status = (
  port: number,
  { host, more, origin, path = "/connection/websocket" }: Asked
): Effect.Effect<number, unknown, Scope.Scope> => {
  const headers = { ...(host === undefined ? {} : { host }), ...(origin === undefined ? {} : { origin }), ...more }
  return Effect.scoped(
    Socket.open(`ws://127.0.0.1:${port}${path}`, { headers }).pipe(
      Effect.as(101),
      Effect.catchTag("Refused", (refused) => Effect.succeed(refused.status))
    )
  )
}

/** What the page of an attacker sends whose name means this machine by now. */
const rebound = (port: number): Asked => ({ host: `evil.example:${port}`, origin: `http://evil.example:${port}` })

describe("the rule about Host on a program's own HTTP server", () => {
  live("lets any Host through where the program listens on 0.0.0.0, whatever the option host says", () =>
    Effect.gen(function* () {
      const { http } = yield* embedded()
      yield* listen(http, "0.0.0.0")
      const port = portOf(http)
      expect(yield* status(port, { host: "chat.example" })).toBe(101)
      expect(yield* status(port, { host: "chat.example", origin: "https://chat.example" })).toBe(101)
      expect(yield* status(port, { host: "chat.example", origin: "https://evil.example" })).toBe(403)
    })
  )

  live("refuses what DNS rebinding sends where it listens on 127.0.0.1, whatever the option host says", () =>
    Effect.gen(function* () {
      const { http, logs } = yield* embedded({ host: "0.0.0.0" })
      yield* listen(http, "127.0.0.1")
      const port = portOf(http)
      expect(yield* status(port, rebound(port))).toBe(403)
      expect(yield* status(port, { ...rebound(port), path: "/channels/public:lobby" })).toBe(403)
      expect(yield* status(port, {})).toBe(101)
      expect(yield* status(port, { origin: `http://localhost:${port}` })).toBe(101)
      expect(logs.find((line) => line.startsWith("refused upgrade"))).toBe(
        `refused upgrade /connection/websocket with 403: forbidden: Host "evil.example:${port}" is not this machine: ` +
          `client.allowed_origins with "http://evil.example:${port}" would permit it; ` +
          "listening on an address beyond this machine would permit any"
      )
    })
  )

  live("goes by the address of now where the program listens again elsewhere", () =>
    Effect.gen(function* () {
      const { http } = yield* embedded()
      for (const [host, expected] of [
        ["0.0.0.0", 101],
        ["127.0.0.1", 403],
        ["::", 101],
        ["::1", 403]
      ] as const) {
        const before = http.listenerCount("listening")
        yield* listen(http, host)
        const target = host.includes(":") ? "[::1]" : "127.0.0.1"
        const port = portOf(http)
        const named = { headers: { host: "chat.example" } }
        const got = yield* Effect.scoped(
          Socket.open(`ws://${target}:${port}/connection/websocket`, named).pipe(
            Effect.as(101),
            Effect.catchTag("Refused", (refused) => Effect.succeed(refused.status))
          )
        )
        expect([host, got]).toEqual([host, expected])
        expect(http.listenerCount("listening")).toBe(before)
        yield* close(http)
      }
    })
  )

  live("goes by the connection where the program's server does not listen and is handed connections", () =>
    Effect.gen(function* () {
      const { http } = yield* embedded()
      const outer = yield* Effect.acquireRelease(
        Effect.async<ReturnType<typeof createTcpServer>>((resume) => {
          const server = createTcpServer((socket) => void http.emit("connection", socket))
          server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
        }),
        (server) => Effect.async<void>((resume) => void server.close(() => resume(Effect.void)))
      )
      const port = portOf(outer)
      expect(yield* status(port, rebound(port))).toBe(403)
      expect(yield* status(port, { host: `localhost:${port}` })).toBe(101)
    })
  )

  live("takes its listener off with the scope", () =>
    Effect.gen(function* () {
      const http = createServer()
      const before = http.listenerCount("listening")
      yield* Effect.scoped(
        Layer.build(
          FanfareServer.layer.pipe(
            Layer.provide([Hooks.layer({}), Layer.succeed(FanfareServer.HttpServer, http)]),
            Layer.provide(ServerConfig.layer()),
            Layer.provide(Logger.remove(Logger.defaultLogger))
          )
        )
      )
      expect(http.listenerCount("listening")).toBe(before)
    })
  )
})

/** What nginx is told most often where it stands before a WebSocket server. */
const FORWARDS_HOST = "proxy_set_header Host $host;"
const FORWARDS_ALL = `
  proxy_set_header X-Forwarded-Host $host;
  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;`

describe("the rule about Host behind a real nginx on the same machine", () => {
  const SITE = "https://chat.example"
  const config = {
    client: { allowed_origins: [SITE, "https://*.partner.example"] },
    http_server: { trusted_proxies: ["127.0.0.1"] }
  }

  for (const [name, directives] of [
    ["forwards Host", FORWARDS_HOST],
    ["forwards X-Forwarded-Host", FORWARDS_ALL],
    ["forwards neither, and sends the name of its upstream", "proxy_set_header Host backend;"]
  ] as const) {
    live(`that ${name}: an allowed origin passes, and every other page is refused`, () =>
      Effect.gen(function* () {
        const server = yield* Server.start({ config })
        const port = yield* Nginx.start(Nginx.location(server.port, directives))
        const site = { host: "chat.example", origin: SITE }
        expect(yield* status(port, site)).toBe(101)
        expect(yield* status(port, { ...site, path: "/channels/public:lobby" })).toBe(101)
        expect(yield* status(port, { host: "chat.example", origin: "https://a.partner.example" })).toBe(101)
        for (const origin of ["https://evil.example", "http://chat.example", "http://localhost:3000", "null"]) {
          expect([origin, yield* status(port, { host: "chat.example", origin })]).toEqual([origin, 403])
        }
        // No browser: it passes under the name of the site, where nginx tells it.
        const known = !directives.includes("backend")
        expect(yield* status(port, { host: "chat.example" })).toBe(known ? 101 : 403)
        expect(yield* status(port, { host: "evil.example" })).toBe(403)
        // Past nginx, as a page does whose name was rebound; it comes from a trusted address.
        expect(yield* status(server.port, rebound(server.port))).toBe(403)
        expect(server.logs.some((line) => line.includes("the option host (HOST) with 0.0.0.0"))).toBe(true)
      })
    )
  }

  live("with the configurations of docs/configuration.md: the site passes, another page is refused", () =>
    Effect.gen(function* () {
      const docs = readFileSync(new URL("../docs/configuration.md", import.meta.url), "utf8")
      const [, json = "", conf = ""] =
        /```json\n(\{[^`]*trusted_proxies[^`]*)```\s*```nginx\n([^`]*)```/.exec(docs) ?? []
      const server = yield* Server.start({ config: JSON.parse(json) as ServerConfig.Input })
      const port = yield* Nginx.start(conf.replace("127.0.0.1:8000", `127.0.0.1:${server.port}`))
      const site = { host: "chat.example.com", origin: "https://chat.example.com" }
      expect(yield* status(port, site)).toBe(101)
      expect(yield* status(port, { ...site, origin: "https://evil.example" })).toBe(403)
    })
  )

  live("without a trusted proxy: Host counts, and X-Forwarded-Host does not", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: { client: config.client } })
      const port = yield* Nginx.start(Nginx.location(server.port, FORWARDS_HOST))
      expect(yield* status(port, { host: "chat.example", origin: SITE })).toBe(101)
      expect(yield* status(port, { host: "chat.example" })).toBe(101)
      const claimed = { host: "evil.example", more: { "x-forwarded-host": "chat.example" } }
      expect(yield* status(port, claimed)).toBe(403)
    })
  )
})
