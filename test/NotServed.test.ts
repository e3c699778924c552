import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Api from "./support/api.ts"
import * as Embedded from "./support/embedded.ts"
import * as Http from "./support/http.ts"
import { live } from "./support/it.ts"
import { valuesOf } from "./support/metrics.ts"
import { freePort } from "./support/redis.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"
import * as Tcp from "./support/tcp.ts"

const KEY = ["Sec-WebSocket-Key: d2FybWluZyB1cCBhIGxvdA==", "Sec-WebSocket-Version: 13"]

const FORWARD = "a proxy in front has to speak HTTP/1.1 and to forward the headers Upgrade and Connection"

/** The lines about what was refused, without their levels. */
const refusedIn = (logs: ReadonlyArray<string>, level = "INFO"): ReadonlyArray<string> =>
  logs.filter((line) => line.startsWith(`${level} refused`)).map((line) => line.slice(level.length + 1))

describe("an upgrade to a path that is not served", () => {
  live("is answered with 404; its line says which path is, or what has to be set, and it is counted", () =>
    Effect.gen(function* () {
      const server = yield* Server.start()
      const hints = {
        "/connection/websocket/": "/connection/websocket is served, without a slash at its end",
        "/channels/public:a/": "/channels/public:a is served, without a slash at its end",
        "/realtime/connection/websocket":
          '/connection/websocket is served: have the proxy in front strip "/realtime", or set http_server.handler_prefix to it',
        "/a/b/channels/public:a?history=1":
          '/channels/public:a is served: have the proxy in front strip "/a/b", or set http_server.handler_prefix to it',
        "/": "sockets are at /connection/websocket and /channels/{channel}",
        "/socket.io/?EIO=4": "sockets are at /connection/websocket and /channels/{channel}"
      }
      for (const path of Object.keys(hints)) {
        // `expected /channels/{channel}` is malformed rather than unknown.
        const status = path.startsWith("/channels/") ? 400 : 404
        const refused = yield* Socket.refusal(server.ws + path)
        expect([path, refused.status]).toEqual([path, status])
      }
      expect(refusedIn(server.logs)).toEqual(
        Object.entries(hints).map(([path, hint]) =>
          path.startsWith("/channels/")
            ? `refused upgrade ${path} with 400: ${hint}`
            : `refused upgrade ${path} with 404: not found: ${hint}`
        )
      )
      expect(valuesOf(server.metrics.refused)).toMatchObject({ path: 6, handshake: 0 })
    })
  )

  live("beside http_server.handler_prefix: the line names it", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: { http_server: { handler_prefix: "/realtime" } } })
      for (const path of ["/connection/websocket", "/other/channels/public:a", "/realtime/connection/websocket/"]) {
        expect((yield* Socket.refusal(server.ws + path)).status).toBe(404)
      }
      const served = "is served: http_server.handler_prefix is"
      expect(refusedIn(server.logs)).toEqual([
        `refused upgrade /connection/websocket with 404: not found: /realtime/connection/websocket ${served} "/realtime"`,
        `refused upgrade /other/channels/public:a with 404: not found: /realtime/channels/public:a ${served} "/realtime", not "/other"`,
        "refused upgrade /realtime/connection/websocket/ with 404: not found: /realtime/connection/websocket is served, without a slash at its end"
      ])
    })
  )

  live("on the internal port: the line says where sockets are", () =>
    Effect.gen(function* () {
      const internal_port = yield* freePort
      const server = yield* Server.start({ config: { http_server: { internal_port } } })
      const refused = yield* Socket.refusal(`ws://127.0.0.1:${internal_port}/connection/websocket`)
      expect([refused.status, refused.body]).toEqual([404, expect.stringContaining("sockets are on the main port")])
      expect((yield* Http.send(`http://127.0.0.1:${internal_port}/channels/public:a`)).status).toBe(404)
      expect(refusedIn(server.logs)).toEqual([
        expect.stringContaining(
          "refused upgrade /connection/websocket with 404: not found: sockets are on the main port"
        ),
        expect.stringContaining("refused GET /channels/public:a with 404: not found: sockets are on the main port")
      ])
      expect(valuesOf(server.metrics.refused)).toMatchObject({ path: 2 })
    })
  )

  live("that is malformed is answered by the library, and has its line and its count", () =>
    Effect.gen(function* () {
      const server = yield* Server.start()
      for (const path of ["/connection/websocket", "/channels/public:a"]) {
        const tcp = yield* Tcp.open(server.port)
        tcp.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`)
        yield* tcp.gets("HTTP/1.1 400 ")
      }
      const why = "the handshake is malformed: Sec-WebSocket-Key undefined, Sec-WebSocket-Version undefined"
      expect(refusedIn(server.logs)).toEqual([
        `refused upgrade /connection/websocket: ${why}`,
        `refused upgrade /channels/public:a: ${why}`
      ])
      expect(valuesOf(server.metrics.refused)).toMatchObject({ handshake: 2 })
    })
  )
})

/** What is missing of a handshake, and what the answer says of it. */
const LACKING = [
  ["HTTP/1.1", ["Connection: close", ...KEY], "the request has no header Upgrade"],
  [
    "HTTP/1.1",
    ["Connection: keep-alive", "Upgrade: websocket", ...KEY],
    "the header Connection of the request does not name Upgrade"
  ],
  ["HTTP/1.1", ["Connection: Upgrade", "Upgrade: h2c"], "the request offers Upgrade: h2c"],
  ["HTTP/1.0", KEY, "the request came over HTTP/1.0"]
] as const

describe("a request to a socket's path that is no upgrade", () => {
  live("is answered with 426, Upgrade: websocket and what a proxy has to forward, and has its line and its count", () =>
    Effect.gen(function* () {
      const server = yield* Server.start()
      for (const path of ["/connection/websocket", "/channels/public:a?history=1"]) {
        for (const [version, headers, why] of LACKING) {
          const tcp = yield* Tcp.open(server.port)
          tcp.write([`GET ${path} ${version}`, "Host: localhost", ...headers, "", ""].join("\r\n"))
          yield* tcp.gets(FORWARD)
          const closes = version === "HTTP/1.0" || headers.includes("Connection: close" as never)
          expect(tcp.received()).toMatch(/^HTTP\/1.1 426 Upgrade Required\r\n/)
          expect(tcp.received()).toMatch(/^upgrade: websocket\r$/im)
          expect(tcp.received()).toMatch(closes ? /^connection: upgrade, close\r$/im : /^connection: upgrade\r$/im)
          expect(tcp.received()).toContain(`\r\n\r\n${why}: a WebSocket handshake is needed here`)
          if (closes) yield* tcp.closed
          else expect(tcp.isClosed()).toBe(false)
          expect(refusedIn(server.logs).at(-1)).toMatch(`refused GET ${path} with 426: ${why}: `)
        }
      }
      expect(valuesOf(server.metrics.refused)).toMatchObject({ handshake: 8, path: 0 })
    })
  )

  live("with another method is answered with 405 and Allow", () =>
    Effect.gen(function* () {
      const server = yield* Server.start()
      const refused = yield* Http.send(`${server.http}/connection/websocket`, { method: "POST", body: "{}" })
      expect([refused.status, refused.headers["allow"]]).toEqual([405, "GET"])
      expect(refusedIn(server.logs)).toEqual(["refused POST /connection/websocket with 405: the method has to be GET"])
      expect(valuesOf(server.metrics.refused)).toMatchObject({ handshake: 1 })
    })
  )

  live("embedded: is the program's, but on /connection/websocket, and where it means a WebSocket", () =>
    Effect.gen(function* () {
      const http = yield* Embedded.web((request, response) => void response.end(`own ${request.url}`))
      const server = yield* Embedded.embed(http)
      expect((yield* Http.send(`${server.http}/channels/general`)).body).toBe("own /channels/general")
      expect((yield* Http.send(`${server.http}/connection/websocket`)).status).toBe(426)
      const meant = yield* Http.send(`${server.http}/channels/public:a`, {
        headers: { "Sec-WebSocket-Key": "d2FybWluZyB1cCBhIGxvdA==" }
      })
      expect([meant.status, meant.body]).toEqual([426, expect.stringContaining(FORWARD)])
      // A path below a channel is no socket's.
      expect((yield* Http.send(`${server.http}/channels/general/members`)).body).toBe("own /channels/general/members")
    })
  )
})

describe("other requests for what is not served", () => {
  live("are answered with 404, or 405 and Allow, with a line at the level debug, and are counted", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: Api.keyed })
      const send = (method: string, path: string) =>
        Effect.map(Http.send(server.http + path, { method }), ({ headers, status }) => [status, headers["allow"]])
      expect(yield* send("GET", "/favicon.ico")).toEqual([404, undefined])
      expect(yield* send("POST", "/api/nothing")).toEqual([404, undefined])
      expect(yield* send("GET", "/api/publish")).toEqual([405, "POST"])
      expect(yield* send("POST", "/health/live")).toEqual([405, "GET, HEAD"])
      expect(yield* send("HEAD", "/health/live")).toEqual([200, undefined])
      expect(refusedIn(server.logs)).toEqual([])
      expect(refusedIn(server.logs, "DEBUG")).toEqual([
        "refused GET /favicon.ico with 404: not found",
        "refused POST /api/nothing with 404: not found",
        "refused GET /api/publish with 405: the method has to be POST",
        "refused POST /health/live with 405: the method has to be GET or HEAD"
      ])
      expect(valuesOf(server.metrics.refused)).toMatchObject({ path: 4 })
      // Nearly a socket's: somebody has configured it.
      expect(yield* send("GET", "/realtime/connection/websocket")).toEqual([404, undefined])
      expect(refusedIn(server.logs)).toEqual([
        'refused GET /realtime/connection/websocket with 404: not found: /connection/websocket is served: have the proxy in front strip "/realtime", or set http_server.handler_prefix to it'
      ])
    })
  )
})

describe("a program without listeners of its own", () => {
  live("needs none: what is not served is answered all the same", () =>
    Effect.gen(function* () {
      const server = yield* Embedded.embed(yield* Embedded.web())
      expect((yield* Http.send(`${server.http}/own`)).status).toBe(404)
      expect((yield* Http.send(`${server.http}/api/info`, { method: "POST" })).status).toBe(404)
      expect((yield* Http.send(`${server.http}/channels/public:a`)).status).toBe(426)
      expect((yield* Socket.refusal(`${server.ws}/nothing`)).status).toBe(404)
      expect(refusedIn(server.logs).at(-1)).toBe(
        "refused upgrade /nothing with 404: not found: sockets are at /connection/websocket and /channels/{channel}"
      )
    })
  )
})
