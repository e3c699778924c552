import { describe, expect } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Scope from "effect/Scope"
import { type IncomingMessage, type RequestListener, Server as NodeServer } from "node:http"
import { WebSocketServer } from "ws"
import * as Embedded from "./support/embedded.ts"
import * as Http from "./support/http.ts"
import { live } from "./support/it.ts"
import * as Socket from "./support/socket.ts"
import * as Tcp from "./support/tcp.ts"

const OWN = ["emit", "listenerCount", "shouldUpgradeCallback"] as const

/** What a server has of its own under the names that are wrapped. */
const wrapped = (server: NodeServer): ReadonlyArray<unknown> =>
  OWN.map((name) => Object.getOwnPropertyDescriptor(server, name))

/** The listeners of a server that a program can see. */
const listeners = (server: NodeServer): ReadonlyArray<unknown> =>
  ["request", "upgrade", "checkContinue"].flatMap((event) => server.rawListeners(event))

/** A WebSocketServer of the program's, as frameworks make one. */
const webSockets = (server: NodeServer, path: string): Effect.Effect<WebSocketServer, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const made = new WebSocketServer({ server, path })
      made.on("connection", (ws) => ws.on("message", (data) => ws.send(`${path}: ${String(data)}`)))
      return made
    }),
    (made) =>
      Effect.sync(() => {
        for (const ws of made.clients) ws.terminate()
        made.close()
      })
  )

const answering =
  (text: string): RequestListener =>
  (request, response) => {
    response.end(`${text} ${request.url}`)
  }

/** Both sockets of Fanfare's work, as do its routes. */
const isServed = (server: { readonly http: string; readonly ws: string }, channel: string) =>
  Effect.gen(function* () {
    const socket = yield* Socket.open(`${server.ws}/channels/public:${channel}`)
    socket.send("through")
    yield* socket.gets("through")
    expect(socket.received).toEqual(["through"])
    yield* Socket.open(`${server.ws}/connection/websocket`)
    const health = yield* Http.send(`${server.http}/health/live`)
    expect([health.status, health.body]).toEqual([200, expect.stringContaining('"status":"ok"')])
  })

describe("Server.layer beside listeners of the program", () => {
  live("made later: a WebSocketServer with a path of its own, and one more request listener", () =>
    Effect.gen(function* () {
      const http = yield* Embedded.web()
      const server = yield* Embedded.embed(http)
      yield* webSockets(http, "/other")
      const seen: Array<string> = []
      http.on("request", (request, response) => {
        seen.push(request.url ?? "")
        response.end("the program's")
      })
      http.prependListener("request", (request) => seen.push(`first ${request.url}`))
      yield* isServed(server, "later")
      const other = yield* Socket.open(`${server.ws}/other`)
      other.send("hello")
      yield* other.gets("/other: hello")
      expect((yield* Socket.refusal(`${server.ws}/nothing`)).status).toBe(400)
      expect((yield* Http.send(`${server.http}/own`)).body).toBe("the program's")
      expect(seen).toEqual(["first /own", "/own"])
    })
  )

  live("removed while it runs: they stay removed when it closes, as with a restart of a development server", () =>
    Effect.gen(function* () {
      const http = yield* Embedded.web()
      const [first, second] = [answering("first"), answering("second")]
      http.on("request", first)
      const upgrades: Array<string> = []
      const onUpgrade = (): void => void upgrades.push("removed")
      http.on("upgrade", onUpgrade)
      const server = yield* Embedded.embed(http)
      expect((yield* Http.send(`${server.http}/own`)).body).toBe("first /own")
      http.off("request", first)
      http.off("upgrade", onUpgrade)
      http.on("request", second)
      yield* webSockets(http, "/hot")
      expect((yield* Http.send(`${server.http}/own`)).body).toBe("second /own")
      const hot = yield* Socket.open(`${server.ws}/hot`)
      hot.send("reload")
      yield* hot.gets("/hot: reload")
      yield* isServed(server, "restart")
      yield* server.close
      expect(http.rawListeners("request")).toEqual([second])
      expect((yield* Http.send(`${server.http}/own`)).body).toBe("second /own")
      expect((yield* Socket.refusal(`${server.ws}/connection/websocket`)).status).toBe(400)
      expect(upgrades).toEqual([])
    })
  )

  live("that remove all others: it goes on", () =>
    Effect.gen(function* () {
      const http = yield* Embedded.web(answering("first"))
      const server = yield* Embedded.embed(http)
      http.removeAllListeners("upgrade")
      http.removeAllListeners("request")
      http.on("request", answering("second"))
      yield* isServed(server, "alone")
      expect((yield* Http.send(`${server.http}/own`)).body).toBe("second /own")
    })
  )

  live("does not show them its requests and upgrades, nor itself among them", () =>
    Effect.gen(function* () {
      const seen: Array<string> = []
      const http = yield* Embedded.web((request, response) => {
        seen.push(request.url ?? "")
        response.end()
      })
      http.on("upgrade", (request, socket) => {
        seen.push(request.url ?? "")
        socket.destroy()
      })
      http.once("request", (request) => seen.push(`once ${request.url}`))
      const before = listeners(http)
      const server = yield* Embedded.embed(http)
      expect(listeners(http)).toEqual(before)
      yield* isServed(server, "shy")
      expect(seen).toEqual([])
      yield* Http.send(`${server.http}/own`)
      yield* Http.send(`${server.http}/own`)
      expect(seen).toEqual(["/own", "once /own", "/own"])
    })
  )

  live("takes its requests that ask for 100-continue from a program that listens for those", () =>
    Effect.gen(function* () {
      const http = yield* Embedded.web()
      http.on("checkContinue", answering("the program's"))
      http.on("checkExpectation", answering("the program's"))
      const server = yield* Embedded.embed(http, { config: { http_api: { key: "secret" } } })
      const tcp = yield* Tcp.open(server.port)
      const body = '{"channel":"public:a","data":1}'
      const post = (path: string, expects: string): string =>
        `POST ${path} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: secret\r\nExpect: ${expects}\r\nContent-Length: ${body.length}\r\n\r\n`
      tcp.write(post("/api/publish", "100-continue"))
      yield* tcp.gets("HTTP/1.1 100 Continue\r\n\r\n")
      tcp.write(body)
      yield* tcp.gets('{"result":{')
      const other = yield* Tcp.open(server.port)
      other.write(post("/own", "100-continue"))
      yield* other.gets("the program's /own")
      const strange = yield* Tcp.open(server.port)
      strange.write(post("/api/publish", "something"))
      yield* strange.gets("HTTP/1.1 417 ")
    })
  )
})

describe("several of Server.layer on one server", () => {
  live("a second one, built before the first is closed, takes over; nothing is handled twice", () =>
    Effect.gen(function* () {
      const http = yield* Embedded.web(answering("own"))
      const connects = { first: 0, second: 0 }
      const counting = (name: keyof typeof connects): Embedded.Options => ({
        hooks: { onConnect: () => Effect.sync(() => (connects[name]++, { user: "" })) }
      })
      const first = yield* Embedded.embed(http, counting("first"))
      const early = yield* Socket.open(`${first.ws}/channels/public:a`)
      const second = yield* Embedded.embed(http, counting("second"))
      expect(connects).toEqual({ first: 1, second: 0 })
      const socket = yield* Socket.open(`${first.ws}/channels/public:a`)
      expect(connects).toEqual({ first: 1, second: 1 })
      yield* second.publisher.publish("public:a", "second")
      yield* first.publisher.publish("public:a", "first")
      yield* socket.gets("second")
      yield* early.gets("first")
      yield* first.close
      expect((yield* early.closed).code).toBe(3001)
      expect(socket.received).toEqual(['"second"'])
      yield* isServed(second, "b")
      expect((yield* Http.send(`${first.http}/own`)).body).toBe("own /own")
      expect(connects).toEqual({ first: 1, second: 2 })
    })
  )

  live("the older one takes over again, where the newer one is closed first", () =>
    Effect.gen(function* () {
      const http = yield* Embedded.web(answering("own"))
      const before = [wrapped(http), listeners(http)]
      const older = yield* Embedded.embed(http)
      const newer = yield* Embedded.embed(http)
      yield* newer.close
      yield* isServed(older, "a")
      yield* older.close
      expect([wrapped(http), listeners(http)]).toEqual(before)
      expect((yield* Http.send(`${older.http}/health/live`)).body).toBe("own /health/live")
    })
  )

  live("each with a prefix of its own serves its paths", () =>
    Effect.gen(function* () {
      const http = yield* Embedded.web(answering("own"))
      const at = (handler_prefix: string) => Embedded.embed(http, { config: { http_server: { handler_prefix } } })
      const [one, other] = [yield* at("/one"), yield* at("/other")]
      const inOne = yield* Socket.open(`${one.ws}/one/channels/public:a`)
      const inOther = yield* Socket.open(`${one.ws}/other/channels/public:a`)
      yield* one.publisher.publish("public:a", 1)
      yield* other.publisher.publish("public:a", 2)
      yield* inOne.count(1)
      yield* inOther.count(1)
      expect([inOne.received, inOther.received]).toEqual([["1"], ["2"]])
    })
  )

  // Built by `npm test`.
  live("of two copies of the package share one wrapped emit, in whatever order they close", () =>
    Effect.gen(function* () {
      const copy = (yield* Effect.promise(
        () => import(new URL("../dist/index.js", import.meta.url).href)
      )) as typeof import("../src/index.ts")
      const http = yield* Embedded.web(answering("own"))
      const before = wrapped(http)
      const ours = yield* Embedded.embed(http)
      const emit = http.emit
      const scope = yield* Effect.acquireRelease(Scope.make(), (owned) => Scope.close(owned, Exit.void))
      const layer = copy.Server.layer.pipe(
        Layer.provide([copy.Hooks.layer({}), Layer.succeed(copy.Server.HttpServer, http)]),
        Layer.provide(copy.ServerConfig.layer()),
        Layer.provide(Logger.remove(Logger.defaultLogger))
      )
      const theirs = Context.get(yield* Layer.buildWithScope(layer, scope), copy.Publisher.Publisher)
      expect(http.emit).toBe(emit)
      const socket = yield* Socket.open(`${ours.ws}/channels/public:a`)
      yield* theirs.publish("public:a", "the copy's")
      yield* socket.gets("the copy's")
      yield* ours.close
      yield* isServed(ours, "b")
      yield* Scope.close(scope, Exit.void)
      expect(wrapped(http)).toEqual(before)
    })
  )
})

/** Wraps `emit` as tracing libraries and tests do; says what it has seen, and puts it back. */
const instrument = (http: NodeServer) => {
  const seen: Array<string> = []
  const before = http.emit
  http.emit = function (this: NodeServer, event: string, ...args: [IncomingMessage]) {
    if (event === "request") seen.push(args[0].url ?? "")
    return Reflect.apply(before, this, [event, ...args])
  } as typeof http.emit
  return {
    seen,
    restore: () => {
      http.emit = before
    }
  }
}

describe("emit that somebody else has wrapped", () => {
  live("after the layer: both work, also where the layer closes first and another one is built", () =>
    Effect.gen(function* () {
      const http = yield* Embedded.web(answering("own"))
      const before = wrapped(http)
      const first = yield* Embedded.embed(http)
      const other = instrument(http)
      yield* isServed(first, "a")
      yield* first.close
      expect((yield* Http.send(`${first.http}/health/live`)).body).toBe("own /health/live")
      const second = yield* Embedded.embed(http)
      yield* isServed(second, "b")
      other.restore()
      yield* isServed(second, "c")
      expect(other.seen).toEqual(["/health/live", "/health/live", "/health/live"])
      yield* second.close
      expect(wrapped(http)).toEqual(before)
    })
  )

  live("before the layer: it is put back as it was", () =>
    Effect.gen(function* () {
      const http = yield* Embedded.web(answering("own"))
      const other = instrument(http)
      const before = wrapped(http)
      const server = yield* Embedded.embed(http)
      yield* isServed(server, "a")
      yield* Http.send(`${server.http}/own`)
      expect(other.seen).toEqual(["/own"])
      yield* server.close
      expect(wrapped(http)).toEqual(before)
    })
  )

  live("and put back from under the layer: the next layer is served all the same", () =>
    Effect.gen(function* () {
      const http = yield* Embedded.web(answering("own"))
      const other = instrument(http)
      const first = yield* Embedded.embed(http)
      other.restore()
      expect((yield* Http.send(`${first.http}/health/live`)).body).toBe("own /health/live")
      const second = yield* Embedded.embed(http)
      yield* isServed(second, "a")
    })
  )

  live("on the prototype: it is called, whenever that was", () =>
    Effect.gen(function* () {
      class Patched extends NodeServer {}
      const http = yield* Embedded.listen(new Patched(answering("own")))
      const server = yield* Embedded.embed(http)
      const prototype = Object.getPrototypeOf(http) as NodeServer
      const seen: Array<string> = []
      const inherited = prototype.emit
      prototype.emit = function (this: NodeServer, event: string, ...args: [IncomingMessage]) {
        if (event === "request") seen.push(args[0].url ?? "")
        return Reflect.apply(inherited, this, [event, ...args])
      } as typeof prototype.emit
      yield* Http.send(`${server.http}/own`)
      expect(seen).toEqual(["/own"])
    })
  )
})
