/** What every method of the server API may answer, and how the fields of its bodies are declared. */
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as Schema from "effect/Schema"

/** Any JSON value. What is declared with it is relayed as text, so that it goes out as it came. */
export const Json = Schema.Unknown.annotations({
  jsonSchema: { type: ["object", "array", "string", "number", "boolean", "null"] }
})

/** An object without members. */
export const Nothing = Schema.Struct({}).annotations({ jsonSchema: { type: "object", additionalProperties: false } })

/** A whole number. Not `Schema.Int`, which would be documented as a schema of its own. */
export const Int = Schema.Number.pipe(Schema.int())

/** What documentation says of a field. */
interface About {
  readonly description: string
  readonly default?: unknown
}

/** A field that has to be there. */
export const required = <A, I>(schema: Schema.Schema<A, I>, description: string) =>
  Schema.propertySignature(schema).annotations({ description })

/** A text that may be `null`, which is an empty one. */
export const Text = Schema.transform(
  Schema.NullishOr(Schema.String).annotations({ jsonSchema: { type: "string" } }),
  Schema.String,
  { strict: true, decode: (text) => text ?? "", encode: (text) => text }
)

/** A text that has to be there. Left out or `null` it is an empty one, which is then refused as such. */
export const text = (description: string) => required(Text, description)

/** A field that may be left out, or be `null`. */
export const optional = <A, I>(schema: Schema.Schema<A, I>, description: string, default_?: unknown) => {
  const about: About = default_ === undefined ? { description } : { description, default: default_ }
  // A default that is documented is applied where the field is read.
  return Schema.optional(Schema.NullOr(schema)).annotations(about as { description: string })
}

/** A member of a result that is left out where there is nothing to tell. */
export const present = <A, I>(schema: Schema.Schema<A, I>, description: string) =>
  Schema.optional(schema).annotations({ description })

/** Why a method did not do what it was called for. */
export const Refusal = Schema.Struct({
  code: required(Int, "100 to 112, or the application's own"),
  message: required(Schema.String, "for people")
}).annotations({ identifier: "Error" })

/** Says that some instances have not done, or told, their part. */
export const partial = {
  partial: present(
    Schema.Literal(true),
    "not every instance has answered in time, or could do it; there only where it is true"
  )
}

/** A result, or an error. */
export const of = <A, I>(name: string, result: Schema.Schema<A, I>) =>
  Schema.Union(Schema.Struct({ result }), Schema.Struct({ error: Refusal })).annotations({ identifier: `${name}Reply` })

const refused = <Code extends number>(code: Code) => ({
  // The encoder tells errors apart by their fields, so each has its own code.
  error: Schema.Struct({ code: Schema.Literal(code), message: Schema.String })
})

/** The server API is off. */
export class NoApi extends Schema.Class<NoApi>("NoApi")(
  refused(108),
  HttpApiSchema.annotations({ status: 404, description: "no `http_api.key` is configured" })
) {}

/** The key is missing or wrong. */
export class Unauthorized extends Schema.Class<Unauthorized>("Unauthorized")(
  refused(101),
  HttpApiSchema.annotations({ status: 401, description: "the key is missing or wrong" })
) {}

/** The body is not what the method takes. */
export class BadRequest extends Schema.Class<BadRequest>("BadRequest")(
  refused(107),
  HttpApiSchema.annotations({ status: 400, description: "the body is not what the method takes" })
) {}

/** The body or a payload in it is too large. */
export class TooLarge extends Schema.Class<TooLarge>("TooLarge")(
  refused(106),
  HttpApiSchema.annotations({ status: 413, description: "the body, or a payload in it, is too large" })
) {}
