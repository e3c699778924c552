#!/usr/bin/env node
/** The program: environment, arguments, signals and the logger, and nothing else. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { readFile } from "node:fs/promises"
import process from "node:process"
import * as Banner from "./Banner.ts"
import * as Arguments from "./cli/Arguments.ts"
import * as Output from "./cli/Output.ts"
import * as Token from "./cli/Token.ts"
import * as File from "./config/File.ts"
import * as Hooks from "./Hooks.ts"
import { monotonic } from "./internal/clock.ts"
import * as Scheduler from "./internal/Scheduler.ts"
import * as Logging from "./Logging.ts"
import * as Server from "./Server.ts"
import * as ServerConfig from "./ServerConfig.ts"
import { version } from "./version.ts"
import * as WarmUp from "./WarmUp.ts"

const HELP = `fanfare ${version}: a real-time WebSocket server

  fanfare [--config FILE]   start it; FILE is JSON (or FANFARE_CONFIG names it)
  fanfare token --user 42   print a token to try things out with; see fanfare token --help
  fanfare --version
  fanfare --help

Environment: HOST (127.0.0.1), PORT (8000), REDIS_URL, and FANFARE_… for every
other option: client.allowed_origins is FANFARE_CLIENT_ALLOWED_ORIGINS.`

const fail = (message: string): ServerConfig.ConfigError => new ServerConfig.ConfigError({ message })

const parseArguments = Arguments.parse(process.argv.slice(2), {
  config: { type: "string" },
  help: { type: "boolean" },
  version: { type: "boolean" }
})

const readConfig = (path: string) =>
  Effect.tryPromise({
    try: () => readFile(path, "utf8"),
    catch: (error) =>
      fail(
        `${path}: cannot be read: ${error instanceof Error ? error.message : String(error)}: expected the path of a JSON file`
      )
  }).pipe(Effect.flatMap((text) => File.parse(path, text)))

const serve = ({ config, warnings }: ServerConfig.Loaded) =>
  Effect.gen(function* () {
    yield* Effect.forEach(warnings, (warning) => Effect.logWarning(warning), { discard: true })
    const scope = yield* Effect.scope
    const server = Server.layerStandalone.pipe(
      Layer.provide(Hooks.layerConfig),
      Layer.provide(Layer.succeed(ServerConfig.ServerConfig, config))
    )
    const run = Effect.gen(function* () {
      const address = yield* Server.Address
      yield* Effect.forEach(Banner.lines(config, address, version), (line) => Effect.logInfo(line), { discard: true })
      // The drain does not wait for its end, but the program does: until then a second signal has its meaning.
      const warmUp = yield* Effect.forkIn(
        Effect.when(WarmUp.run, () => config.warm_up),
        scope
      )
      yield* Effect.onInterrupt(Effect.never, () =>
        Effect.zipRight(Effect.logInfo("draining; a second signal ends it at once"), Fiber.interruptFork(warmUp))
      )
    })
    return yield* Effect.provide(run, server)
  }).pipe(Effect.scoped, Effect.provide(Logging.layer(config.log)))

const load = (given: string | undefined) =>
  Effect.gen(function* () {
    if (given?.trim() === "") return yield* fail("--config: expected the path of a JSON file behind it")
    // As any other variable, one that is empty is none.
    const path = given ?? (process.env["FANFARE_CONFIG"]?.trim() === "" ? undefined : process.env["FANFARE_CONFIG"])
    return yield* ServerConfig.load(path === undefined ? {} : yield* readConfig(path), process.env)
  })

const program = Effect.gen(function* () {
  yield* Output.listen
  if (process.argv[2] === "token") return yield* Token.run(process.argv.slice(3), load)
  const options = yield* parseArguments
  if (options.help) return yield* Output.answer(HELP)
  if (options.version) return yield* Output.answer(version)
  return yield* serve(yield* load(options.config))
})

// Not NodeRuntime.runMain: it calls process.exit, and forgets its handlers on
// the first signal. Here the first one drains, and the process ends by itself
// once nothing is left; a second one ends it at once.
const main = Effect.runFork(program, { scheduler: Scheduler.make() })

// On Ctrl-C the terminal sends SIGINT to every process of its group, and
// `deno task` passes on the one that it got itself: the same signal so soon
// again is no second one.
const ECHO_MILLIS = 250

let first: { readonly signal: string; readonly at: number } | undefined

const onSignal = (signal: string): void => {
  const now = Effect.runSync(monotonic)
  if (first === undefined) {
    first = { signal, at: now }
    Effect.runFork(Fiber.interruptFork(main))
  } else if (signal !== first.signal || now - first.at > ECHO_MILLIS) {
    process.exit(1)
  }
}

// One listener a signal, kept to the end: Deno would call one that is added
// while a signal is handled for that very signal too.
const SIGNALS = [
  ["SIGTERM", () => onSignal("SIGTERM")],
  ["SIGINT", () => onSignal("SIGINT")]
] as const

for (const [signal, listener] of SIGNALS) process.on(signal, listener)

main.addObserver((exit) => {
  for (const [signal, listener] of SIGNALS) process.off(signal, listener)
  if (Exit.isSuccess(exit) || Cause.isInterruptedOnly(exit.cause)) return
  process.exitCode = 1
  const problem = Cause.squash(exit.cause)
  const known = problem instanceof ServerConfig.ConfigError || problem instanceof Server.ListenError
  Output.problem(`fanfare: ${known ? problem.message : Cause.pretty(exit.cause)}`)
})
