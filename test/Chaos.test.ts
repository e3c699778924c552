import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Chaos from "./faults/chaos.ts"
import { live } from "./support/it.ts"

// Short; `npm run test:chaos` runs it for as long as you like, with any seed.
describe("three nodes, a Redis and everything that can go wrong between them", () => {
  live(
    "20 seconds of faults: every promise is kept",
    () =>
      Effect.gen(function* () {
        const seed = Number(process.env["CHAOS_SEED"] ?? 18)
        expect(yield* Chaos.verify({ seed, seconds: 20, clients: 120, rate: 40 })).toEqual([])
      }),
    240_000
  )
})
