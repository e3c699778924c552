/** The run of `npm run test:chaos`; its options come from scripts/test.mjs. */
import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { live } from "../support/it.ts"
import * as Chaos from "./chaos.ts"
import { names } from "./kinds.ts"

const seed = Number(process.env["CHAOS_SEED"] ?? Math.floor(Math.random() * 2 ** 32))
const seconds = 60 * Number(process.env["CHAOS_MINUTES"] ?? 1)
const asked = process.env["CHAOS_FAULTS"]?.split(",")
const unknown = asked?.filter((name) => !names.some((known) => known === name)) ?? []

describe("three nodes, a Redis and everything that can go wrong between them", () => {
  live(
    `seed ${seed}, ${seconds} s: every promise is kept`,
    () =>
      Effect.gen(function* () {
        expect(unknown, `faults are: ${names.join(", ")}`).toEqual([])
        const faults = names.filter((name) => asked?.includes(name) !== false)
        expect(yield* Chaos.verify({ seed, seconds, clients: 300, rate: 30, faults })).toEqual([])
      }),
    seconds * 1000 + 240_000
  )
})
