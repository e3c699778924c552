import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as ServerConfig from "../src/ServerConfig.ts"
import * as Embedded from "./support/embedded.ts"
import { live } from "./support/it.ts"
import { freePort } from "./support/redis.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"
import * as Tcp from "./support/tcp.ts"
import { eventually } from "./support/wait.ts"

const ASK = "GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"

/** A connection on which a request has been answered, and that is idle now. */
const idle = (port: number) =>
  Effect.tap(Tcp.open(port), (tcp) => {
    tcp.write(ASK)
    return tcp.gets('"status":')
  })

describe("http_server.keep_alive_timeout", () => {
  live("is longer by default than balancers and proxies keep their connections, and said to clients", () =>
    Effect.gen(function* () {
      const server = yield* Server.start()
      expect((yield* idle(server.port)).received()).toMatch(/^keep-alive: timeout=75\r$/im)
    })
  )

  live("closes a connection that is idle for so long, on the internal port as well, and none in use", () =>
    Effect.gen(function* () {
      const internal_port = yield* freePort
      const server = yield* Server.start({ config: { http_server: { keep_alive_timeout: "2s", internal_port } } })
      const socket = yield* Socket.open(`${server.ws}/channels/public:a`)
      const tcp = yield* Tcp.open(server.port)
      tcp.write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
      yield* tcp.gets("Keep-Alive: timeout=2\r\n")
      const internal = yield* idle(internal_port)
      yield* tcp.closed
      yield* internal.closed
      socket.send("here")
      yield* socket.gets("here")
    })
  )

  live("of a program's own server is never changed", () =>
    Effect.gen(function* () {
      const http = yield* Embedded.web()
      http.keepAliveTimeout = 33_000
      const server = yield* Embedded.embed(http, { config: { http_server: { keep_alive_timeout: "600s" } } })
      expect((yield* idle(server.port)).received()).toMatch(/^keep-alive: timeout=33\r$/im)
      yield* server.close
      expect(http.keepAliveTimeout).toBe(33_000)
    })
  )

  it("is above 0, and at most a day", () => {
    const isValid = (keep_alive_timeout: string): boolean =>
      Either.isRight(ServerConfig.load({ http_server: { keep_alive_timeout } }))
    expect(["1s", "620s", "24h"].filter((value) => !isValid(value))).toEqual([])
    expect(["0s", "25h", "-1s"].filter(isValid)).toEqual([])
  })
})

/** A server that is held in its drain, until `release`, by a plain socket's handshake that waits for a decision. */
const draining = (shutdown: object, internal_port: number) =>
  Effect.gen(function* () {
    const scope = yield* Effect.acquireRelease(Scope.make(), (owned) => Scope.close(owned, Exit.void))
    const latch = yield* Effect.makeLatch(false)
    const server = yield* Scope.extend(
      Server.start({
        config: { shutdown: { timeout: "30s", ...shutdown }, http_server: { internal_port } },
        hooks: { onPublish: () => latch.await }
      }),
      scope
    )
    const socket = yield* Socket.open(`${server.ws}/channels/public:a`)
    socket.send("held")
    return { server, release: latch.open, close: Scope.close(scope, Exit.void) }
  })

describe("a drain", () => {
  live("closes idle connections at once, on both ports, long before it ends; whoever asks is told to close", () =>
    Effect.gen(function* () {
      const internal_port = yield* freePort
      const { close, release, server } = yield* draining({}, internal_port)
      const main = yield* Tcp.open(server.port)
      main.write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
      yield* main.gets("</html>")
      const internal = yield* idle(internal_port)
      const closing = yield* Effect.fork(close)
      yield* main.closed
      yield* internal.closed
      const late = yield* Tcp.open(internal_port)
      late.write(ASK.replace("live", "ready"))
      yield* late.gets('"status":"draining"')
      expect(late.received()).toMatch(/^HTTP\/1.1 503 [^]*^connection: close\r$/im)
      yield* late.closed
      expect(server.connections.count()).toBe(1)
      yield* release
      yield* Fiber.join(closing)
    })
  )

  live("leaves them for shutdown.delay, and closes each with the answer to its next request", () =>
    Effect.gen(function* () {
      const internal_port = yield* freePort
      const { close, release, server } = yield* draining({ delay: "1s" }, internal_port)
      const unused = yield* idle(internal_port)
      const used = yield* idle(internal_port)
      const closing = yield* Effect.fork(close)
      yield* eventually(
        Effect.sync(() => server.connections.phase()),
        (phase) => phase === "Draining",
        "the drain begins"
      )
      used.write(ASK)
      yield* used.gets("connection: close\r\n")
      yield* used.closed
      expect([server.connections.phase(), unused.isClosed()]).toEqual(["Draining", false])
      yield* unused.closed
      expect(server.connections.phase()).toBe("Closed")
      yield* release
      yield* Fiber.join(closing)
    })
  )
})
