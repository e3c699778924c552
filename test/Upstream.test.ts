/**
 * The faults of others that `src` works around, as docs/upstream.md lists them. A
 * test here fails when its fault is gone from the installed version: then the
 * workaround and its row can go.
 */
import * as Headers from "@effect/platform/Headers"
import * as HttpTraceContext from "@effect/platform/HttpTraceContext"
import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/TestClock"
import { Redis } from "ioredis"
import { existsSync, readFileSync } from "node:fs"
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import { type AddressInfo, connect } from "node:net"
import { setImmediate } from "node:timers/promises"
import type { ServerOptions } from "ws"

const read = (path: string): string => readFileSync(new URL(`../${path}`, import.meta.url), "utf8")

const isThere = (path: string): boolean => existsSync(new URL(`../${path}`, import.meta.url))

const spans = (text: string): ReadonlyArray<string> => Array.from(text.matchAll(/`([^`]+)`/g), ([, span = ""]) => span)

describe("docs/upstream.md", () => {
  const rows = read("docs/upstream.md")
    .split("\n")
    .filter((line) => line.startsWith("| `src/"))
    .map((line) => line.split("|").map((cell) => cell.trim()))

  it("names files, and in them functions, that are there", () => {
    const missing = rows.flatMap(([, where = ""]) => {
      const [file = "", ...names] = spans(where)
      const code = isThere(file) ? read(file) : ""
      return names.filter((name) => !code.includes(name)).map((name) => `${file}: ${name}`)
    })
    expect(missing).toEqual([])
    expect(rows.length).toBeGreaterThan(40)
    expect(rows.filter(([, where = ""]) => spans(where).length < 2)).toEqual([])
  })

  it("names tests that are there", () => {
    const named = Array.from(read("docs/upstream.md").matchAll(/`(test\/[\w.]+)`: "([^"]+)"/g))
    const missing = named.filter(([, file = "", name = ""]) => !isThere(file) || !read(file).includes(`"${name}"`))
    expect(missing.map(([text]) => text)).toEqual([])
    expect(named.length).toBeGreaterThan(40)
  })
})

describe("docs/glossary.md", () => {
  it("names files that are there", () => {
    const files = spans(read("docs/glossary.md")).filter((span) => span.startsWith("src/"))
    expect(files.filter((file) => !isThere(file))).toEqual([])
    expect(files.length).toBeGreaterThan(40)
  })
})

describe("Effect 3", () => {
  it.live("loses an interruption that comes while a finalizer of Effect.acquireRelease runs", () =>
    Effect.gen(function* () {
      const closing = yield* Deferred.make<void>()
      const closed = yield* Effect.makeLatch(false)
      const resource = Effect.acquireRelease(Effect.void, () =>
        Effect.zipRight(Deferred.succeed(closing, undefined), closed.await)
      )
      // The fiber has taken over the refs of one that was interrupted, as races and timeouts let it.
      const refsOfInterrupted = Effect.flatMap(Effect.fork(Effect.never), (child) =>
        Effect.zipRight(Fiber.interrupt(child), Fiber.inheritAll(child))
      )
      const after = yield* Deferred.make<void>()
      const fiber = yield* Effect.forkDaemon(
        Effect.zipRight(resource, refsOfInterrupted).pipe(
          Effect.scoped,
          Effect.zipRight(Effect.yieldNow()),
          Effect.zipRight(Deferred.succeed(after, undefined))
        )
      )
      yield* Deferred.await(closing)
      const interrupting = yield* Effect.fork(Fiber.interrupt(fiber))
      yield* Effect.yieldNow()
      yield* closed.open
      yield* Fiber.join(interrupting)
      // Interrupted, it would not have got that far.
      expect(yield* Deferred.isDone(after)).toBe(true)
    })
  )

  it.effect("Effect.cached keeps an interruption", () =>
    Effect.gen(function* () {
      const cached = yield* Effect.cached(Effect.delay(Effect.succeed(1), "1 second"))
      const first = yield* Effect.fork(cached)
      yield* Effect.yieldNow()
      yield* Fiber.interrupt(first)
      const second = yield* Effect.exit(cached)
      expect(Exit.isFailure(second) && Cause.isInterrupted(second.cause)).toBe(true)
    })
  )

  it.effect("Effect.timeoutOption waits on in an uninterruptible region", () =>
    Effect.gen(function* () {
      const latch = yield* Effect.makeLatch(false)
      const waiting = yield* Effect.fork(
        Effect.uninterruptible(Effect.timeoutOption(Effect.disconnect(latch.await), "1 second"))
      )
      yield* TestClock.adjust("1 minute")
      expect(Option.isNone(yield* Fiber.poll(waiting))).toBe(true)
      yield* latch.open
      yield* Fiber.join(waiting)
    })
  )

  it("Schema.Record takes a key for the prototype", () => {
    const entries = Schema.Record({ key: Schema.String, value: Schema.Object })
    const decoded = Schema.decodeUnknownSync(entries)(JSON.parse('{"__proto__":{},"other":{}}'))
    expect(Object.keys(decoded)).toEqual(["other"])
  })
})

describe("@effect/platform", () => {
  it("HttpTraceContext takes ids of zeros, and any text of B3", () => {
    const zeros = { traceparent: `00-${"0".repeat(32)}-${"0".repeat(16)}-01` }
    const text = { "x-b3-traceid": "no id", "x-b3-spanid": "nor this" }
    const parents = [zeros, text].map((headers) => HttpTraceContext.fromHeaders(Headers.fromInput(headers)))
    expect(parents.map(Option.isSome)).toEqual([true, true])
  })

  it("@effect/experimental wants ioredis 5", () => {
    const { peerDependencies } = JSON.parse(read("node_modules/@effect/experimental/package.json")) as {
      readonly peerDependencies: Readonly<Record<string, string>>
    }
    expect(peerDependencies["ioredis"]).toBe("^5")
  })
})

describe("ws", () => {
  it("its types do not know closeTimeout", () => {
    // @ts-expect-error: the type check fails here once they do.
    const options: ServerOptions = { noServer: true, closeTimeout: 5000 }
    expect(options).toHaveProperty("closeTimeout")
  })
})

describe("ioredis", () => {
  it("takes REDISS: for a scheme without TLS", () => {
    const tlsOf = (url: string) => new Redis(url, { lazyConnect: true }).options.tls
    expect([tlsOf("rediss://localhost"), tlsOf("REDISS://localhost")]).toEqual([true, undefined])
  })
})

describe("Node", () => {
  it("the callback of response.end is not called where the client has gone before", async () => {
    const server = createServer()
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done))
    const requested = new Promise<[IncomingMessage, ServerResponse]>((done) =>
      server.once("request", (request, response) => done([request, response]))
    )
    const client = connect((server.address() as AddressInfo).port, "127.0.0.1")
    client.write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    const [{ socket }, response] = await requested
    const gone = new Promise<void>((done) => socket.once("close", () => done()))
    client.destroy()
    await gone
    let isCalled = false
    response.end("an answer", () => {
      isCalled = true
    })
    // Where it is called at all, that is in the same turn or in the next.
    for (let turn = 0; turn < 10; turn++) await setImmediate()
    expect(isCalled).toBe(false)
    await new Promise((done) => server.close(done))
  })
})
