import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Redacted from "effect/Redacted"
import * as Logging from "../src/Logging.ts"
import { live } from "./support/it.ts"
import * as Program from "./support/program.ts"
import * as Socket from "./support/socket.ts"

/** What a logger writes of an effect. */
const written = (
  logger: Logger.Logger<unknown, string>,
  effect: Effect.Effect<unknown>
): Effect.Effect<ReadonlyArray<string>> =>
  Effect.suspend(() => {
    const lines: Array<string> = []
    const keep = Logger.map(logger, (line) => void lines.push(line))
    return effect.pipe(
      Effect.provide(Logger.replace(Logger.defaultLogger, keep)),
      Logger.withMinimumLogLevel(LogLevel.Trace),
      Effect.as(lines)
    )
  })

const FORGED = '"x\n2026-01-01T00:00:00.000Z ERROR forged\r\u001b[2K\u0085\u2028{"level":"error"}'

describe("Logging.json", () => {
  const one = (effect: Effect.Effect<unknown>) =>
    Effect.map(written(Logging.json, effect), (lines) => {
      expect(lines.length).toBe(1)
      expect(lines[0]).not.toMatch(/[\p{Cc}\p{Zl}\p{Zp}]/u)
      return JSON.parse(lines[0] ?? "") as Record<string, unknown>
    })

  it.effect("has time, level and message, and the annotations beside them", () =>
    Effect.gen(function* () {
      const about = { client: "c1", channel: "public:a", count: 3, on: true, many: Number.NaN, key: Redacted.make("s") }
      expect(yield* one(Effect.annotateLogs(Effect.logWarning("so", 1, { a: 1 }), about))).toEqual({
        time: new Date(yield* Clock.currentTimeMillis).toISOString(),
        level: "warning",
        message: 'so 1 {"a":1}',
        client: "c1",
        channel: "public:a",
        count: 3,
        on: true,
        many: "NaN",
        key: '"<redacted>"'
      })
    })
  )

  it.effect("calls the levels what log.level calls them", () =>
    Effect.gen(function* () {
      for (const level of ["Trace", "Debug", "Info", "Warning", "Error"] as const) {
        const entry = yield* one(Effect.logWithLevel(LogLevel.fromLiteral(level), "x"))
        expect(entry["level"]).toBe(level.toLowerCase())
      }
    })
  )

  it.effect("has the cause, its lines in one text", () =>
    Effect.gen(function* () {
      const cause = Cause.die(new Error("outer", { cause: new Error("inner") }))
      const { cause: told, message } = yield* one(Effect.logError("broke", cause))
      expect(message).toBe("broke")
      expect(told).toMatch(/^Error: outer\n {4}at [\s\S]*\[cause\]: Error: inner/)
    })
  )

  it.effect("names the span that it was said in", () =>
    Effect.gen(function* () {
      const span = yield* Effect.makeSpan("work")
      const entry = yield* one(Effect.withParentSpan(Effect.logInfo("x"), span))
      expect(entry).toMatchObject({ trace_id: span.traceId, span_id: span.spanId })
      expect(yield* one(Effect.logInfo("x"))).not.toHaveProperty("trace_id")
      const disabled = Effect.withTracerEnabled(Effect.withSpan(Effect.logInfo("x"), "work"), false)
      expect(yield* one(disabled)).not.toHaveProperty("trace_id")
    })
  )

  it.effect("loses nothing where an annotation has the name of something else", () =>
    Effect.gen(function* () {
      const about = { message: "m", time: "t", annotation_time: "a", cause: "c", span_id: "s", ["__proto__"]: "p" }
      const entry = yield* one(Effect.annotateLogs(Effect.logInfo("x"), about))
      expect(entry["message"]).toBe("x")
      expect(Object.values(entry)).toEqual(expect.arrayContaining(["m", "t", "a", "c", "s", "p"]))
    })
  )

  it.effect("is one line, whatever a client says", () =>
    Effect.gen(function* () {
      const entry = yield* one(Effect.annotateLogs(Effect.logInfo(`refused ${FORGED}`), { channel: FORGED }))
      expect(entry).toMatchObject({ level: "info", message: `refused ${FORGED}`, channel: FORGED })
    })
  )
})

describe("Logging.pretty", () => {
  const one = (effect: Effect.Effect<unknown>) =>
    Effect.map(written(Logging.pretty, effect), (lines) => (lines[0] ?? "").replace(/^\S+ /, ""))

  it.effect("is one line, whatever a client says", () =>
    Effect.gen(function* () {
      const about = { channel: FORGED, 'client=1\n"': "x" }
      const [line = ""] = yield* written(
        Logging.pretty,
        Effect.annotateLogs(Effect.logInfo(`refused ${FORGED}`), about)
      )
      expect(line).not.toMatch(/[\p{Cc}\p{Zl}\p{Zp}]/u)
      expect(line).toMatch(/^\S+ INFO {2}refused "x 2026/)
    })
  )

  it.effect("quotes what is no plain word, and does not say what the message quotes", () =>
    Effect.gen(function* () {
      const about = { client: "c-1", channel: "public:a", why: "a b" }
      expect(yield* one(Effect.annotateLogs(Effect.logInfo('refused "public:b": no'), about))).toBe(
        'INFO  refused "public:b": no channel=public:a client=c-1 why="a b"'
      )
      expect(yield* one(Effect.annotateLogs(Effect.logInfo('refused "public:a": no'), about))).toBe(
        'INFO  refused "public:a": no client=c-1 why="a b"'
      )
    })
  )

  it.effect("indents the lines of a cause", () =>
    Effect.gen(function* () {
      const line = yield* one(Effect.logError("broke", Cause.die(new Error("said\n2026-01-01 ERROR forged\u0085"))))
      const [first, ...rest] = line.split("\n")
      expect(first).toBe("ERROR broke Error: said")
      expect(rest[0]).toBe("  2026-01-01 ERROR forged ")
      for (const further of rest) expect(further).toMatch(/^ {2}/)
    })
  )
})

describe("The program's log", () => {
  const REFUSED_NAME = 'foo:"\n{"level":"error"}'

  live("as JSON: an object a line, with client and channel on every line about one", () =>
    Effect.gen(function* () {
      const namespaces = JSON.stringify([
        {
          name: "read",
          allow_subscribe_for_client: true,
          allow_subscribe_for_anonymous: true,
          history_size: 1,
          history_ttl: "1m"
        }
      ])
      const program = yield* Program.start({
        env: { FANFARE_LOG_FORMAT: "json", FANFARE_LOG_LEVEL: "debug", FANFARE_CHANNEL_NAMESPACES: namespaces }
      })
      const entries = (): ReadonlyArray<Record<string, unknown>> =>
        program
          .output()
          .split("\n")
          .slice(0, -1)
          .map((line) => JSON.parse(line))
      const about = (text: string) =>
        Effect.map(program.says(text), () => {
          const first = entries().find(({ message }) => String(message).includes(text))
          expect(first).toMatchObject({ time: expect.stringMatching(/^\d{4}-.*Z$/), level: "info" })
          return first ?? {}
        })

      const client = yield* Socket.open(`${program.ws}/connection/websocket`)
      client.send('{"id":1,"connect":{}}')
      yield* client.gets('"connect"')
      const { client: id } = JSON.parse(client.received[0] ?? "").connect
      client.send(JSON.stringify({ id: 2, subscribe: { channel: REFUSED_NAME } }))
      yield* client.gets('"id":2')
      expect(yield* about("refused subscribe")).toMatchObject({ client: id, channel: REFUSED_NAME })
      client.send('{"id":3,"publish":{"channel":"read:a","data":1}}')
      yield* client.gets('"id":3')
      expect(yield* about("refused publish")).toMatchObject({ client: id, channel: "read:a" })
      client.send("nonsense")
      yield* client.closed
      expect(yield* about("disconnecting with 3501")).toMatchObject({ client: id })

      yield* Socket.refusal(`${program.ws}/channels/foo%3Ax`)
      expect(yield* about("refused upgrade /channels/foo%3Ax")).toMatchObject({
        client: expect.stringMatching(/^[\da-f-]{36}$/),
        channel: "foo:x"
      })
      yield* Socket.refusal(`${program.ws}/connection/websocket`, { headers: { Origin: "https://evil.example" } })
      const refused = yield* about("refused upgrade /connection/websocket with 403")
      expect(refused).toMatchObject({ client: expect.stringMatching(/^[\da-f-]{36}$/) })
      expect(refused).not.toHaveProperty("channel")

      const plain = yield* Socket.open(`${program.ws}/channels/read:b`)
      plain.send("1")
      yield* plain.closed
      const { client: plainId, channel } = yield* about("disconnecting with 3507")
      expect(plainId).toMatch(/^[\da-f-]{36}$/)
      expect(channel).toBe("read:b")
      expect(entries().every(({ level, message }) => level !== "error" && typeof message === "string")).toBe(true)
    })
  )
})
