import { describe, expect } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Scope from "effect/Scope"
import { createServer, type Server as NodeServer } from "node:http"
import { connect, type AddressInfo } from "node:net"
import * as Hooks from "../src/Hooks.ts"
import * as Fanfare from "../src/Server.ts"
import * as ServerConfig from "../src/ServerConfig.ts"
import * as Api from "./support/api.ts"
import * as Http from "./support/http.ts"
import { live } from "./support/it.ts"
import * as Program from "./support/program.ts"
import { freePort } from "./support/redis.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"
import { eventually, Watched } from "./support/wait.ts"

const INTERNAL = ["/health/live", "/health/ready", "/metrics", "/openapi.json", "/docs"]

/** A server with an internal port, and where that is. */
const start = (http_server: object = {}, config: object = {}) =>
  Effect.gen(function* () {
    const internal_port = yield* freePort
    const server = yield* Server.start({
      config: { ...Api.keyed, ...config, http_server: { internal_port, ...http_server } }
    })
    return { server, internal_port, internal: `http://127.0.0.1:${internal_port}` }
  })

const info = (origin: string, path = "/api/info") =>
  Http.send(origin + path, { method: "POST", headers: { "X-API-Key": Api.KEY }, body: "{}" })

const status = (answer: Effect.Effect<Http.Response, Error>) => Effect.map(answer, ({ status }) => status)

/** Whether something listens there. */
const listens = (port: number, host = "127.0.0.1") =>
  Effect.gen(function* () {
    const watched = new Watched()
    let found: boolean | undefined
    const socket = connect(port, host)
    socket.on("connect", () => {
      found = true
      watched.changed()
    })
    socket.on("error", () => {
      found = false
      watched.changed()
    })
    yield* watched.until(() => found !== undefined, "an answer")
    socket.destroy()
    return found === true
  })

/** An HTTP server of somebody else. */
const other = (port: number): Effect.Effect<NodeServer, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.async<NodeServer>((resume) => {
      const server = createServer((_, response) => response.end("somebody else"))
      server.listen(port, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) =>
      Effect.async<void>((resume) => {
        server.close(() => resume(Effect.void))
        server.closeAllConnections()
      })
  )

describe("http_server.internal_port", () => {
  live("serves the API, its documentation, metrics and health, and nothing else; the main port only the others", () =>
    Effect.gen(function* () {
      const { internal, server } = yield* start()
      for (const path of INTERNAL) {
        expect([path, yield* status(Http.send(internal + path)), yield* status(Http.send(server.http + path))]).toEqual(
          [path, 200, 404]
        )
      }
      const api = yield* Api.make(internal)
      expect((yield* api.result("info", {})).nodes.length).toBe(1)
      for (const path of Object.keys(api.specification.paths).filter((path) => path.startsWith("/api/"))) {
        expect([path, yield* status(info(server.http, path))]).toEqual([path, 404])
      }
      expect(yield* status(Http.send(`${server.http}/`))).toBe(200)
      expect(yield* status(Http.send(`${server.http}/?page`))).toBe(200)
      expect(yield* status(Http.send(`${internal}/`))).toBe(404)
    })
  )

  live("nothing of it is found on the main port under another spelling", () =>
    Effect.gen(function* () {
      const { server } = yield* start()
      const spellings = [
        "/%61pi/info",
        "/api%2Finfo",
        "//api/info",
        "/API/info",
        "/api/info/",
        "/api/info?x",
        "/./api/info",
        "/x/../api/info",
        "/;/api/info",
        "http://localhost/api/info",
        "/?/api/info",
        "*"
      ]
      for (const path of spellings) {
        const watched = new Watched()
        let received = ""
        const socket = yield* Effect.acquireRelease(
          Effect.sync(() => connect(server.port, "127.0.0.1")),
          (socket) => Effect.sync(() => socket.destroy())
        )
        socket.on("error", () => undefined)
        socket.setEncoding("latin1").on("data", (text: string) => {
          received += text
          watched.changed()
        })
        socket.write(`POST ${path} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: ${Api.KEY}\r\nContent-Length: 2\r\n\r\n{}`)
        yield* watched.until(() => received.includes("\r\n\r\n"), "an answer")
        // The page is there, at its path with any query, and takes no POST.
        expect([path, received.slice(0, 12)]).toEqual([path, path.startsWith("/?") ? "HTTP/1.1 405" : "HTTP/1.1 404"])
      }
    })
  )

  live("sockets stay on the main port; no upgrade is accepted on the internal one", () =>
    Effect.gen(function* () {
      const { internal_port, server } = yield* start()
      for (const path of ["/channels/public:lobby", "/connection/websocket"]) {
        yield* Socket.open(server.ws + path)
        const refused = yield* Socket.refusal(`ws://127.0.0.1:${internal_port}${path}`)
        expect([path, refused.status]).toEqual([path, 404])
      }
      expect(server.connections.count()).toBe(2)
      // One that asks for more than a request is answered as the request that it is.
      const health = yield* Socket.refusal(`ws://127.0.0.1:${internal_port}/health/live`)
      expect([health.status, health.body]).toEqual([200, expect.stringContaining('"status":"ok"')])
    })
  )

  live("listens on host, or on http_server.internal_host", () =>
    Effect.gen(function* () {
      const beside = yield* start({ internal_host: "127.0.0.2" })
      expect(yield* status(Http.send(`http://127.0.0.2:${beside.internal_port}/health/live`))).toBe(200)
      expect(yield* listens(beside.internal_port)).toBe(false)
      const same = yield* start({}, { host: "127.0.0.2" })
      expect(yield* status(Http.send(`http://127.0.0.2:${same.internal_port}/health/live`))).toBe(200)
      expect(yield* listens(same.internal_port)).toBe(false)
    })
  )

  live("while the server drains its health is 503, and it closes last", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const { internal, internal_port, server } = yield* Scope.extend(
        start({}, { shutdown: { delay: "500ms", timeout: "5s" } }),
        scope
      )
      const socket = yield* Socket.open(`${server.ws}/channels/public:lobby`)
      const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
      const draining = yield* eventually(
        Http.send(`${internal}/health/ready`),
        ({ status }) => status === 503,
        "it is not ready"
      )
      expect(JSON.parse(draining.body)).toMatchObject({ status: "draining" })
      expect(yield* status(Http.send(`${internal}/health/live`))).toBe(200)
      expect(socket.isClosed()).toBe(false)
      expect((yield* socket.closed).code).toBe(3001)
      yield* Fiber.join(closing)
      expect([yield* listens(server.port), yield* listens(internal_port)]).toEqual([false, false])
    })
  )

  live("without it everything is served on the main port", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: Api.keyed })
      for (const path of ["/", ...INTERNAL]) {
        expect([path, yield* status(Http.send(server.http + path))]).toEqual([path, 200])
      }
      expect(yield* status(info(server.http))).toBe(200)
    })
  )
})

describe("a port that is taken", () => {
  live("ends the start with ListenError, and nothing is left listening, whichever port it is", () =>
    Effect.gen(function* () {
      for (const taken of ["internal_port", "port"] as const) {
        const ports = { internal_port: yield* freePort, port: yield* freePort }
        yield* other(ports[taken])
        const failed = yield* Effect.flip(
          Effect.scoped(
            Server.start({ config: { port: ports.port, http_server: { internal_port: ports.internal_port } } })
          )
        )
        expect(failed).toBeInstanceOf(Fanfare.ListenError)
        expect((failed as Fanfare.ListenError).message).toContain(`cannot listen on 127.0.0.1:${ports[taken]}`)
        const free = taken === "port" ? ports.internal_port : ports.port
        expect([taken, yield* listens(free)]).toEqual([taken, false])
      }
    })
  )

  live("the same port for both ends the program with 1 and one line", () =>
    Effect.gen(function* () {
      const port = String(yield* freePort)
      const program = yield* Program.spawnProgram({ env: { PORT: port, FANFARE_HTTP_SERVER_INTERNAL_PORT: port } })
      expect(yield* program.exit).toEqual({ code: 1, signal: null })
      const errors = program
        .output()
        .split("\n")
        .filter((line) => line.startsWith("fanfare: "))
      expect(errors).toEqual([expect.stringContaining(`FANFARE_HTTP_SERVER_INTERNAL_PORT: `)])
    })
  )
})

describe("the program with an internal port", () => {
  live("says where it is", () =>
    Effect.gen(function* () {
      const internal = String(yield* freePort)
      const env = { FANFARE_HTTP_SERVER_INTERNAL_PORT: internal, FANFARE_HTTP_API_KEY: Api.KEY }
      const program = yield* Program.start({ env })
      yield* program.says(`internal port: http://localhost:${internal} alone serves /metrics, /health/, /api/`)
      expect(yield* status(Http.send(`http://127.0.0.1:${internal}/metrics`))).toBe(200)
      expect(yield* status(Http.send(`${program.http}/metrics`))).toBe(404)
      program.signal("SIGTERM")
      expect(yield* program.exit).toEqual({ code: 0, signal: null })
    })
  )
})

/** Fanfare on a server of a program that has answers of its own. */
const embedded = (config: ServerConfig.Input) =>
  Effect.gen(function* () {
    const logs: Array<string> = []
    const logger = Logger.make(({ logLevel, message }) => void logs.push(`${logLevel.label} ${String(message)}`))
    const server = yield* other(0)
    yield* Layer.build(
      Fanfare.layer.pipe(
        Layer.provide(Hooks.layerConfig),
        Layer.provide(ServerConfig.layer(config)),
        Layer.provide(Layer.succeedContext(Context.make(Fanfare.HttpServer, server))),
        Layer.provide(Logger.replace(Logger.defaultLogger, logger))
      )
    )
    return { http: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, logs }
  })

describe("embedded", () => {
  live("an internal port is not used: a warning says so, and everything is served on the program's server", () =>
    Effect.gen(function* () {
      const internal_port = yield* freePort
      const { http, logs } = yield* embedded({ ...Api.keyed, http_server: { internal_port } })
      expect(logs.filter((line) => line.startsWith("WARN"))).toEqual([
        expect.stringContaining("http_server.internal_port: not used")
      ])
      expect(yield* listens(internal_port)).toBe(false)
      for (const path of INTERNAL) expect([path, yield* status(Http.send(http + path))]).toEqual([path, 200])
      expect(yield* status(info(http))).toBe(200)
      expect((yield* Http.send(`${http}/`)).body).toBe("somebody else")
    })
  )

  live("without a key /docs, /openapi.json and /api/ are the program's", () =>
    Effect.gen(function* () {
      const { http, logs } = yield* embedded({})
      for (const path of ["/docs", "/openapi.json", "/api/users", "/api/info"]) {
        expect((yield* Http.send(http + path)).body).toBe("somebody else")
      }
      expect((yield* info(http)).body).toBe("somebody else")
      expect(logs.filter((line) => line.startsWith("WARN"))).toEqual([])
    })
  )
})
