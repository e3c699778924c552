import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { readFileSync } from "node:fs"
import type { Server as NodeServer } from "node:http"
import { createServer } from "node:https"
import { type AddressInfo, connect as connectTcp } from "node:net"
import { connect, createServer as createTlsServer } from "node:tls"
import { WebSocketServer } from "ws"
import * as Api from "./support/api.ts"
import * as Embedded from "./support/embedded.ts"
import { live } from "./support/it.ts"
import { freePort } from "./support/redis.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"
import * as Tcp from "./support/tcp.ts"
import { Watched } from "./support/wait.ts"

/** What the HTTP client of the JDK and `curl --http2` send along with any request. */
const H2C = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"]

const KEY = `X-API-Key: ${Api.KEY}`

const request = (line: string, headers: ReadonlyArray<string>, body = ""): string =>
  `${[`${line} HTTP/1.1`, "Host: localhost", ...headers].join("\r\n")}\r\n\r\n${body}`

const chunked = (...parts: ReadonlyArray<string>): string =>
  [...parts, ""].map((part) => `${part.length.toString(16)}\r\n${part}\r\n`).join("")

const length = (body: string): string => `Content-Length: ${body.length}`

/** A program that says what it got, and counts requests and connections. */
const program = Effect.gen(function* () {
  const watched = new Watched()
  const counts = { requests: 0, connections: 0 }
  let held: Array<() => void> = []
  const http = yield* Embedded.web((incoming, response) => {
    counts.requests++
    watched.changed()
    let body = ""
    incoming.setEncoding("latin1").on("data", (part: string) => {
      body += part
    })
    incoming.on("end", () => {
      const answer = (): void => {
        response.end(`${incoming.method} ${incoming.url} ${incoming.headers.upgrade} <${body}>`)
      }
      if (incoming.url === "/held") held.push(answer)
      else answer()
    })
  })
  http.on("connection", () => counts.connections++)
  return {
    http,
    counts,
    /** Waits until so many requests have come. */
    gets: (count: number) =>
      watched.until(
        () => counts.requests >= count,
        () => `${count} requests, not ${counts.requests}`
      ),
    /** Answers what is held back. */
    release: () => {
      for (const answer of held) answer()
      held = []
    }
  }
})

const webSockets = (server: NodeServer): Effect.Effect<WebSocketServer, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => new WebSocketServer({ server, path: "/hot" })),
    (made) =>
      Effect.sync(() => {
        for (const ws of made.clients) ws.terminate()
        made.close()
      })
  )

describe("a request that offers Upgrade: h2c", () => {
  live("standalone: is carried out, with its body, and the connection is kept", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: Api.keyed })
      const tcp = yield* Tcp.open(server.port)
      const body = '{"channel":"public:a","data":{"n":1}}'
      tcp.write(request("POST /api/publish", [KEY, ...H2C, length(body)], body))
      yield* tcp.gets('"offset":1}}')
      tcp.write(request("POST /api/publish", [KEY, ...H2C, "Transfer-Encoding: chunked"], chunked(body)))
      yield* tcp.gets('"offset":2}}')
      tcp.write(request("GET /health/live", H2C))
      yield* tcp.gets('"status":"ok"')
      tcp.write(request("GET /nothing", H2C))
      yield* tcp.gets("HTTP/1.1 404 ")
      tcp.write(request("GET /connection/websocket", H2C))
      yield* tcp.gets("HTTP/1.1 426 ")
      tcp.write(request("GET /health/ready", []))
      yield* tcp.gets('"status":"ok"', 2)
      expect(tcp.isClosed()).toBe(false)
    })
  )

  live("standalone, on the internal port: likewise", () =>
    Effect.gen(function* () {
      const internal_port = yield* freePort
      yield* Server.start({ config: { ...Api.keyed, http_server: { internal_port } } })
      const tcp = yield* Tcp.open(internal_port)
      tcp.write(request("POST /api/info", [KEY, ...H2C, "Content-Length: 2"], "{}"))
      yield* tcp.gets('{"result":{"nodes":')
    })
  )

  for (const [beside, isListening] of [
    ["", false],
    [" beside a WebSocketServer", true]
  ] as const) {
    live(`embedded${beside}: reaches the program's routes, and Fanfare's, each with its body`, () =>
      Effect.gen(function* () {
        const { counts, http } = yield* program
        const hot = isListening ? yield* webSockets(http) : undefined
        const server = yield* Embedded.embed(http, { config: Api.keyed })
        const tcp = yield* Tcp.open(server.port)
        tcp.write(request("POST /own", [...H2C, length("hello")], "hello"))
        yield* tcp.gets("POST /own h2c <hello>")
        tcp.write(request("POST /api/info", [KEY, ...H2C, length("{}")], "{}"))
        yield* tcp.gets('{"result":{"nodes":')
        // Far more often than listeners may be added to a socket without a warning.
        for (let turn = 1; turn <= 20; turn++) {
          tcp.write(request(`PUT /turn/${turn}`, [...H2C, "Transfer-Encoding: chunked"], chunked("hel", "lo")))
          yield* tcp.gets(`PUT /turn/${turn} h2c <hello>`)
        }
        expect(counts).toEqual({ requests: 21, connections: 1 })
        expect(tcp.isClosed()).toBe(false)
        if (hot === undefined) return
        yield* Socket.open(`${server.ws}/hot`)
        expect(hot.clients.size).toBe(1)
      })
    )
  }

  live("embedded: however it is cut into segments", () =>
    Effect.gen(function* () {
      const { http } = yield* program
      const server = yield* Embedded.embed(http)
      const body = "x".repeat(300)
      const bytes = request("POST /own", [...H2C, length(body)], body)
      for (const cuts of [[1], [40, 90], [bytes.indexOf("\r\n\r\n") + 4], [bytes.length - 299], [bytes.length - 1]]) {
        const tcp = yield* Tcp.open(server.port)
        let from = 0
        for (const cut of [...cuts, bytes.length]) {
          tcp.write(bytes.slice(from, cut))
          from = cut
          // Another connection's answer shows that the server has read what was written here before.
          const other = yield* Tcp.open(server.port)
          other.write(request("GET /other", []))
          yield* other.gets("GET /other undefined <>")
        }
        yield* tcp.gets(`POST /own h2c <${body}>`)
      }
    })
  )

  live("embedded: with Expect: 100-continue, and as the last one of its connection", () =>
    Effect.gen(function* () {
      const { http } = yield* program
      const server = yield* Embedded.embed(http)
      const tcp = yield* Tcp.open(server.port)
      tcp.write(request("POST /own", [...H2C, "Expect: 100-continue", length("hello")]))
      yield* tcp.gets("HTTP/1.1 100 Continue\r\n\r\n")
      tcp.write("hello")
      yield* tcp.gets("POST /own h2c <hello>")
      tcp.write(request("GET /last", ["Connection: close, Upgrade", "Upgrade: h2c"]))
      yield* tcp.gets("GET /last h2c <>")
      yield* tcp.closed
    })
  )

  live("embedded: with others before and behind it on the connection, answered in their order", () =>
    Effect.gen(function* () {
      const { gets, http, release } = yield* program
      const server = yield* Embedded.embed(http)
      const tcp = yield* Tcp.open(server.port)
      tcp.write(request("GET /held", []))
      yield* gets(1)
      tcp.write(request("GET /second", []) + request("POST /third", [...H2C, length("three")], "three"))
      // It is there once the ones before it have been answered at the latest.
      yield* gets(2)
      release()
      yield* tcp.gets("POST /third h2c <three>")
      tcp.write(request("GET /fourth", []))
      yield* tcp.gets("GET /fourth undefined <>")
      const order = Array.from(tcp.received().matchAll(/^(?:GET|POST) (\S+)/gm), ([, path]) => path)
      expect(order).toEqual(["/held", "/second", "/third", "/fourth"])
      expect(tcp.isClosed()).toBe(false)
    })
  )

  live("embedded: whose client goes away before those in front of it are answered harms nobody", () =>
    Effect.gen(function* () {
      const { gets, http, release } = yield* program
      const server = yield* Embedded.embed(http)
      yield* Effect.scoped(
        Effect.gen(function* () {
          const tcp = yield* Tcp.open(server.port)
          tcp.write(request("GET /held", []))
          yield* gets(1)
          tcp.write(request("GET /own", H2C))
        })
      )
      const other = yield* Tcp.open(server.port)
      other.write(request("GET /other", H2C))
      yield* other.gets("GET /other h2c <>")
      release()
      other.write(request("GET /again", H2C))
      yield* other.gets("GET /again h2c <>")
    })
  )

  live("standalone: whose client reads nothing does not keep its connection when the server ends", () =>
    Effect.gen(function* () {
      const scope = yield* Effect.acquireRelease(Scope.make(), (owned) => Scope.close(owned, Exit.void))
      const server = yield* Scope.extend(Server.start(), scope)
      const watched = new Watched()
      let isClosed = false
      const client = yield* Effect.acquireRelease(
        Effect.sync(() => connectTcp({ port: server.port, host: "127.0.0.1" })),
        (socket) => Effect.sync(() => socket.destroy())
      )
      client.on("error", () => undefined)
      client.on("close", () => {
        isClosed = true
        watched.changed()
      })
      client.pause()
      // More answers than the system takes from the server, so that the last request waits for them.
      client.write(request("GET /", []).repeat(1500) + request("GET /health/live", H2C))
      // Answers to another connection show that the server has answered what came before on this one.
      const other = yield* Tcp.open(server.port)
      for (let turn = 1; turn <= 20; turn++) {
        other.write(request("GET /", []))
        yield* other.gets("</html>", turn)
      }
      yield* Scope.close(scope, Exit.void)
      client.resume()
      yield* watched.until(() => isClosed, "the server has closed the connection")
    })
  )

  live("embedded: with the offer in Proxy-Connection, which Node's parser takes for Connection", () =>
    Effect.gen(function* () {
      const { counts, http } = yield* program
      const server = yield* Embedded.embed(http)
      const tcp = yield* Tcp.open(server.port)
      tcp.write(request("POST /own", ["Proxy-Connection: Upgrade", "Upgrade: h2c", length("hello")], "hello"))
      yield* tcp.gets("POST /own h2c <hello>")
      tcp.write(request("GET /next", []))
      yield* tcp.gets("GET /next undefined <>")
      expect(counts.requests).toBe(2)
    })
  )

  live("embedded: with more headers than Node keeps, nothing in its body is taken for a request", () =>
    Effect.gen(function* () {
      const { counts, http } = yield* program
      const server = yield* Embedded.embed(http)
      const tcp = yield* Tcp.open(server.port)
      const body = request("GET /smuggled", [])
      const many = Array.from({ length: 1100 }, () => "a:")
      tcp.write(request("POST /own", [...H2C, ...many, length(body)], body))
      // A runtime with `shouldUpgradeCallback` has read it by itself.
      yield* tcp.gets("HTTP/1.1 ")
      const other = yield* Tcp.open(server.port)
      other.write(request("GET /other", []))
      yield* other.gets("GET /other undefined <>")
      expect(tcp.received()).not.toContain("GET /smuggled undefined")
      expect(counts.requests).toBeLessThanOrEqual(2)
      if (!("shouldUpgradeCallback" in http)) {
        expect(tcp.received()).toMatch(/^HTTP\/1.1 431 /)
        yield* tcp.closed
      }
    })
  )

  live("is no longer than it was: headers that Node accepts at its bound are accepted", () =>
    Effect.gen(function* () {
      const { http } = yield* program
      const server = yield* Embedded.embed(http)
      const tcp = yield* Tcp.open(server.port)
      const cookie = `Cookie:${"x".repeat(16_000)}`
      tcp.write(request("GET /own", [...H2C, cookie]))
      yield* tcp.gets("GET /own h2c <>")
    })
  )
})

describe("a request over TLS that offers what is no upgrade", () => {
  const file = (name: string): string => readFileSync(new URL(`fixtures/${name}`, import.meta.url), "utf8")
  const certificate = { cert: file("redis.crt"), key: file("redis.key") }

  /** Sends two on one connection to a port, and waits for their bodies in the answers. */
  const isEchoed = (port: number) =>
    Effect.gen(function* () {
      const watched = new Watched()
      let received = ""
      const tls = yield* Effect.acquireRelease(
        Effect.sync(() => connect({ port, host: "127.0.0.1", rejectUnauthorized: false })),
        (socket) => Effect.sync(() => socket.destroy())
      )
      tls.setEncoding("latin1").on("data", (text: string) => {
        received += text
        watched.changed()
      })
      for (const body of ["first", "second"]) {
        tls.write(request("POST /own", [...H2C, length(body)], body))
        yield* watched.until(
          () => received.includes(body),
          () => `${body}; received:\n${received}`
        )
      }
    })

  live("reaches the program's routes, with its body, and the connection is kept", () =>
    Effect.gen(function* () {
      const http = yield* Embedded.listen(
        createServer(certificate, (incoming, response) => {
          incoming.pipe(response)
        })
      )
      yield* Embedded.embed(http)
      yield* isEchoed(Embedded.portOf(http))
    })
  )

  live("likewise where a server without TLS is handed the sockets of one that has it", () =>
    Effect.gen(function* () {
      const http = yield* Embedded.web((incoming, response) => {
        incoming.pipe(response)
      })
      yield* Embedded.embed(http)
      const front = createTlsServer(certificate, (socket) => http.emit("connection", socket))
      yield* Effect.acquireRelease(
        Effect.async<void>((resume) => {
          front.listen(0, "127.0.0.1", () => resume(Effect.void))
        }),
        () => Effect.sync(() => front.close())
      )
      yield* isEchoed((front.address() as AddressInfo).port)
    })
  )
})

describe("a request that offers another protocol", () => {
  const STRANGE = ["Connection: Upgrade", "Upgrade: strange/1"]

  live("is the program's upgrade where it listens for upgrades, else an ordinary request", () =>
    Effect.gen(function* () {
      const { http } = yield* program
      const server = yield* Embedded.embed(http)
      const ordinary = yield* Tcp.open(server.port)
      ordinary.write(request("POST /own", [...STRANGE, length("hello")], "hello"))
      yield* ordinary.gets("POST /own strange/1 <hello>")
      http.on("upgrade", (incoming, socket) => socket.end(`HTTP/1.1 101 Strange\r\n\r\n${incoming.url}`))
      const upgraded = yield* Tcp.open(server.port)
      upgraded.write(request("GET /own", STRANGE))
      yield* upgraded.gets("HTTP/1.1 101 Strange\r\n\r\n/own")
      // On a path of ours it is neither.
      const ours = yield* Tcp.open(server.port)
      ours.write(request("GET /health/live", STRANGE))
      yield* ours.gets('"status":"ok"')
      ours.write(request("GET /connection/websocket", STRANGE))
      yield* ours.gets("the request offers Upgrade: strange/1")
    })
  )

  live("a WebSocket by another method than GET is no upgrade", () =>
    Effect.gen(function* () {
      const { http } = yield* program
      const server = yield* Embedded.embed(http)
      const tcp = yield* Tcp.open(server.port)
      const websocket = ["Connection: Upgrade", "Upgrade: websocket"]
      tcp.write(request("POST /own", [...websocket, length("hello")], "hello"))
      yield* tcp.gets("POST /own websocket <hello>")
      tcp.write(request("POST /connection/websocket", [...websocket, length("hello")], "hello"))
      yield* tcp.gets("HTTP/1.1 405 ")
      tcp.write(request("GET /own", []))
      yield* tcp.gets("GET /own undefined <>")
    })
  )

  live("a program's own shouldUpgradeCallback is asked for what is not Fanfare's, where the runtime has one", () =>
    Effect.gen(function* () {
      const { http } = yield* program
      if (!("shouldUpgradeCallback" in http)) return expect(process.versions.node).toMatch(/^20\./)
      const asked: Array<string> = []
      const own = Object.assign(http, {
        shouldUpgradeCallback: (incoming: { url: string }) => (asked.push(incoming.url), false)
      }).shouldUpgradeCallback
      http.on("upgrade", (_incoming, socket) => socket.destroy())
      const server = yield* Embedded.embed(http)
      const tcp = yield* Tcp.open(server.port)
      tcp.write(request("GET /own", STRANGE))
      yield* tcp.gets("GET /own strange/1 <>")
      yield* Socket.open(`${server.ws}/channels/public:a`)
      expect(asked).toEqual(["/own"])
      yield* server.close
      expect(http).toHaveProperty("shouldUpgradeCallback", own)
    })
  )
})
