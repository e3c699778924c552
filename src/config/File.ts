/** The configuration as text: JSON with one object in it, and no key of an object twice. */
import * as Either from "effect/Either"
import * as Predicate from "effect/Predicate"
import { ConfigError } from "./decode.ts"
import * as Duplicates from "./Duplicates.ts"

/** Editors of Windows begin a file of UTF-8 with it. */
const BYTE_ORDER_MARK = /^\uFEFF/

const HOW = 'expected JSON such as {"port": 8000}'

// The parser quotes what stands around the error, which may be a secret: only the place is told.
const position = (text: string, error: unknown): string => {
  const at = /position (\d+)/.exec(error instanceof Error ? error.message : "")?.[1]
  if (at === undefined) return ""
  const before = text.slice(0, Number(at)).split("\n")
  return `, at line ${before.length}, column ${(before.at(-1)?.length ?? 0) + 1}`
}

const nameOf = (path: string): string => (/^[\w.[\]-]+$/.test(path) ? path : JSON.stringify(path))

/** Reads the text of the file at `path`. Fails with one line that names the file, and nothing of what stands in it but a key. */
export const parse = (path: string, given: string): Either.Either<{ readonly [key: string]: unknown }, ConfigError> => {
  const fail = (message: string) => Either.left(new ConfigError({ message: `${path}: ${message}` }))
  const text = given.replace(BYTE_ORDER_MARK, "")
  if (text.trim() === "") return fail(`is empty: ${HOW}`)
  const parsed = Either.try((): unknown => JSON.parse(text))
  if (Either.isLeft(parsed)) return fail(`is not JSON${position(text, parsed.left)}: ${HOW}`)
  if (!Predicate.isRecord(parsed.right)) return fail(`is not an object: ${HOW}`)
  const duplicate = Duplicates.find(text)
  if (duplicate !== undefined) {
    const [first, second] = duplicate.lines
    const where = first === second ? `at line ${first}` : `at line ${first} and at line ${second}`
    return fail(`${nameOf(duplicate.path)} stands in it twice, ${where}: expected it once`)
  }
  return Either.right(parsed.right)
}
