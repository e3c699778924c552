/** `npm run test:reference`: plays every case to Fanfare and to the reference server, and compares. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { corpus } from "./corpus.ts"
import * as Differences from "./Differences.ts"
import * as Fanfare from "./fanfare.ts"
import * as Page from "./Page.ts"
import { playAll } from "./play.ts"
import * as Reference from "./reference.ts"

const binary = process.env["CENTRIFUGO_BIN"] ?? ""
const isWriting = process.env["FANFARE_REFERENCE"] === "write"

describe("beside the reference server", () => {
  it.live(
    "every difference is listed with its reason, and what is listed is a difference",
    () =>
      Effect.gen(function* () {
        const here = yield* Fanfare.answers
        const there = yield* playAll((profile) => Reference.start(binary, profile), corpus)
        const found = Differences.all(there, here)
        if (isWriting) {
          Differences.writeList(Differences.updated(Differences.list(), found))
          Differences.writeExpectations(Object.fromEntries(here))
          Page.write(Differences.list())
        }
        const problems = Differences.problems(Differences.list(), found)
        expect(problems.join("\n"), `${problems.length} problems in ${corpus.length} cases`).toBe("")
        expect(Object.fromEntries(here)).toEqual(Differences.expectations())
      }),
    300_000
  )
})
