import { describe, expect, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Either from "effect/Either"
import * as FastCheck from "effect/FastCheck"
import * as Schema from "effect/Schema"
import * as Text from "../src/config/Duration.ts"

describe("Duration.FromText", () => {
  const decode = Schema.decodeUnknownEither(Text.FromText)

  it.each([
    ["0", 0],
    ["0s", 0],
    ["250ms", 250],
    ["300s", 300_000],
    ["5m", 300_000],
    ["1.5h", 5_400_000],
    ["1m30s", 90_000],
    ["1h2m3s4ms", 3_723_004]
  ])("reads %s", (text, millis) => {
    expect(Either.map(decode(text), Duration.toMillis)).toEqual(Either.right(millis))
  })

  it.each(["", " ", "5", "-5s", "+5s", "5 s", "5S", "s", "5d", "1e3s", ".5s", "5.s", "5s ", "infinity", 5, null])(
    "refuses %j",
    (text) => {
      expect(Either.isLeft(decode(text))).toBe(true)
    }
  )

  it("refuses what is beyond every number: a duration is finite", () => {
    expect(Either.isLeft(decode(`${"9".repeat(400)}s`))).toBe(true)
  })

  it.prop("reads what it writes", [FastCheck.nat()], ([millis]) => {
    const text = Schema.encodeSync(Text.FromText)(Duration.millis(millis))
    expect(Either.map(decode(text), Duration.toMillis)).toEqual(Either.right(millis))
  })
})
