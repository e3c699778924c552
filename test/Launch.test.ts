import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Hooks from "../src/Hooks.ts"
import * as Server from "../src/Server.ts"
import * as ServerConfig from "../src/ServerConfig.ts"
import { version } from "../src/version.ts"
import * as Http from "./support/http.ts"
import { live } from "./support/it.ts"
import { Watched } from "./support/wait.ts"

/** Launches a server until the scope closes; returns what it has logged once that contains a text. */
const launched = (host: string, text: string) =>
  Effect.gen(function* () {
    const watched = new Watched()
    const lines: Array<string> = []
    const logger = Logger.make(({ message }) => {
      lines.push(String(message))
      watched.changed()
    })
    yield* Effect.forkScoped(
      Server.launch.pipe(
        Effect.provide(Hooks.layer({})),
        Effect.provide(ServerConfig.layer({ host, port: 0 })),
        Effect.provide(Logger.replace(Logger.defaultLogger, logger))
      )
    )
    yield* watched.until(
      () => lines.some((line) => line.includes(text)),
      () => `a line with ${text}; there are: ${lines.join("\n")}`
    )
    return lines
  })

describe("Server.launch", () => {
  for (const [host, shown] of [
    ["127.0.0.1", "localhost"],
    ["::1", "[::1]"],
    ["0.0.0.0", "0.0.0.0"]
  ] as const) {
    live(`logs once that it listens, and where, on ${host}`, () =>
      Effect.gen(function* () {
        const lines = yield* launched(host, "listening on")
        const said = lines.filter((line) => line.includes("listening on"))
        expect(said).toEqual([expect.stringContaining(`fanfare ${version} listening on http://${shown}:`)])
        const [url = ""] = /http:\S+/.exec(said[0] ?? "") ?? []
        const health = yield* Http.send(`${url.replace("localhost", "127.0.0.1")}/health/live`)
        expect(health.status).toBe(200)
      })
    )
  }
})
