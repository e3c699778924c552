#!/usr/bin/env node
/** The program: environment, arguments, signals and the logger, and nothing else. */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { readFile } from "node:fs/promises"
import process from "node:process"
import { parseArgs } from "node:util"
import * as Banner from "./Banner.ts"
import * as Token from "./cli/Token.ts"
import * as Hooks from "./Hooks.ts"
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

const parseArguments = Either.try({
  try: () =>
    parseArgs({
      options: { config: { type: "string" }, help: { type: "boolean" }, version: { type: "boolean" } }
    }).values,
  catch: (error) => fail(error instanceof Error ? error.message : String(error))
})

// The parser quotes what stands around the error, which may be a secret: only the place is told.
const position = (text: string, error: unknown): string => {
  const at = /position (\d+)/.exec(error instanceof Error ? error.message : "")?.[1]
  if (at === undefined) return ""
  const before = text.slice(0, Number(at)).split("\n")
  return `, at line ${before.length}, column ${(before.at(-1)?.length ?? 0) + 1}`
}

const readConfig = (path: string) =>
  Effect.tryPromise({
    try: () => readFile(path, "utf8"),
    catch: (error) => fail(`${path}: cannot be read: ${error instanceof Error ? error.message : String(error)}`)
  }).pipe(
    Effect.flatMap((text) =>
      Effect.try({
        try: () => JSON.parse(text) as ServerConfig.Input,
        catch: (error) => fail(`${path}: is not JSON${position(text, error)}`)
      })
    )
  )

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
    const path = given ?? process.env["FANFARE_CONFIG"]
    return yield* ServerConfig.load(path === undefined ? {} : yield* readConfig(path), process.env)
  })

const program = Effect.gen(function* () {
  if (process.argv[2] === "token") return yield* Token.run(process.argv.slice(3), load)
  const options = yield* parseArguments
  if (options.help) return yield* Console.log(HELP)
  if (options.version) return yield* Console.log(version)
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
  const now = Effect.runSync(Clock.currentTimeMillis)
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
  process.stderr.write(`fanfare: ${known ? problem.message : Cause.pretty(exit.cause)}\n`)
})
