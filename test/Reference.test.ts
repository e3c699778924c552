/** What playing the same to Fanfare and to the reference server has taught, held without the reference server. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { corpus } from "./reference/corpus.ts"
import * as Differences from "./reference/Differences.ts"
import * as Fanfare from "./reference/fanfare.ts"
import { live } from "./support/it.ts"

describe("the reference corpus", () => {
  it("names every case once", () => {
    expect(new Set(corpus.map(({ name }) => name)).size).toBe(corpus.length)
  })

  live("every case is answered as expected", () =>
    Effect.gen(function* () {
      const answers = Object.fromEntries(yield* Fanfare.answers)
      expect(answers).toEqual(Differences.expectations())
    })
  )
})
