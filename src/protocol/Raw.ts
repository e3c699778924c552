/**
 * Finds the text of a member in JSON text that is known to be valid, so that
 * `data` can be relayed as it came. One pass, no recursion, no allocation but
 * the result.
 */

const QUOTE = 0x22
const BACKSLASH = 0x5c
const COLON = 0x3a
const COMMA = 0x2c
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d

/** Deepest nesting of `data`, in objects and arrays: what every common JSON reader can still take. */
export const MAX_DEPTH = 256

const isSpace = (code: number): boolean => code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09

const skipSpace = (text: string, from: number): number => {
  let at = from
  while (isSpace(text.charCodeAt(at))) at++
  return at
}

/** The index after the string that begins at `from`. */
const skipString = (text: string, from: number): number => {
  // Most strings have no escapes: their end is found without a look at every character.
  const end = text.indexOf('"', from + 1)
  if (text.charCodeAt(end - 1) !== BACKSLASH) return end + 1
  let at = from + 1
  for (;;) {
    const code = text.charCodeAt(at)
    if (code === QUOTE) return at + 1
    at += code === BACKSLASH ? 2 : 1
  }
}

/** The index after the value that begins at `from`; -1 where it is nested deeper than `limit`. */
const skipValue = (text: string, from: number, limit: number): number => {
  let depth = 0
  let at = from
  do {
    const code = text.charCodeAt(at)
    if (code === QUOTE) {
      at = skipString(text, at)
    } else if (code === OPEN_BRACE || code === OPEN_BRACKET) {
      if (++depth > limit) return -1
      at++
    } else if (code === CLOSE_BRACE || code === CLOSE_BRACKET) {
      depth--
      at++
    } else if (depth > 0) {
      at++
    } else {
      // A number or a literal ends at the first character that cannot belong to one.
      while (at < text.length) {
        const next = text.charCodeAt(at)
        if (next === COMMA || next === CLOSE_BRACE || next === CLOSE_BRACKET || isSpace(next)) break
        at++
      }
    }
  } while (depth > 0)
  return at
}

/** Where a value stands in a text. */
interface Span {
  readonly start: number
  readonly end: number
}

const keyIs = (text: string, start: number, end: number, key: string): boolean => {
  const raw = text.slice(start + 1, end - 1)
  return raw.includes("\\") ? JSON.parse(`"${raw}"`) === key : raw === key
}

/** The value of the last member named `key` (as `JSON.parse` would take it) of the object that begins at `from`. */
const findMember = (text: string, from: number, key: string, limit: number): Span | undefined | "too deep" => {
  let found: Span | undefined
  let at = skipSpace(text, from)
  if (text.charCodeAt(at) !== OPEN_BRACE) return undefined
  at = skipSpace(text, at + 1)
  while (text.charCodeAt(at) === QUOTE) {
    const keyStart = at
    const keyEnd = skipString(text, at)
    at = skipSpace(text, keyEnd)
    if (text.charCodeAt(at) !== COLON) return undefined
    const start = skipSpace(text, at + 1)
    const end = skipValue(text, start, limit)
    if (end === -1) return "too deep"
    if (keyIs(text, keyStart, keyEnd, key)) found = { start, end }
    at = skipSpace(text, end)
    if (text.charCodeAt(at) !== COMMA) break
    at = skipSpace(text, at + 1)
  }
  return found
}

/**
 * A copy of a part of a text. V8 makes a part of 13 characters or more as a
 * view of the whole, and keeps the whole for as long as the part is kept.
 */
export const copy = (part: string): string => ` ${part}`.slice(1)

/** What a part of a text may keep in memory beside its own, in characters, before it is copied. */
const SLACK = 512

/** A part of a text, copied where it would keep far more in memory than itself. */
export const partOf = (text: string, start: number, end: number): string => {
  const part = text.slice(start, end)
  return text.length - 2 * part.length > SLACK ? copy(part) : part
}

/** The text of a value; `undefined` where there is none, `"too deep"` where anything before it or in it is. */
export type Found = { readonly text: string } | undefined | "too deep"

const textOf = (text: string, from: number, key: string): Found => {
  const value = findMember(text, from, key, MAX_DEPTH)
  return value === undefined || value === "too deep" ? value : { text: partOf(text, value.start, value.end) }
}

/** The text of a member of a JSON object. */
export const property = (text: string, key: string): Found => textOf(text, 0, key)

/** The text of the member `inner` of the member `outer` of a JSON object. */
export const member = (text: string, outer: string, inner: string): Found => {
  // The object around it is not its own.
  const object = findMember(text, 0, outer, MAX_DEPTH + 1)
  return object === undefined || object === "too deep" ? object : textOf(text, object.start, inner)
}

/** Whether a JSON text is nested no deeper than `MAX_DEPTH`. */
export const isShallow = (text: string): boolean => skipValue(text, skipSpace(text, 0), MAX_DEPTH) !== -1
