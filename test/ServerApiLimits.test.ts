import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import { connect, type Socket } from "node:net"
import * as Api from "./support/api.ts"
import * as Http from "./support/http.ts"
import { live } from "./support/it.ts"
import { post } from "./support/methods.ts"
import * as People from "./support/people.ts"
import * as Server from "./support/server.ts"
import { eventually, type NeverHappened, Watched } from "./support/wait.ts"

const MIB = 1024 * 1024

/** More than the system keeps on the way between two sockets, and much less than a body of 100 MB. */
const ON_THE_WAY = 16 * MIB

interface Upload {
  readonly socket: Socket
  /** Everything that has come. */
  readonly received: () => string
  /** Waits for an answer with this status. */
  readonly answered: (status: number) => Effect.Effect<void, NeverHappened>
  readonly closed: Effect.Effect<void, NeverHappened>
  /** Bytes that the system has taken. */
  readonly taken: () => number
  /** Sends so many bytes, as fast as they are taken, whatever the answer is, until it is closed. */
  readonly send: (bytes: number, chunked?: boolean) => Effect.Effect<void, NeverHappened>
}

const CHUNK = Buffer.alloc(64 * 1024, " ")

/** A request by hand: its head, and its body as far as a test sends it. */
const upload = (
  port: number,
  headers: ReadonlyArray<string>,
  path = "/api/publish"
): Effect.Effect<Upload, NeverHappened, Scope.Scope> =>
  Effect.gen(function* () {
    const watched = new Watched()
    let received = ""
    let isOpen = false
    let isClosed = false
    const socket = yield* Effect.acquireRelease(
      Effect.sync(() => connect(port, "127.0.0.1")),
      (socket) => Effect.sync(() => socket.destroy())
    )
    socket.setEncoding("latin1")
    socket.on("connect", () => {
      isOpen = true
      watched.changed()
    })
    socket.on("data", (part: string) => {
      received += part
      watched.changed()
    })
    socket.on("drain", () => watched.changed())
    socket.on("error", () => undefined)
    socket.on("close", () => {
      isClosed = true
      watched.changed()
    })
    yield* watched.until(() => isOpen, "connected")
    socket.write(`POST ${path} HTTP/1.1\r\nHost: localhost\r\n${headers.map((one) => `${one}\r\n`).join("")}\r\n`)
    const taken = (): number => socket.bytesWritten - socket.writableLength
    const send = (bytes: number, chunked = false): Effect.Effect<void, NeverHappened> =>
      Effect.suspend(() => {
        const closed = (): boolean => isClosed
        const isFree = (): boolean => socket.writableLength < CHUNK.length
        let left = bytes
        const more = Effect.sync(() => {
          while (left > 0 && isFree() && !closed()) {
            if (chunked) socket.write(`${CHUNK.length.toString(16)}\r\n`)
            socket.write(CHUNK)
            if (chunked) socket.write("\r\n")
            left -= CHUNK.length
          }
        })
        return Effect.repeat(
          Effect.zipRight(
            more,
            watched.until(() => isFree() || closed(), "it is taken")
          ),
          { while: () => left > 0 && !closed() }
        )
      }).pipe(Effect.asVoid)
    return {
      socket,
      received: () => received,
      taken,
      send,
      answered: (status) =>
        watched.until(
          () => received.startsWith(`HTTP/1.1 ${status} `) && received.includes('"}}'),
          () => `an answer with ${status}; received: ${received.slice(0, 300)}`
        ),
      closed: watched.until(() => isClosed, "closed")
    }
  })

const countFibers = Effect.map(Fiber.roots, (roots) => roots.length)

/** How many there are now; in the same way as when they are waited for, since a wait has a fiber of its own. */
const fibers = eventually(countFibers, () => true, "a count")

const KEYED = `X-API-Key: ${Api.KEY}`
const HUGE = `Content-Length: ${100 * MIB}`
const CHUNKED = "Transfer-Encoding: chunked"

describe("server API", () => {
  live("key: missing or wrong 401, in either header; none configured 404", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: Api.keyed })
      const body = '{"channel":"public:lobby","data":1}'
      expect((yield* post(server, "publish", body, {})).status).toBe(401)
      expect((yield* post(server, "publish", body, { "X-API-Key": "wrong" })).status).toBe(401)
      expect((yield* post(server, "publish", body, { "X-API-Key": `${Api.KEY}x` })).status).toBe(401)
      expect((yield* post(server, "publish", body, { Authorization: "apikey wrong" })).status).toBe(401)
      expect((yield* post(server, "publish", body, { Authorization: `apikey ${Api.KEY}` })).status).toBe(200)
      const off = yield* Server.start()
      expect((yield* post(off, "publish", body)).status).toBe(404)
      const channel = '{"channel":"public:lobby"}'
      for (const method of ["history", "history_remove"]) {
        expect((yield* post(server, method, channel, {})).status).toBe(401)
        expect((yield* post(server, method, channel, { "X-API-Key": "wrong" })).status).toBe(401)
        expect((yield* post(server, method, channel)).status).toBe(200)
        expect((yield* post(off, method, channel)).status).toBe(404)
      }
    })
  )

  live("body: not JSON or not the method's 400, too large 413 unread, a publication above 64 KiB 413", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: Api.keyed })
      for (const body of ["{", "[]", '{"channel":1,"data":1}', '{"channels":"a","data":1}']) {
        expect([body, (yield* post(server, body.includes("channels") ? "broadcast" : "publish", body)).status]).toEqual(
          [body, 400]
        )
      }
      const large = JSON.stringify({ channel: "public:a", data: "x".repeat(64 * 1024) })
      expect((yield* post(server, "publish", large)).status).toBe(413)
      const fits = JSON.stringify({ channel: "public:a", data: "x".repeat(64 * 1024 - 2) })
      expect((yield* post(server, "publish", fits)).status).toBe(200)
      expect((yield* post(server, "publish", "x".repeat(2 * 1024 * 1024))).status).toBe(413)
      expect((yield* post(server, "publish", '{"channel":"public:a","data":1}')).status).toBe(200)
    })
  )
})

describe("server API: a body above 1 MiB", () => {
  live("by its Content-Length: 413 before any of it is sent, and the connection is closed", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: Api.keyed })
      const one = yield* upload(server.port, [KEYED, HUGE])
      yield* one.answered(413)
      expect(one.received()).toMatch(/^connection: close\r$/im)
      expect(one.received()).toMatch(/\{"error":\{"code":106,"message":"a body has at most 1048576 bytes"\}\}$/)
      yield* one.closed
    })
  )

  live("100 MB that are sent all the same: the answer arrives, and hardly anything of it is read", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: Api.keyed })
      for (const headers of [
        [KEYED, HUGE],
        [KEYED, CHUNKED]
      ]) {
        const one = yield* upload(server.port, headers)
        yield* one.send(100 * MIB, headers.includes(CHUNKED))
        yield* one.answered(413)
        expect([headers, one.taken() < ON_THE_WAY]).toEqual([headers, true])
        yield* one.closed
      }
    })
  )

  live("without the key, without an API, or where no method is: not read either", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: Api.keyed })
      const off = yield* Server.start()
      const cases: ReadonlyArray<readonly [number, ReadonlyArray<string>, number]> = [
        [server.port, [HUGE], 401],
        [server.port, ["X-API-Key: wrong", CHUNKED], 401],
        [off.port, [KEYED, HUGE], 404]
      ]
      for (const [port, headers, status] of cases) {
        const one = yield* upload(port, headers)
        yield* one.send(100 * MIB, headers.includes(CHUNKED))
        yield* one.answered(status)
        expect([status, one.taken() < ON_THE_WAY]).toEqual([status, true])
        yield* one.closed
      }
      const nowhere = yield* upload(server.port, [KEYED, HUGE], "/api/nothing")
      yield* nowhere.send(100 * MIB)
      yield* nowhere.closed
      expect(nowhere.received()).toMatch(/^HTTP\/1\.1 404 /)
      expect(nowhere.taken()).toBeLessThan(ON_THE_WAY)
    })
  )

  live("a client that sends first and reads then finds the answer, every time", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: Api.keyed })
      const post = Http.send(`${server.http}/api/publish`, {
        method: "POST",
        headers: { "X-API-Key": Api.KEY },
        body: "x".repeat(3 * MIB)
      })
      const answers = yield* Effect.all(
        Array.from({ length: 20 }, () => post),
        { concurrency: 4 }
      )
      expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 413))
    })
  )

  live("1 MiB is a body: by its Content-Length, and chunked; one byte more is none", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: Api.keyed })
      const api = yield* Api.make(server.http)
      const fits = '{"channel":"public:a","data":1}'.padEnd(MIB, " ")
      expect((yield* api.call("publish", fits)).status).toBe(200)
      const chunked = { headers: { "Transfer-Encoding": "chunked" } }
      expect((yield* api.call("publish", fits, chunked)).status).toBe(200)
      expect(yield* api.refusal("publish", `${fits} `)).toEqual([413, 106])
      expect(yield* api.refusal("publish", `${fits} `, chunked)).toEqual([413, 106])
      expect((yield* api.call("publish", '{"channel":"public:a","data":1}')).body.result.offset).toBe(3)
    })
  )

  live("one that is not UTF-8 is 400, and one that never ends costs nothing once its client is gone", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: Api.keyed })
      const one = yield* upload(server.port, [KEYED, "Content-Length: 4"])
      one.socket.write(Buffer.from([0x22, 0xff, 0xfe, 0x22]))
      yield* one.answered(400)
      expect(one.received()).toContain('{"error":{"code":107,"message":"the body is not UTF-8"}}')

      const before = yield* fibers
      const two = yield* upload(server.port, [KEYED, CHUNKED])
      yield* two.send(MIB / 2, true)
      yield* eventually(countFibers, (now) => now > before, "the request is under way")
      two.socket.resetAndDestroy()
      yield* eventually(countFibers, (now) => now <= before, "the request is over")
    })
  )
})

describe("server API: the key", () => {
  live("wrong, missing, longer, shorter, empty, in another case, twice: 401, all with the same answer", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: Api.keyed })
      const api = yield* Api.make(server.http)
      const send = (headers: Record<string, string>) =>
        Http.send(`${server.http}/api/info`, { method: "POST", headers, body: "{}" })
      const wrong: ReadonlyArray<Record<string, string>> = [
        {},
        { "X-API-Key": "" },
        { "X-API-Key": "wrong" },
        { "X-API-Key": Api.KEY.slice(0, -1) },
        { "X-API-Key": `${Api.KEY}x` },
        { "X-API-Key": `${Api.KEY}, ${Api.KEY}` },
        { "X-API-Key": Api.KEY.toUpperCase() },
        { "X-API-Key": "x".repeat(8000) },
        { "X-API-Key": `apikey ${Api.KEY}` },
        { Authorization: Api.KEY },
        { Authorization: "apikey" },
        { Authorization: "apikey " },
        { Authorization: "apikey wrong" },
        { Authorization: `bearer ${Api.KEY}` },
        { Authorization: `apikey ${Api.KEY}x` },
        { "X-API-Key": "wrong", Authorization: "apikey wrong" }
      ]
      for (const headers of wrong) {
        const answer = yield* send(headers)
        api.check("post", "/api/info", answer)
        expect([headers, answer.status, answer.body]).toEqual([
          headers,
          401,
          '{"error":{"code":101,"message":"unauthorized"}}'
        ])
      }
      const right: ReadonlyArray<Record<string, string>> = [
        { "X-API-Key": Api.KEY },
        { "x-api-key": ` ${Api.KEY} ` },
        { Authorization: `apikey ${Api.KEY}` },
        { Authorization: `ApiKey ${Api.KEY}` },
        { "X-API-Key": "", Authorization: `apikey ${Api.KEY}` }
      ]
      for (const headers of right) expect([headers, (yield* send(headers)).status]).toEqual([headers, 200])
    })
  )

  live("is asked for before the body is looked at, and for every method", () =>
    Effect.gen(function* () {
      const server = yield* People.start()
      const { specification } = yield* Api.make(server.http)
      for (const path of Object.keys(specification.paths).filter((path) => path.startsWith("/api/"))) {
        const answer = yield* Http.send(server.http + path, { method: "POST", body: "no JSON" })
        expect([path, answer.status]).toEqual([path, 401])
      }
    })
  )
})

describe("an answer that nobody takes", () => {
  live("ends with its connection: nothing is kept of requests that were sent by the thousand", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: Api.keyed })
      const before = yield* fibers
      for (const [path, times] of [
        ["/metrics", 10_000],
        ["/docs", 20]
      ] as const) {
        const socket = yield* Effect.acquireRelease(
          Effect.sync(() => connect(server.port, "127.0.0.1")),
          (socket) => Effect.sync(() => socket.destroy())
        )
        socket.on("error", () => undefined)
        socket.pause()
        socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`.repeat(times))
        yield* eventually(countFibers, (now) => now > before, `answers of ${path} wait to be taken`)
        socket.resetAndDestroy()
        yield* eventually(countFibers, (now) => now <= before, `nothing is left of ${path}`)
      }
    })
  )
})
