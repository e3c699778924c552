import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as ServerConfig from "../src/ServerConfig.ts"
import * as Api from "./support/api.ts"
import * as Embedded from "./support/embedded.ts"
import * as Http from "./support/http.ts"
import { live } from "./support/it.ts"
import * as Program from "./support/program.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"
import * as Tcp from "./support/tcp.ts"

/** A program that answers whatever reaches it. */
const program = Embedded.web((request, response) => void response.end(`own ${request.url}`))

const OPERATION = ["/health/live", "/health/ready", "/metrics"]

/** Paths that look like ours, and are not. */
const OTHERS = [
  "/",
  "/api",
  "/api/",
  "/api/users",
  "/api/publish/",
  "/api/publish/drafts",
  "/API/publish",
  "/health",
  "/health/",
  "/health/database",
  "/health/live/",
  "/metrics/",
  "/metricsx",
  "/docs/",
  "/docs/getting-started",
  "/connection",
  "/connection/websocket/",
  "/channels",
  "/channels/",
  "/channels/general"
]

describe("Server.layer takes only what it serves", () => {
  for (const [what, config] of [
    ["without an API key", {}],
    ["with one", Api.keyed]
  ] as const) {
    live(`${what}: its paths one by one, and none beside them`, () =>
      Effect.gen(function* () {
        const server = yield* Embedded.embed(yield* program, { config })
        for (const path of OTHERS) {
          for (const method of ["GET", "POST"]) {
            expect([path, (yield* Http.send(server.http + path, { method })).body]).toEqual([path, `own ${path}`])
          }
        }
        for (const path of OPERATION) {
          expect([path, (yield* Http.send(`${server.http}${path}?x`)).status]).toEqual([path, 200])
          // The path is taken, whatever the method.
          expect([path, (yield* Http.send(server.http + path, { method: "DELETE" })).status]).toEqual([path, 405])
        }
        expect(server.logs.filter((line) => line.includes("refused")).length).toBe(OPERATION.length)
      })
    )
  }

  live("without an API key nothing of the API is taken; with one every method is, and the documentation", () =>
    Effect.gen(function* () {
      const off = yield* Embedded.embed(yield* program)
      const on = yield* Embedded.embed(yield* program, { config: Api.keyed })
      const api = yield* Api.make(on.http)
      const methods = Object.keys(api.specification.paths).filter((path) => path.startsWith("/api/"))
      expect(methods.length).toBeGreaterThan(13)
      for (const path of [...methods, "/openapi.json", "/docs"]) {
        for (const method of ["GET", "POST"]) {
          expect([path, (yield* Http.send(off.http + path, { method })).body]).toEqual([path, `own ${path}`])
          expect([path, (yield* Http.send(on.http + path, { method })).body]).not.toEqual([path, `own ${path}`])
        }
      }
    })
  )

  live("upgrades likewise: one below a channel is the program's", () =>
    Effect.gen(function* () {
      const http = yield* program
      http.on("upgrade", (request, socket) => socket.end(`HTTP/1.1 418 ${request.url}\r\n\r\n`))
      const server = yield* Embedded.embed(http)
      for (const path of ["/channels/", "/channels/a/b", "/connection/websocket/", "/health/database"]) {
        expect([path, (yield* Socket.refusal(server.ws + path)).status]).toEqual([path, 418])
      }
      yield* Socket.open(`${server.ws}/channels/a?echo=0`)
    })
  )
})

describe("http_server.handler_prefix", () => {
  const config = { ...Api.keyed, http_server: { handler_prefix: "/real-time/v1" } }

  live("embedded: is before every path, and what is not below it is the program's", () =>
    Effect.gen(function* () {
      const server = yield* Embedded.embed(yield* program, { config })
      const at = `${server.http}/real-time/v1`
      for (const path of [...OPERATION, "/openapi.json", "/docs"]) {
        expect([path, (yield* Http.send(at + path)).status]).toEqual([path, 200])
        expect([path, (yield* Http.send(server.http + path)).body]).toEqual([path, `own ${path}`])
      }
      const published = yield* Http.send(`${at}/api/publish`, {
        method: "POST",
        headers: { "X-API-Key": Api.KEY },
        body: '{"channel":"public:a","data":1}'
      })
      expect([published.status, published.body]).toEqual([200, expect.stringContaining('"offset":1')])
      const socket = yield* Socket.open(`${server.ws}/real-time/v1/channels/public:a?history=1`)
      yield* socket.gets("1")
      yield* Socket.open(`${server.ws}/real-time/v1/connection/websocket`)
      for (const path of ["/connection/websocket", "/real-time/v1", "/real-time/v10/metrics", "/real-time"]) {
        expect((yield* Http.send(server.http + path)).body).toBe(`own ${path}`)
      }
    })
  )

  live("standalone: is before the page as well, and the documentation's requests go below it", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config })
      const at = `${server.http}/real-time/v1`
      for (const path of ["", "/", "/?x", "?x", ...OPERATION]) {
        expect([path, (yield* Http.send(at + path)).status]).toEqual([path, 200])
      }
      for (const path of ["/", "/metrics", "/real-time/v1x"]) {
        expect([path, (yield* Http.send(server.http + path)).status]).toEqual([path, 404])
      }
      const specification = JSON.parse((yield* Http.send(`${at}/openapi.json`)).body) as { readonly servers: unknown }
      expect(specification.servers).toEqual([{ url: "/real-time/v1" }])
      expect((yield* Http.send(`${at}/docs`)).body).toContain('"servers":[{"url":"/real-time/v1"}]')
      const without = yield* Server.start({ config: Api.keyed })
      expect((yield* Http.send(`${without.http}/openapi.json`)).body).not.toContain('"servers"')
      yield* Socket.open(`${server.ws}/real-time/v1/channels/public:a`)
    })
  )

  live("is found in a target in absolute form, too (RFC 9112, section 3.2.2)", () =>
    Effect.gen(function* () {
      const server = yield* Embedded.embed(yield* program, { config })
      const tcp = yield* Tcp.open(server.port)
      const get = (target: string): void => tcp.write(`GET ${target} HTTP/1.1\r\nHost: localhost\r\n\r\n`)
      get("http://localhost/real-time/v1/health/live")
      yield* tcp.gets('"status":"ok"')
      get("http://localhost/health/live")
      yield* tcp.gets("own http://localhost/health/live")
    })
  )

  live("the program says where its sockets are", () =>
    Effect.gen(function* () {
      const program = yield* Program.start({ env: { FANFARE_HTTP_SERVER_HANDLER_PREFIX: "/realtime" } })
      yield* program.says("sockets are at /realtime/connection/websocket and /realtime/channels/{channel}")
      program.signal("SIGTERM")
      expect(yield* program.exit).toEqual({ code: 0, signal: null })
    })
  )

  it("is a path with one spelling, without a slash at its end", () => {
    const isValid = (handler_prefix: string): boolean =>
      Either.isRight(ServerConfig.load({ http_server: { handler_prefix } }))
    expect(["", "/a", "/real-time/v1.0", "/~x_y"].filter((prefix) => !isValid(prefix))).toEqual([])
    const wrong = ["/", "a", "/a/", "//a", "/a//b", "/a b", "/a?b", "/a#b", "/%61", "/..", "/a/../b", "/.", "/ä"]
    expect(wrong.filter(isValid)).toEqual([])
  })
})
