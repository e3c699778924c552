import { describe, expect, it, vi } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as TestClock from "effect/TestClock"
import { Server } from "node:net"
import * as WarmUp from "../src/WarmUp.ts"
import * as Http from "./support/http.ts"
import { live } from "./support/it.ts"
import * as Program from "./support/program.ts"

/** What is logged, a line each, at every level. */
const logged = (effect: Effect.Effect<unknown>): Effect.Effect<ReadonlyArray<string>> =>
  Effect.suspend(() => {
    const lines: Array<string> = []
    const logger = Logger.make(({ cause, logLevel, message }) => {
      lines.push(`${logLevel.label} ${String(message)} ${JSON.stringify(cause)}`)
    })
    return effect.pipe(
      Effect.provide(Logger.replace(Logger.defaultLogger, logger)),
      Logger.withMinimumLogLevel(LogLevel.All),
      Effect.as(lines)
    )
  })

/** Has every attempt to listen end in this way. */
const listening = (how: (this: Server) => void) =>
  Effect.acquireRelease(
    Effect.sync(() =>
      vi.spyOn(Server.prototype, "listen").mockImplementation(function (this: Server) {
        how.call(this)
        return this
      })
    ),
    (spy) => Effect.sync(() => spy.mockRestore())
  )

const turns = (count: number) =>
  Effect.repeatN(
    Effect.async<void>((resume) => void setImmediate(() => resume(Effect.void))),
    count
  )

describe("WarmUp.run", () => {
  live("has clients subscribe, leave and recover, and leaves nothing: no log but that it is done", () =>
    Effect.gen(function* () {
      const lines = yield* logged(WarmUp.run)
      expect(lines).toHaveLength(1)
      expect(lines[0]).toMatch(/^DEBUG warmed up in \d+ ms/)
    })
  )

  for (const count of [0, 3, 30, 100]) {
    live(`leaves nothing where it is interrupted, ${count} turns of the event loop after its beginning`, () =>
      Effect.gen(function* () {
        const running = yield* Effect.fork(WarmUp.run)
        yield* turns(count)
        yield* Fiber.interrupt(running)
      })
    )
  }

  live("does not fail where it may not listen: the log says why", () =>
    Effect.gen(function* () {
      yield* listening(function () {
        queueMicrotask(() => this.emit("error", new Error("not permitted")))
      })
      const lines = yield* logged(WarmUp.run)
      expect(lines).toHaveLength(1)
      expect(lines[0]).toMatch(/^DEBUG not warmed up .*cannot listen on 127\.0\.0\.1:0: not permitted/)
    })
  )

  it.scoped("gives up after ten seconds: the log says so", () =>
    Effect.gen(function* () {
      yield* listening(() => undefined)
      const running = yield* Effect.fork(logged(WarmUp.run))
      yield* TestClock.adjust("9999 millis")
      expect(yield* Fiber.poll(running)).toMatchObject({ _tag: "None" })
      yield* TestClock.adjust("1 millis")
      const lines = yield* Fiber.join(running)
      expect(lines).toHaveLength(1)
      expect(lines[0]).toMatch(/^DEBUG not warmed up .*took more than 10s/)
    })
  )
})

describe("warm_up", () => {
  const debug = { FANFARE_LOG_LEVEL: "debug" }

  live("is done by the program once it listens, unseen in its metrics and its log; with false it is not", () =>
    Effect.gen(function* () {
      const cold = yield* Program.start({ env: { ...debug, FANFARE_WARM_UP: "false" } })
      const warm = yield* Program.start({ env: debug })
      yield* warm.says("DEBUG warmed up in")
      const { body } = yield* Http.send(`${warm.http}/metrics`)
      expect(body).toMatch(/^fanfare_connections_opened_total 0$/m)
      expect(warm.output()).not.toMatch(/client=|lean:|full:/)
      expect(cold.output()).not.toContain("warm")
    })
  )

  live("does not hold up a program that is told to end right after it listens", () =>
    Effect.gen(function* () {
      const program = yield* Program.start({ env: debug })
      program.signal("SIGTERM")
      expect(yield* program.exit).toEqual({ code: 0, signal: null })
      expect(program.output()).toContain("draining")
    })
  )
})
