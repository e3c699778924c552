import { expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { WebSocketServer } from "ws"
import * as Api from "./support/api.ts"
import * as Embedded from "./support/embedded.ts"
import { programs, withVite } from "./support/frameworks.ts"
import * as Http from "./support/http.ts"
import * as Matrix from "./support/matrix.ts"
import * as Socket from "./support/socket.ts"
import * as Tcp from "./support/tcp.ts"
import { eventually } from "./support/wait.ts"

const { isDocumented, row } = Matrix.make(import.meta.url)

const OWN = ["/api/users", "/health/database", "/channels/general"]

const text = { "Content-Type": "text/plain" }

/** The routes of the program, and its answer to what it does not know. */
const hasItsRoutes = (http: string) =>
  Effect.gen(function* () {
    for (const path of OWN) expect((yield* Http.send(http + path)).body).toBe(`own ${path}`)
    const ordered = yield* Http.send(`${http}/api/orders`, { method: "POST", headers: text, body: "tea" })
    expect([ordered.status, ordered.body]).toEqual([200, "ordered tea"])
    expect((yield* Http.send(`${http}/api/nothing`)).status).toBe(404)
  })

/** A plain socket gets what it sends. */
const echoes = (ws: string) =>
  Effect.gen(function* () {
    const socket = yield* Socket.open(`${ws}/channels/public:lobby`)
    socket.send("through")
    yield* socket.gets("through")
    expect(socket.received).toEqual(["through"])
    return socket
  })

for (const [framework, program] of Object.entries(programs)) {
  row(framework, "routes below /api/, /health/ and /channels/, without an API key", () =>
    Effect.gen(function* () {
      const server = yield* Embedded.embed(yield* program)
      yield* hasItsRoutes(server.http)
      expect((yield* Http.send(`${server.http}/api/publish`, { method: "POST" })).status).toBe(404)
      expect((yield* Http.send(`${server.http}/health/ready`)).body).toContain('"status":"ok"')
    })
  )

  row(framework, "sockets and the server API beside its routes", () =>
    Effect.gen(function* () {
      const server = yield* Embedded.embed(yield* program, { config: Api.keyed })
      const socket = yield* echoes(server.ws)
      yield* Socket.open(`${server.ws}/connection/websocket`)
      const api = yield* Api.make(server.http)
      yield* api.result("publish", { channel: "public:lobby", data: "from a back end" })
      yield* socket.gets("from a back end")
      yield* hasItsRoutes(server.http)
    })
  )

  row(framework, "a WebSocketServer of the program's, made after Fanfare", () =>
    Effect.gen(function* () {
      const http = yield* program
      const server = yield* Embedded.embed(http)
      const own = yield* Effect.acquireRelease(
        Effect.sync(() => new WebSocketServer({ server: http, path: "/own" })),
        (made) =>
          Effect.sync(() => {
            for (const ws of made.clients) ws.terminate()
            made.close()
          })
      )
      own.on("connection", (ws) => ws.send("the program's"))
      yield* (yield* Socket.open(`${server.ws}/own`)).gets("the program's")
      yield* echoes(server.ws)
      yield* hasItsRoutes(server.http)
    })
  )

  row(framework, "a client that offers HTTP/2 with each request, as that of the JDK does", () =>
    Effect.gen(function* () {
      const server = yield* Embedded.embed(yield* program, { config: Api.keyed })
      const tcp = yield* Tcp.open(server.port)
      const post = (path: string, body: string): string =>
        [
          `POST ${path} HTTP/1.1`,
          "Host: localhost",
          "Connection: Upgrade, HTTP2-Settings",
          "Upgrade: h2c",
          "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
          "Content-Type: text/plain",
          `X-API-Key: ${Api.KEY}`,
          `Content-Length: ${body.length}`,
          "",
          body
        ].join("\r\n")
      tcp.write(post("/api/orders", "coffee"))
      yield* tcp.gets("ordered coffee")
      tcp.write(post("/api/publish", '{"channel":"public:lobby","data":1}'))
      yield* tcp.gets('{"result":{')
      tcp.write(post("/api/orders", "tea"))
      yield* tcp.gets("ordered tea")
      expect(tcp.isClosed()).toBe(false)
    })
  )

  row(framework, "a second Server.layer before the first is closed, as hot reload does; then none", () =>
    Effect.gen(function* () {
      const http = yield* program
      const before = ["request", "upgrade"].map((event) => http.rawListeners(event))
      const first = yield* Embedded.embed(http)
      const early = yield* echoes(first.ws)
      const second = yield* Embedded.embed(http)
      const late = yield* echoes(second.ws)
      yield* first.close
      expect((yield* early.closed).code).toBe(3001)
      yield* hasItsRoutes(second.http)
      yield* echoes(second.ws)
      yield* second.close
      expect((yield* late.closed).code).toBe(3001)
      yield* hasItsRoutes(second.http)
      expect((yield* Http.send(`${second.http}/health/ready`)).status).toBe(404)
      expect(["request", "upgrade"].map((event) => http.rawListeners(event))).toEqual(before)
      expect(Object.hasOwn(http, "emit")).toBe(false)
    })
  )
}

row("Vite", "its own socket for hot reload, and a restart while Fanfare runs", () =>
  Effect.gen(function* () {
    const { server: http, vite } = yield* withVite
    const server = yield* Embedded.embed(http)
    const hot = () =>
      Socket.open(`${server.ws}/?token=${vite.config.webSocketToken}`, { protocols: ["vite-hmr"] }).pipe(
        Effect.tap((socket) => socket.gets('"type":"connected"'))
      )
    yield* hot()
    yield* echoes(server.ws)
    const before = http.rawListeners("upgrade")
    yield* Effect.promise(() => vite.restart())
    yield* eventually(
      Effect.sync(() => http.rawListeners("upgrade")),
      (listeners) => listeners.length === before.length && listeners.every((listener) => !before.includes(listener)),
      "Vite has put another listener for upgrades in place of its own"
    )
    yield* hot()
    yield* echoes(server.ws)
    yield* hasItsRoutes(server.http)
    const after = http.rawListeners("upgrade")
    yield* server.close
    expect(http.rawListeners("upgrade")).toEqual(after)
    yield* hot()
  })
)

isDocumented()
