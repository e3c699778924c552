/** From JSON values and environment variables to the values of a tree of options. */
import * as Data from "effect/Data"
import * as Either from "effect/Either"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import * as Duplicates from "./Duplicates.ts"
import * as Option from "./Option.ts"

/** A configuration that cannot be used. The message is one line that names the key, its value and what was expected. */
export class ConfigError extends Data.TaggedError("ConfigError")<{ readonly message: string }> {}

type Json = { readonly [key: string]: unknown }

const MAX_SHOWN = 80

/** A value for a message: short, on one line. */
const show = (value: unknown): string => {
  const shown = typeof value === "number" ? String(value) : (JSON.stringify(value) ?? String(value))
  return shown.length > MAX_SHOWN ? `${shown.slice(0, MAX_SHOWN)}…` : shown
}

/** A value that is not printed. */
const HIDDEN = "its value"

/** The same where a secret may stand, in the wrong place or under a misspelt key. */
const showBesideSecrets = (value: unknown): string => {
  const harmless = typeof value === "number" || typeof value === "boolean" || value === null
  return harmless || (Array.isArray(value) && value.length === 0) ? show(value) : HIDDEN
}

const hasSecret = (tree: Option.Tree): boolean => Option.leaves(tree).some(({ option }) => option.secret)

const hasOwnSecret = (tree: Option.Tree): boolean => Object.values(tree).some((node) => Option.is(node) && node.secret)

const showKey = (key: string): string => (/^[\w.-]+$/.test(key) ? key : JSON.stringify(key))

const invalid = (key: string, value: string, expected: string): ConfigError =>
  new ConfigError({ message: `${key}: ${value} is not valid: expected ${expected}` })

/** What was meant as several entries of a list, and stands in one. */
const joined = (value: unknown): string | undefined =>
  Array.isArray(value) ? value.find((item) => Predicate.isString(item) && /^\[|,/.test(item)) : undefined

/** A list that was written as one text, or as JSON in a variable: what its entries are. */
const split = (text: string): string =>
  text
    .split(/[[\],\s"']+/)
    .filter((item) => item !== "")
    .join(" ")

const decodeOption = (
  option: Option.Some,
  value: unknown,
  key: string,
  nameOf: NameOf
): Either.Either<unknown, ConfigError> => {
  const name = nameOf(key)
  const together = option.kind === "list" && !option.secret ? joined(value) : undefined
  if (together !== undefined) {
    const items = split((value as ReadonlyArray<unknown>).join(" "))
    return Either.left(
      invalid(
        name,
        show(together),
        name === key
          ? `an entry of its own for each: ${show(items.split(" "))}`
          : `entries that spaces separate, and nothing else: ${items}`
      )
    )
  }
  const decoded = Schema.decodeUnknownEither(option.schema)(value)
  if (Either.isLeft(decoded)) return Either.left(invalid(name, option.secret ? HIDDEN : show(value), option.expected))
  const entry = option.entry
  if (entry === undefined) return Either.right(decoded.right)
  return Either.all(
    (value as ReadonlyArray<unknown>).map((item, index) => decodeTree(entry, item, `${key}[${index}]`, nameOf))
  )
}

/** What a key is called in a message: by the environment variable, where its value comes from there. */
export type NameOf = (key: string) => string

/** Decodes an object; a key that the tree does not have is an error. */
export const decodeTree = (
  tree: Option.Tree,
  value: unknown,
  at: string,
  nameOf: NameOf
): Either.Either<Json, ConfigError> => {
  if (!Predicate.isRecord(value))
    return Either.left(
      invalid(
        at === "" ? "the configuration" : nameOf(at),
        hasSecret(tree) ? showBesideSecrets(value) : show(value),
        "an object"
      )
    )
  const path = (key: string) => (at === "" ? showKey(key) : `${at}.${showKey(key)}`)
  for (const key of Object.keys(value)) {
    if (!Object.hasOwn(tree, key)) {
      const shown = hasOwnSecret(tree) ? showBesideSecrets(value[key]) : show(value[key])
      const its = shown === HIDDEN ? "" : ` (value ${shown})`
      return Either.left(
        new ConfigError({
          message: `${nameOf(path(key))}: unknown key${its}: expected one of ${Object.keys(tree).join(", ")}`
        })
      )
    }
  }
  const result: Record<string, unknown> = {}
  for (const [key, node] of Object.entries(tree)) {
    const given = value[key]
    if (given === undefined) {
      result[key] = Option.is(node) ? node.default : Option.defaults(node)
      continue
    }
    const decoded = Option.is(node)
      ? decodeOption(node, given, path(key), nameOf)
      : decodeTree(node, given, path(key), nameOf)
    if (Either.isLeft(decoded)) return Either.left(decoded.left)
    result[key] = decoded.right
  }
  return Either.right(result)
}

const parseJson = (text: string): unknown =>
  Either.getOrElse(
    Either.try((): unknown => JSON.parse(text)),
    () => text
  )

const parseNumber = (text: string): unknown => (text.trim() === "" || Number.isNaN(Number(text)) ? text : Number(text))

const parseVariable: Record<Option.Kind, (text: string) => unknown> = {
  text: (text) => text,
  number: parseNumber,
  boolean: (text) => (text === "true" ? true : text === "false" ? false : text),
  list: (text) => text.split(/\s+/).filter((item) => item !== ""),
  json: parseJson
}

const merge = (base: unknown, over: unknown): unknown => {
  if (!Predicate.isRecord(over)) return over
  // What is no object, and should be one, is not replaced in silence: decoding refuses it.
  if (!Predicate.isRecord(base)) return base === undefined ? over : base
  const merged: Record<string, unknown> = { ...base }
  for (const [key, value] of Object.entries(over)) merged[key] = key in merged ? merge(merged[key], value) : value
  return merged
}

const nest = (path: ReadonlyArray<string>, value: unknown): unknown =>
  path.reduceRight<unknown>((inner, key) => ({ [key]: inner }), value)

/** The environment variables of a tree: of every option, and of every object as JSON. An inner one wins. */
const variables = (
  tree: Option.Tree,
  path: ReadonlyArray<string> = []
): ReadonlyArray<readonly [string, ReadonlyArray<string>, Option.Kind]> =>
  Object.entries(tree).flatMap(([key, node]) => {
    const here = [...path, key]
    return Option.is(node)
      ? [[Option.variable(here, node), here, node.kind] as const]
      : [[`FANFARE_${here.join("_").toUpperCase()}`, here, "json"] as const, ...variables(node, here)]
  })

/** A configuration from several sources. */
export interface Overlaid {
  readonly value: unknown
  /** The `FANFARE_…` variables that mean nothing, and what they may have been meant for, in words. */
  readonly unknown: ReadonlyArray<string>
  readonly nameOf: NameOf
}

const twice = (name: string, text: string): ConfigError | undefined => {
  const found = Duplicates.find(text)
  return found && new ConfigError({ message: `${name}: ${showKey(found.path)} stands in it twice: expected it once` })
}

/** Lays the environment over a JSON value. Fails where a variable holds an object that has a key twice. */
export const overlay = (
  tree: Option.Tree,
  file: unknown,
  environment: Readonly<Record<string, string | undefined>>,
  reserved: ReadonlyArray<string>
): Either.Either<Overlaid, ConfigError> => {
  const known = variables(tree)
  const sources = new Map<string, string>()
  let value = file
  for (const [name, path, kind] of known) {
    const text = environment[name]
    if (text === undefined || text === "") continue
    const parsed = parseVariable[kind](text)
    const duplicate = kind === "json" && Predicate.isObject(parsed) ? twice(name, text) : undefined
    if (duplicate !== undefined) return Either.left(duplicate)
    value = merge(value, nest(path, parsed))
    sources.set(path.join("."), name)
  }
  const names = new Set([...known.map(([name]) => name), ...reserved])
  const own = new Map(known.map(([name, path]) => [`FANFARE_${path.join("_").toUpperCase()}`, name]))
  const unknown = Object.keys(environment)
    .filter((name) => name.startsWith("FANFARE_") && !names.has(name))
    .map((name) => {
      const meant = own.get(name)
      return `${name}: unknown variable, ignored${meant === undefined ? "" : `: it is called ${meant}`}`
    })
  /** The innermost variable that a key stands in. */
  const nameOf = (key: string): string => {
    for (let end = key.length; end > 0; end = Math.max(key.lastIndexOf(".", end - 1), key.lastIndexOf("[", end - 1))) {
      const variable = sources.get(key.slice(0, end))
      if (variable !== undefined) return end === key.length ? variable : `${variable}: ${key}`
    }
    return key
  }
  return Either.right({ value, unknown, nameOf })
}
