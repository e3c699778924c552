import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { live } from "./support/it.ts"
import * as Jitter from "./support/jitter.ts"

describe("stock clients behind a round-robin proxy in front of two instances", () => {
  live(
    "1,000 clients that are cut off 20 times each get every message, in order, once",
    () =>
      Effect.gen(function* () {
        const plan = { clients: 1000, cutsPerClient: 20, messagesPerSecond: 20, seconds: 240, processes: 2 }
        expect(yield* Jitter.check(plan)).toEqual([])
      }),
    1_200_000
  )
})
