/**
 * The fields of commands: of which type they are, what they are where they are
 * missing or `null`, and how they are read.
 *
 * By hand: for a `subscribe` a Schema takes 5 µs, and 90 while the code is not
 * compiled yet, as in a storm after a restart; this takes 1.6 and 8.
 */
import { identity } from "effect/Function"
import * as Predicate from "effect/Predicate"

/** A value that a field cannot have. */
export const WRONG: unique symbol = Symbol("wrong")

/** A field with a value of the type `A`. */
export interface Field<A> {
  /** Its JSON type, in words. */
  readonly type: string
  /** What it is for, in words: docs/protocol.md lists it. */
  readonly description: string
  /** Where it is missing or `null`; `undefined`: then it is left out. */
  readonly fallback: A
  /** A value that is neither. */
  readonly read: (value: unknown) => A | typeof WRONG
}

export type Fields = Readonly<Record<string, Field<unknown>>>

/** The values of fields. */
export type Values<F extends Fields> = {
  readonly [K in keyof F as undefined extends Value<F[K]> ? never : K]: Value<F[K]>
} & {
  readonly [K in keyof F as undefined extends Value<F[K]> ? K : never]?: Exclude<Value<F[K]>, undefined>
}

type Value<F> = F extends Field<infer A> ? A : never

const field =
  <A>(type: string, fallback: A, is: (value: unknown) => boolean, as: (value: A) => A = identity) =>
  (description: string): Field<A> => ({
    type,
    description,
    fallback,
    read: (value) => (is(value) ? as(value as A) : WRONG)
  })

// As numbers of JavaScript, the greatest whole numbers of 64 bits are the powers of 2 above them.
const isWhole =
  (least: number, most: number) =>
  (value: unknown): boolean =>
    typeof value === "number" && Number.isInteger(value) && value >= least && value <= most

/** The nearest number that JavaScript counts with exactly. */
const exact = (value: number): number => Math.min(Math.max(value, Number.MIN_SAFE_INTEGER), Number.MAX_SAFE_INTEGER)

export const text = field("text", "", Predicate.isString)

export const flag = field("boolean", false, Predicate.isBoolean)

/** 64 bits, with a sign. */
export const integer = field("whole number", 0, isWhole(-(2 ** 63), 2 ** 63), exact)

/** 64 bits, without a sign. No stream has an offset that `exact` would change. */
export const natural = field("whole number, 0 or more", 0, isWhole(0, 2 ** 64), exact)

/** An object of any names; `is` says which values they may have. A member that is `null` is absent. */
export const record = <A>(is: (value: unknown) => value is A) =>
  field<Readonly<Record<string, A | null>>>(
    "object",
    Object.freeze({}),
    (value) => Predicate.isRecord(value) && Object.values(value).every((one) => one === null || is(one))
  )

/** Anything. */
export const anything = field<object | string | number | boolean | null>("object", null, () => true)

/** Reads an object; `WRONG`: it is none, or a field has a value that it cannot have. */
export const read = <F extends Fields>(fields: F, value: unknown): Values<F> | typeof WRONG => {
  if (!Predicate.isRecord(value)) return WRONG
  const values: Record<string, unknown> = {}
  for (const name in fields) {
    const { fallback, read } = fields[name] as Field<unknown>
    const given = value[name] ?? undefined
    const one = given === undefined ? fallback : read(given)
    if (one === WRONG) return WRONG
    if (one !== undefined) values[name] = one
  }
  return values as Values<F>
}

/** An object with these fields, which may be left out. */
export const optional =
  <F extends Fields>(fields: F) =>
  (description: string): Field<Values<F> | undefined> => ({
    type: "object",
    description,
    fallback: undefined,
    read: (value) => read(fields, value)
  })
