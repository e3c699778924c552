/** What is made of the OpenAPI document that follows from the endpoints. */
import * as Predicate from "effect/Predicate"

/** What the platform answers where it decodes bodies itself. Here it never does. */
const DECODE_ERROR = "#/components/schemas/HttpApiDecodeError"

/** What it is that ours answer with its status. */
const BAD_REQUEST = "the body is not what the method takes"

const OF_DECODE_ERROR: ReadonlySet<string> = new Set(["HttpApiDecodeError", "Issue", "PropertyKey"])

// deno-lint-ignore no-explicit-any
type Json = Record<string, any>

const isDecodeError = (schema: unknown): boolean => Predicate.isRecord(schema) && schema["$ref"] === DECODE_ERROR

/** A response without it; `undefined` where nothing is left. */
const cleaned = (response: Json): Json | undefined => {
  const media = response["content"]?.["application/json"]
  if (isDecodeError(media?.schema)) return undefined
  const anyOf: ReadonlyArray<unknown> | undefined = media?.schema?.anyOf
  if (anyOf === undefined || !anyOf.some(isDecodeError)) return response
  const others = anyOf.filter((schema) => !isDecodeError(schema))
  const schema = others.length === 1 ? others[0] : { anyOf: others }
  return { description: BAD_REQUEST, content: { "application/json": { schema } } }
}

const mapValues = (record: Json, f: (value: Json[string]) => unknown): Json =>
  Object.fromEntries(
    Object.entries(record)
      .map(([key, value]) => [key, f(value)] as const)
      .filter(([, value]) => value !== undefined)
  )

/** Takes out what the platform documents for every endpoint, and no endpoint of ours answers. */
export const withoutDecodeError = (spec: Json): Json => ({
  ...spec,
  paths: mapValues(spec["paths"], (methods: Json) =>
    mapValues(methods, (operation: Json) => ({ ...operation, responses: mapValues(operation["responses"], cleaned) }))
  ),
  components: {
    ...spec["components"],
    schemas: Object.fromEntries(
      Object.entries(spec["components"]["schemas"]).filter(([name]) => !OF_DECODE_ERROR.has(name))
    )
  }
})
