import { describe, expect, it, vi } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as TestClock from "effect/TestClock"
import { Server } from "node:net"
import * as WarmUp from "../src/WarmUp.ts"
import * as Http from "./support/http.ts"
import { live } from "./support/it.ts"
import * as Program from "./support/program.ts"
import { noting } from "./support/tracer.ts"
import { Watched } from "./support/wait.ts"

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

/** Has `how` done wherever a server would listen; what is returned tells of how many that was. */
const listening = (how: (server: Server, listen: () => void) => void) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const { listen } = Server.prototype
      return vi.spyOn(Server.prototype, "listen").mockImplementation(function (this: Server, ...args: Array<unknown>) {
        how(this, () => Reflect.apply(listen, this, args))
        return this
      })
    }),
    (spy) => Effect.sync(() => spy.mockRestore())
  )

describe("WarmUp.run", () => {
  live("has clients subscribe, leave and recover, and leaves nothing: no log but that it is done", () =>
    Effect.gen(function* () {
      const lines = yield* logged(WarmUp.run)
      expect(lines).toHaveLength(1)
      expect(lines[0]).toMatch(/^DEBUG warmed up in \d+ ms/)
    })
  )

  live("is not traced, by whatever tracer there is", () =>
    Effect.gen(function* () {
      const { names, tracer } = yield* noting
      yield* Effect.withTracer(Effect.withSpan(WarmUp.run, "the only one"), tracer)
      expect(names).toEqual(["the only one"])
    })
  )

  for (const connections of [0, 1, 20]) {
    live(`leaves nothing where it is interrupted with ${connections} connections opened`, () =>
      Effect.gen(function* () {
        const watched = new Watched()
        const seen = { listens: false, connections: 0 }
        yield* listening((server, listen) => {
          server.once("listening", () => {
            seen.listens = true
            watched.changed()
          })
          server.on("connection", () => {
            seen.connections++
            watched.changed()
          })
          listen()
        })
        const running = yield* Effect.fork(WarmUp.run)
        yield* watched.until(
          () => seen.listens && seen.connections >= connections,
          () => "it gets so far"
        )
        expect(Exit.isInterrupted(yield* Fiber.interrupt(running))).toBe(true)
      })
    )
  }

  live("does not fail where it may not listen: the log says why", () =>
    Effect.gen(function* () {
      yield* listening((server) => queueMicrotask(() => server.emit("error", new Error("not permitted"))))
      const lines = yield* logged(WarmUp.run)
      expect(lines).toHaveLength(1)
      expect(lines[0]).toMatch(/^DEBUG not warmed up .*cannot listen on 127\.0\.0\.1:0: not permitted/)
    })
  )

  live("does not fail where its clients are cut off: the log says so", () =>
    Effect.gen(function* () {
      yield* listening((server, listen) => {
        server.on("connection", (socket) => socket.destroy())
        listen()
      })
      const lines = yield* logged(WarmUp.run)
      expect(lines).toHaveLength(1)
      expect(lines[0]).toMatch(/^DEBUG not warmed up .*closed instead of/)
    })
  )

  it.scoped("gives up after ten seconds: the log says so", () =>
    Effect.gen(function* () {
      yield* listening(() => undefined)
      const running = yield* Effect.fork(logged(WarmUp.run))
      yield* TestClock.adjust("9999 millis")
      expect(yield* Fiber.poll(running)).toEqual(Option.none())
      yield* TestClock.adjust("1 millis")
      const lines = yield* Fiber.join(running)
      expect(lines).toHaveLength(1)
      expect(lines[0]).toMatch(/^DEBUG not warmed up .*took more than 10s/)
    })
  )
})

describe("warm_up", () => {
  const debug = { FANFARE_LOG_LEVEL: "debug" }

  live("is done by the program once it listens, its clients neither counted nor logged; with false it is not", () =>
    Effect.gen(function* () {
      const cold = yield* Program.start({ env: { ...debug, FANFARE_WARM_UP: "false" } })
      const warm = yield* Program.start({ env: debug })
      yield* warm.says("DEBUG warmed up in")
      const { body } = yield* Http.send(`${warm.http}/metrics`)
      expect(body).toMatch(/^fanfare_connections_opened_total 0$/m)
      expect(warm.output()).not.toMatch(/client=|warm:|connections/)
      expect(cold.output()).not.toContain("warmed up")
    })
  )

  live("does not keep a program that is told to end right after it listens from ending with code 0", () =>
    Effect.gen(function* () {
      const program = yield* Program.start({ env: debug })
      program.signal("SIGTERM")
      expect(yield* program.exit).toEqual({ code: 0, signal: null })
      expect(program.output()).toContain("draining")
    })
  )

  live("a drain does not wait for its end, the program does: a second signal has its meaning until then", () =>
    Effect.gen(function* () {
      const program = yield* Program.start({ preload: "endless-close.cjs" })
      yield* program.says("a second server listens")
      program.signal("SIGTERM")
      yield* program.says("the first server has closed")
      program.signal("SIGINT")
      expect(yield* program.exit).toEqual({ code: 1, signal: null })
    })
  )
})
