import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { Server as NodeServer } from "node:http"
import { WebSocketServer } from "ws"
import * as Hooks from "../src/Hooks.ts"
import * as Embedded from "./support/embedded.ts"
import * as Http from "./support/http.ts"
import { live } from "./support/it.ts"
import * as Sdk from "./support/sdk.ts"
import * as Socket from "./support/socket.ts"
import { eventually } from "./support/wait.ts"

/** An HTTP server of a user's own that listens; it answers one route. */
const listening = (answer: string) =>
  Embedded.web((request, response) => {
    if (request.url === "/own") response.end(answer)
  })

/** Fanfare on an HTTP server of the user's, in a scope of its own. */
const embed = (http: NodeServer, hooks: Embedded.Options["hooks"] = {}) => Embedded.embed(http, { hooks })

const listeners = (server: NodeServer): ReadonlyArray<number> =>
  ["request", "upgrade"].map((event) => server.listenerCount(event))

describe("Server.layer", () => {
  live("makes two servers in one process; closing the scope of one ends it and leaves the other alone", () =>
    Effect.gen(function* () {
      const [webA, webB] = [yield* listening("A"), yield* listening("B")]
      const before = listeners(webA)
      const a = yield* embed(webA, {
        onPublish: () => Effect.fail(new Hooks.Rejected({ code: 403, message: "A is read-only" }))
      })
      const b = yield* embed(webB)
      expect((yield* Http.send(`${a.http}/own`)).body).toBe("A")
      expect((yield* Http.send(`${b.http}/own`)).body).toBe("B")

      const inA = yield* Socket.open(`${a.ws}/channels/public:lobby`)
      const writerA = yield* Socket.open(`${a.ws}/channels/public:other`)
      const clientA = yield* Sdk.connect(a.ws)
      const inB = yield* Socket.open(`${b.ws}/channels/public:lobby`)
      yield* a.publisher.publish("public:lobby", "from A")
      inB.send("from B")
      yield* inA.count(1)
      yield* inB.count(1)
      writerA.send("refused by the hook of A")
      expect(yield* writerA.closed).toEqual({ code: 3507, reason: "A is read-only" })

      const left = Effect.async<number>((resume) => {
        clientA.once("connecting", ({ code }) => resume(Effect.succeed(code)))
      })
      const [plain, code] = yield* Effect.all([inA.closed, left, a.close], { concurrency: "unbounded" })
      expect(plain).toEqual({ code: 3001, reason: "shutdown" })
      expect(code).toBe(3001)
      clientA.disconnect()
      expect(listeners(webA)).toEqual(before)
      expect(webA.listening).toBe(true)
      expect((yield* Http.send(`${a.http}/own`)).body).toBe("A")

      const alsoInB = yield* Socket.open(`${b.ws}/channels/public:lobby`)
      yield* b.publisher.publish("public:lobby", { after: "A" })
      yield* alsoInB.count(1)
      yield* inB.count(2)
      expect(inA.received).toEqual(['"from A"'])
      expect(inB.received).toEqual(["from B", '{"after":"A"}'])
      expect((yield* Http.send(`${b.http}/health/ready`)).status).toBe(200)

      // The user's HTTP server can be given another one.
      const again = yield* embed(webA)
      const inAgain = yield* Socket.open(`${again.ws}/channels/public:lobby`)
      inAgain.send("once")
      yield* inAgain.count(1)
      yield* again.close
      expect(inAgain.received).toEqual(["once"])
      expect(listeners(webA)).toEqual(before)
    })
  )

  live("leaves routes and upgrades alone that are not its own", () =>
    Effect.gen(function* () {
      const web = yield* listening("own")
      const seen: Array<string> = []
      const other = yield* Effect.acquireRelease(
        Effect.sync(() => new WebSocketServer({ noServer: true })),
        (server) =>
          Effect.sync(() => {
            for (const ws of server.clients) ws.terminate()
            server.close()
          })
      )
      other.on("connection", (ws) => ws.on("message", (data) => ws.send(`other: ${String(data)}`)))
      web.on("request", (request) => seen.push(request.url ?? ""))
      web.on("upgrade", (request, socket, head) => {
        if (request.url === "/other") other.handleUpgrade(request, socket, head, (ws) => other.emit("connection", ws))
      })
      const server = yield* embed(web)

      const foreign = yield* Socket.open(`${server.ws}/other`)
      const plain = yield* Socket.open(`${server.ws}/channels/public:lobby`)
      foreign.send("hello")
      plain.send("hello")
      yield* foreign.count(1)
      yield* plain.count(1)
      expect(foreign.received).toEqual(["other: hello"])
      expect(plain.received).toEqual(["hello"])

      // `/` is the standalone server's; here it is the user's.
      web.once("request", (_request, response) => response.end("the user's page"))
      expect((yield* Http.send(`${server.http}/`)).body).toBe("the user's page")
      expect((yield* Http.send(`${server.http}/own`)).body).toBe("own")
      expect(seen).toEqual(["/", "/own"])

      yield* server.close
      expect(yield* plain.closed).toEqual({ code: 3001, reason: "shutdown" })
      foreign.send("still here")
      yield* foreign.count(2)
      const late = yield* Socket.open(`${server.ws}/other`)
      late.send("too")
      yield* late.count(1)
      expect(foreign.isClosed()).toBe(false)
      foreign.ws.close()
      late.ws.close()
      yield* eventually(
        Effect.sync(() => other.clients.size),
        (count) => count === 0,
        "the user's sockets are closed"
      )
    })
  )

  live(
    "keeps its paths beside a handler that answers everything and a WebSocketServer that refuses all but its own",
    () =>
      Effect.gen(function* () {
        const web = yield* listening("own")
        web.on("request", (_request, response) => {
          if (!response.writableEnded) response.writeHead(404).end("not found by the framework")
        })
        const other = yield* Effect.acquireRelease(
          Effect.sync(() => new WebSocketServer({ server: web, path: "/other" })),
          (server) =>
            Effect.sync(() => {
              for (const ws of server.clients) ws.terminate()
              server.close()
            })
        )
        other.on("connection", (ws) => ws.send("other"))
        const server = yield* embed(web)
        expect((yield* Http.send(`${server.http}/health/ready`)).status).toBe(200)
        expect((yield* Http.send(`${server.http}/nothing`)).body).toBe("not found by the framework")
        const plain = yield* Socket.open(`${server.ws}/channels/public:lobby`)
        plain.send("through")
        yield* plain.gets("through")
        yield* (yield* Socket.open(`${server.ws}/other`)).gets("other")
        expect((yield* Socket.refusal(`${server.ws}/nothing`)).status).toBe(400)
      })
  )

  live("answers upgrades that nobody owns with 404", () =>
    Effect.gen(function* () {
      const web = yield* listening("own")
      const server = yield* embed(web)
      expect((yield* Socket.refusal(`${server.ws}/nothing`)).status).toBe(404)
    })
  )
})
