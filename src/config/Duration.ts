/** Durations as operators write them: `"300s"`, `"1.5h"`, `"1m30s"`, `"250ms"`, `"0"`. */
import * as Duration from "effect/Duration"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"

const UNITS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 } as const

const WHOLE = /^(?:\d+(?:\.\d+)?(?:ms|s|m|h))+$/
const PART = /(\d+(?:\.\d+)?)(ms|s|m|h)/g

/** Milliseconds, or `undefined` where the text is not a duration. */
const parse = (text: string): number | undefined => {
  if (text === "0") return 0
  if (!WHOLE.test(text)) return undefined
  let total = 0
  for (const [, amount, unit] of text.matchAll(PART)) {
    total += Number(amount) * UNITS[unit as keyof typeof UNITS]
  }
  return Number.isFinite(total) ? total : undefined
}

/** A finite duration; encoded as text with a unit. */
export const FromText = Schema.transformOrFail(Schema.String, Schema.DurationFromSelf, {
  strict: true,
  decode: (text, _, ast) => {
    const millis = parse(text)
    return millis === undefined
      ? ParseResult.fail(new ParseResult.Type(ast, text))
      : ParseResult.succeed(Duration.millis(millis))
  },
  encode: (duration) => ParseResult.succeed(`${Duration.toMillis(duration)}ms`)
})
