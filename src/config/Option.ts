/**
 * One configuration option: its schema, default, unit and meaning, declared in
 * one place. From a tree of them follow the decoder, the names of the
 * environment variables and the table in the documentation.
 */
import type * as Schema from "effect/Schema"

/** How the value is written in an environment variable. */
export type Kind = "text" | "number" | "boolean" | "list" | "json"

/** One option. */
export interface Option<A> {
  readonly _tag: "Option"
  // deno-lint-ignore no-explicit-any
  readonly schema: Schema.Schema<A, any>
  readonly default: A
  readonly kind: Kind
  readonly doc: string
  readonly unit: string | undefined
  /** What a value must be, in words. */
  readonly expected: string
  /** Never printed. */
  readonly secret: boolean
  /** Its own environment variable, instead of `FANFARE_` and the path. */
  readonly env: string | undefined
  /** The options of one entry, where the value is a list of objects. */
  readonly entry: Tree | undefined
}

/** An option of whatever type. */
// deno-lint-ignore no-explicit-any
export type Some = Option<any>

/** A tree of options. */
export interface Tree {
  readonly [key: string]: Some | Tree
}

/** The values of a tree. */
export type Values<T extends Tree> = {
  readonly [K in keyof T]: T[K] extends Option<infer A> ? A : T[K] extends Tree ? Values<T[K]> : never
}

const EXPECTED: Record<Kind, string> = {
  text: "a text",
  number: "a whole number, 0 or more",
  boolean: "true or false",
  list: "a list of texts",
  json: "JSON"
}

/** Declares an option. */
export const make = <A, I>(
  schema: Schema.Schema<A, I>,
  default_: NoInfer<A>,
  about: {
    readonly kind: Kind
    readonly doc: string
    readonly unit?: string
    readonly expected?: string
    readonly secret?: boolean
    readonly env?: string
    readonly entry?: Tree
  }
): Option<A> => ({
  _tag: "Option",
  schema,
  default: default_,
  kind: about.kind,
  doc: about.doc,
  unit: about.unit,
  expected: about.expected ?? EXPECTED[about.kind],
  secret: about.secret ?? false,
  env: about.env,
  entry: about.entry
})

/** Tells an option from a tree. */
export const is = (node: Some | Tree): node is Some => node["_tag"] === "Option"

/** Every option of a tree with its path, in the order of declaration. */
export const leaves = (
  tree: Tree,
  path: ReadonlyArray<string> = []
): ReadonlyArray<{ readonly path: ReadonlyArray<string>; readonly option: Some }> =>
  Object.entries(tree).flatMap(([key, node]) =>
    is(node) ? [{ path: [...path, key], option: node }] : leaves(node, [...path, key])
  )

/** The values of a tree in which nothing is set. */
export const defaults = <T extends Tree>(tree: T): Values<T> =>
  Object.fromEntries(
    Object.entries(tree).map(([key, node]) => [key, is(node) ? node.default : defaults(node)])
  ) as Values<T>

/** The environment variable of an option. */
export const variable = (path: ReadonlyArray<string>, option: Some): string =>
  option.env ?? `FANFARE_${path.join("_").toUpperCase()}`
