import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { live } from "./support/it.ts"
import * as Jitter from "./support/jitter.ts"

// Small; `npm run test:jitter` runs the full one.
describe("stock clients behind a round-robin proxy in front of two instances", () => {
  live(
    "100 clients that are cut off 5 times each get every message, in order, once",
    () =>
      Effect.gen(function* () {
        const plan = { clients: 100, cutsPerClient: 5, messagesPerSecond: 20, seconds: 8, processes: 1 }
        expect(yield* Jitter.check(plan)).toEqual([])
      }),
    60_000
  )
})
