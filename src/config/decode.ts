/** From JSON values and environment variables to the values of a tree of options. */
import * as Data from "effect/Data"
import * as Either from "effect/Either"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
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

/** The same where a secret may stand, in the wrong place or under a misspelt key. */
const showBesideSecrets = (value: unknown): string => {
  const harmless = typeof value === "number" || typeof value === "boolean" || value === null
  return harmless || (Array.isArray(value) && value.length === 0) ? show(value) : "its value"
}

const hasSecret = (tree: Option.Tree): boolean => Option.leaves(tree).some(({ option }) => option.secret)

const hasOwnSecret = (tree: Option.Tree): boolean => Object.values(tree).some((node) => Option.is(node) && node.secret)

const showKey = (key: string): string => (/^[\w.-]+$/.test(key) ? key : JSON.stringify(key))

const invalid = (key: string, value: string, expected: string): ConfigError =>
  new ConfigError({ message: `${key}: ${value} is not valid: expected ${expected}` })

const decodeOption = (option: Option.Some, value: unknown, key: string): Either.Either<unknown, ConfigError> => {
  const decoded = Schema.decodeUnknownEither(option.schema)(value)
  if (Either.isLeft(decoded))
    return Either.left(invalid(key, option.secret ? "its value" : show(value), option.expected))
  const entry = option.entry
  if (entry === undefined) return Either.right(decoded.right)
  return Either.all((value as ReadonlyArray<unknown>).map((item, index) => decodeTree(entry, item, `${key}[${index}]`)))
}

/** Decodes an object; a key that the tree does not have is an error. */
export const decodeTree = (tree: Option.Tree, value: unknown, at: string): Either.Either<Json, ConfigError> => {
  if (!Predicate.isRecord(value))
    return Either.left(
      invalid(
        at === "" ? "the configuration" : at,
        hasSecret(tree) ? showBesideSecrets(value) : show(value),
        "an object"
      )
    )
  const path = (key: string) => (at === "" ? showKey(key) : `${at}.${showKey(key)}`)
  for (const key of Object.keys(value)) {
    if (!Object.hasOwn(tree, key)) {
      return Either.left(
        new ConfigError({
          message: `${path(key)}: unknown key (value ${hasOwnSecret(tree) ? showBesideSecrets(value[key]) : show(value[key])}): expected one of ${Object.keys(tree).join(", ")}`
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
    const decoded = Option.is(node) ? decodeOption(node, given, path(key)) : decodeTree(node, given, path(key))
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
  if (!Predicate.isRecord(base) || !Predicate.isRecord(over)) return over
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

/** Lays the environment over a JSON value. `unknown` are the `FANFARE_…` variables that mean nothing. */
export const overlay = (
  tree: Option.Tree,
  file: unknown,
  environment: Readonly<Record<string, string | undefined>>,
  reserved: ReadonlyArray<string>
): { readonly value: unknown; readonly unknown: ReadonlyArray<string> } => {
  const known = variables(tree)
  let value = file
  for (const [name, path, kind] of known) {
    const text = environment[name]
    if (text !== undefined && text !== "") value = merge(value, nest(path, parseVariable[kind](text)))
  }
  const names = new Set([...known.map(([name]) => name), ...reserved])
  const unknown = Object.keys(environment).filter((name) => name.startsWith("FANFARE_") && !names.has(name))
  return { value, unknown }
}
