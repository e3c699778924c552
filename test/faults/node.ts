/** Nodes as processes of their own, under Node and under Deno, which are killed, frozen, told to end and started again. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as Program from "../support/program.ts"
import type { NeverHappened } from "../support/wait.ts"

export type Runtime = "node" | "deno"

/** A node; where it is started again, another process in its place. */
export interface Node {
  readonly name: string
  readonly runtime: Runtime
  /** The process that runs now; `undefined` while there is none. */
  readonly program: () => Program.Program | undefined
  /** Starts it, and waits until it listens. */
  readonly start: Effect.Effect<void, NeverHappened>
  /** SIGKILL; returns when the process is gone. */
  readonly kill: Effect.Effect<void, NeverHappened>
  /** SIGSTOP: it neither answers nor closes. */
  readonly freeze: Effect.Effect<void>
  /** SIGCONT after `freeze`. */
  readonly thaw: Effect.Effect<void>
  /** SIGTERM; returns how the process has ended. */
  readonly terminate: Effect.Effect<Program.Exit | undefined, NeverHappened>
  /** What all its processes have printed. */
  readonly output: () => string
}

/** The program of the tests' own runtime, or of the other one, which the variables of `npm test` name. */
const commandOf = (runtime: Runtime, preload: Program.Preload | undefined): Program.Command => {
  const own = Program.isDeno ? "deno" : "node"
  const other = runtime === "deno" ? process.env["DENO_BIN"] : process.env["NODE_BIN"]
  const path = runtime === own ? process.execPath : (other ?? runtime)
  return runtime === "deno" ? Program.underDeno(path, preload) : Program.underNode(path, preload)
}

/** A node that is not started yet; its process is killed when the scope closes. `port` is one that it keeps. */
export const make = (
  name: string,
  runtime: Runtime,
  env: Readonly<Record<string, string>>,
  preload?: Program.Preload
): Effect.Effect<Node, never, Scope.Scope> =>
  Effect.gen(function* () {
    const outer = yield* Effect.scope
    let current: { readonly program: Program.Program; readonly scope: Scope.CloseableScope } | undefined
    let before = ""

    /** Forgets the process, which has ended. */
    const forget = Effect.suspend(() => {
      const ended = current
      if (ended === undefined) return Effect.void
      current = undefined
      before += ended.program.output()
      return Scope.close(ended.scope, Exit.void)
    })

    const end = (signal: NodeJS.Signals) =>
      Effect.suspend(() => {
        const program = current?.program
        if (program === undefined) return Effect.succeed(undefined)
        program.signal(signal)
        return Effect.zipLeft(program.exit, forget)
      })

    return {
      name,
      runtime,
      program: () => current?.program,
      start: Effect.gen(function* () {
        const scope = yield* Scope.fork(outer, { _tag: "Sequential" } as never)
        // Redis may be away just now: that it listens is enough.
        const program = yield* Program.start({
          env,
          run: commandOf(runtime, preload),
          waitsForBroker: false,
          startsWithin: "60 seconds"
        }).pipe(Scope.extend(scope))
        current = { program, scope }
      }),
      kill: Effect.asVoid(end("SIGKILL")),
      freeze: Effect.sync(() => current?.program.signal("SIGSTOP")),
      thaw: Effect.sync(() => current?.program.signal("SIGCONT")),
      terminate: end("SIGTERM"),
      output: () => before + (current?.program.output() ?? "")
    }
  })
