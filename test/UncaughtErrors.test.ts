import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { connect, createServer, type Server as NetServer, type Socket as NetSocket } from "node:net"
import type { AddressInfo } from "node:net"
import * as Api from "./support/api.ts"
import * as Http from "./support/http.ts"
import { live } from "./support/it.ts"
import * as Program from "./support/program.ts"
import * as Socket from "./support/socket.ts"
import { eventually } from "./support/wait.ts"

const UPGRADE = [
  "Host: localhost",
  "Upgrade: websocket",
  "Connection: Upgrade",
  "Sec-WebSocket-Version: 13",
  "Sec-WebSocket-Key: d2FybWluZyB1cCBhIGxvdA==",
  "",
  ""
].join("\r\n")

const withKey = (...headers: ReadonlyArray<string>): string =>
  ["Host: localhost", `X-API-Key: ${Api.KEY}`, ...headers, "", ""].join("\r\n")

/** What a connection sends before it breaks. */
const BEGINNINGS: Readonly<Record<string, string>> = {
  "a TLS handshake": "\u0016\u0003\u0001\u0002\u0000\u0001\u0000\u0001\u00fc\u0003\u0003\r\n\r\n",
  CONNECT: "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n",
  "a body that is awaited": `POST /api/publish HTTP/1.1\r\n${withKey("Expect: 100-continue", "Content-Length: 100")}`,
  "half a body": `POST /api/publish HTTP/1.1\r\n${withKey("Content-Length: 1000")}{"cha`,
  "a chunk that is none": `POST /api/publish HTTP/1.1\r\n${withKey("Transfer-Encoding: chunked")}ZZ\r\n`,
  "half a body without a key": 'POST /api/publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\n{"cha',
  "headers that are too long": `GET / HTTP/1.1\r\nHost: localhost\r\nX: ${"x".repeat(40_000)}\r\n\r\n`,
  "many requests": "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(50),
  "an upgrade of the client protocol": `GET /connection/websocket HTTP/1.1\r\n${UPGRADE}`,
  "an upgrade of a plain socket": `GET /channels/public:a HTTP/1.1\r\n${UPGRADE}`,
  "an upgrade that is refused": `GET /channels/none:a HTTP/1.1\r\n${UPGRADE}`,
  "an upgrade of no path": `GET /none HTTP/1.1\r\n${UPGRADE}`,
  "an upgrade without a key":
    "GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
  "an upgrade to HTTP/2": "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"
}

/** Sends the beginning, and breaks off: at once, with the answer, or in the middle of the same once more. */
const breaksOff = (port: number, text: string, how: "at once" | "answered" | "again") =>
  Effect.async<void>((resume) => {
    const socket = connect({ port, host: "127.0.0.1" })
    socket.on("error", () => undefined)
    socket.on("close", () => resume(Effect.void))
    socket.on("connect", () => {
      socket.write(text, "latin1", () => {
        if (how === "at once") socket.resetAndDestroy()
        // Not every beginning is answered.
        else setTimeout(() => socket.resetAndDestroy(), 50)
      })
      if (how === "again") socket.once("data", () => socket.write(text, "latin1", () => socket.resetAndDestroy()))
      else if (how === "answered") socket.once("data", () => socket.resetAndDestroy())
    })
  })

/** A collector of traces that answers in a way of its own. */
const collector = (answer: (socket: NetSocket) => void) =>
  Effect.acquireRelease(
    Effect.async<{ readonly server: NetServer; readonly asked: () => number; readonly end: () => void }>((resume) => {
      let asked = 0
      const sockets = new Set<NetSocket>()
      const server = createServer((socket) => {
        sockets.add(socket)
        socket.on("error", () => undefined)
        socket.once("data", () => {
          asked++
          answer(socket)
        })
      })
      const end = (): void => {
        for (const socket of sockets) socket.destroy()
      }
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed({ server, asked: () => asked, end })))
    }),
    ({ end, server }) =>
      Effect.async<void>((resume) => {
        end()
        server.close(() => resume(Effect.void))
      })
  )

describe("an error on a socket that somebody else opened", () => {
  live(
    "costs that socket, and never the process: of clients that break off, and of a collector that resets an upgrade",
    () =>
      Effect.gen(function* () {
        const { asked, server } = yield* collector((socket) => {
          socket.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", () =>
            setTimeout(() => socket.resetAndDestroy(), 20)
          )
        })
        const { port } = server.address() as AddressInfo
        const program = yield* Program.start({
          env: { FANFARE_HTTP_API_KEY: Api.KEY, OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}` }
        })
        for (const text of Object.values(BEGINNINGS)) {
          for (const how of ["at once", "answered", "again"] as const) yield* breaksOff(program.port, text, how)
        }
        const socket = yield* Socket.open(`${program.ws}/channels/public:a`)
        socket.send("still here")
        yield* socket.gets("still here")
        yield* eventually(Effect.sync(asked), (count) => count > 0, "traces are exported")
        yield* program.says("traces are not exported")
        expect((yield* Http.send(`${program.http}/health/ready`)).status).toBe(200)
        program.signal("SIGTERM")
        expect(yield* program.exit).toEqual({ code: 0, signal: null })
      })
  )
})
