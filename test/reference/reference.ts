/** The reference server, in a process of its own. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { createServer } from "node:net"
import * as Http from "../support/http.ts"
import * as Program from "../support/program.ts"
import { eventually } from "../support/wait.ts"
import type { Profile } from "./Case.ts"
import type { Target } from "./play.ts"
import { theirs } from "./profiles.ts"

/** A port that nobody listens on. */
const freePort: Effect.Effect<number> = Effect.async((resume) => {
  const server = createServer().listen(0, "127.0.0.1", () => {
    const address = server.address()
    server.close(() => resume(Effect.succeed(typeof address === "object" ? (address?.port ?? 0) : 0)))
  })
})

/** Starts it with the configuration of a profile; it is killed when the scope closes. */
export const start = (binary: string, profile: Profile): Effect.Effect<Target, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const port = yield* freePort
    const file = yield* Program.temporaryFile("config.json", JSON.stringify(theirs(profile, port)))
    const program = yield* Program.spawnProgram({ run: { command: binary, args: ["--config", file] } })
    const http = `http://127.0.0.1:${port}`
    const health = Effect.map(Effect.either(Http.send(`${http}/health`)), (answer) =>
      answer._tag === "Right" ? answer.right.status : undefined
    )
    yield* eventually(health, (status) => status === 200 || program.ended() !== undefined, `${binary} listens`)
    if (program.ended() !== undefined) return yield* Effect.fail(new Error(program.output()))
    return { http, ws: `ws://127.0.0.1:${port}`, patience: "8 seconds", hasEnded: () => program.ended() !== undefined }
  })
