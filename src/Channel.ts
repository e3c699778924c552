/**
 * Channel names. A name is any non-empty text without control characters; what
 * stands before its first `:` is its namespace. Names are data, never code:
 * they are kept in `Map`s, and adapters encode them where a store gives
 * characters a meaning.
 */
import * as Either from "effect/Either"

/** Why a text is not a channel name, in words for the person who sent it. */
export type Malformed = string

// Controls, and lone surrogates, which cannot be written as UTF-8.
const FORBIDDEN = /[\p{Cc}\p{Surrogate}]/u

/** Checks a channel name; `maxLength` is in UTF-16 code units (`channel.max_length`). */
export const parse = (name: string, maxLength: number): Either.Either<string, Malformed> => {
  if (name.length === 0) return Either.left("a channel name is not empty")
  if (name.length > maxLength) {
    return Either.left(`a channel name has at most ${maxLength} characters, this one ${name.length}`)
  }
  if (FORBIDDEN.test(name)) return Either.left("a channel name has no control characters and no lone surrogates")
  return Either.right(name)
}

/** The namespace of a channel, `undefined` for a channel without one. */
export const namespace = (channel: string): string | undefined => {
  const colon = channel.indexOf(":")
  return colon === -1 ? undefined : channel.slice(0, colon)
}
