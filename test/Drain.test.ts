import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { connect } from "node:net"
import { live } from "./support/it.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"
import { Watched } from "./support/wait.ts"

/** A server in a scope that the test closes itself. */
const start = (options: Server.Options) =>
  Effect.gen(function* () {
    const scope = yield* Effect.acquireRelease(Scope.make(), (owned) => Scope.close(owned, Exit.void))
    const server = yield* Scope.extend(Server.start(options), scope)
    return { ...server, close: Scope.close(scope, Exit.void) }
  })

describe("drain", () => {
  live("a command that does not finish keeps nobody from being closed with 3001", () =>
    Effect.gen(function* () {
      const watched = new Watched()
      let called = false
      const server = yield* start({
        config: { shutdown: { timeout: "2s" } },
        hooks: {
          onRpc: () =>
            Effect.suspend(() => {
              called = true
              watched.changed()
              return Effect.never
            })
        }
      })
      const others = yield* Effect.all(
        Array.from({ length: 5 }, () => Socket.open(`${server.ws}/channels/public:lobby`))
      )
      const stuck = yield* Socket.open(`${server.ws}/connection/websocket`)
      stuck.send('{"id":1,"connect":{}}\n{"id":2,"rpc":{"method":"x"}}')
      yield* watched.until(() => called, "the command runs")
      yield* server.close
      for (const socket of [...others, stuck]) {
        expect(yield* socket.closed).toEqual({ code: 3001, reason: "shutdown" })
      }
    })
  )

  live("an upgrade in the middle of its decision is answered, and its socket closed", () =>
    Effect.gen(function* () {
      const watched = new Watched()
      let asked = false
      const server = yield* start({
        hooks: {
          onConnect: () =>
            Effect.suspend(() => {
              asked = true
              watched.changed()
              return Effect.never
            })
        }
      })
      let answer = ""
      let closed = false
      const socket = yield* Effect.acquireRelease(
        Effect.sync(() => connect(server.port, "127.0.0.1")),
        (one) => Effect.sync(() => one.destroy())
      )
      socket.setEncoding("utf8").on("data", (text: string) => {
        answer += text
      })
      socket.on("close", () => {
        closed = true
        watched.changed()
      })
      socket.write(
        "GET /channels/public:lobby HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
          "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
      )
      yield* watched.until(() => asked, "the hook is asked")
      yield* server.close
      yield* watched.until(() => closed, "the socket is closed")
      expect(answer).toMatch(/^HTTP\/1\.1 503 /)
    })
  )

  live("onDisconnect is told once, of a peer that does not answer the close frame, too", () =>
    Effect.gen(function* () {
      const told: Array<number> = []
      const server = yield* start({
        config: { shutdown: { timeout: "1s" } },
        hooks: { onDisconnect: (_, { code }) => Effect.sync(() => told.push(code)) }
      })
      const deaf = yield* Socket.open(`${server.ws}/channels/public:lobby`)
      deaf.pause()
      yield* server.close
      expect(told).toEqual([3001])
    })
  )
})
