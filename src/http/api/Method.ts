/** A method of the server API: from the body that came to the JSON text of its result. */
import type * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as ParseResult from "effect/ParseResult"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import { Buffer } from "node:buffer"
import type * as Broker from "../../Broker.ts"
import * as Channel from "../../Channel.ts"
import type * as Cluster from "../../Cluster.ts"
import type * as Hooks from "../../Hooks.ts"
import type * as Hub from "../../Hub.ts"
import * as Namespace from "../../Namespace.ts"
import type * as Metrics from "../../Metrics.ts"
import type * as Presence from "../../Presence.ts"
import * as Codes from "../../protocol/Codes.ts"
import * as Raw from "../../protocol/Raw.ts"
import type * as Publisher from "../../Publisher.ts"
import * as ServerConfig from "../../ServerConfig.ts"

/** What methods are carried out with. */
export interface Services {
  readonly broker: Context.Tag.Service<Broker.Broker>
  readonly cluster: Context.Tag.Service<Cluster.Cluster>
  readonly config: ServerConfig.Config
  readonly hooks: Context.Tag.Service<Hooks.Hooks>
  readonly hub: Context.Tag.Service<Hub.Hub>
  readonly metrics: Context.Tag.Service<Metrics.Metrics>
  readonly presence: Context.Tag.Service<Presence.Presence>
  readonly publisher: Context.Tag.Service<Publisher.Publisher>
}

/** Why a method did not do what it was called for; `status` where it is called by itself. */
export class Refused extends Data.TaggedError("Refused")<{
  readonly code: number
  readonly message: string
  readonly status: 200 | 400 | 413
}> {}

/** A call: its body as it came, and as a value, and how large its result may be, in bytes. */
export interface Call {
  readonly text: string
  readonly body: unknown
  readonly maxBytes: number
}

/** Carries out a call; succeeds with JSON text. */
export type Method = (call: Call) => Effect.Effect<string, Refused>

/** Longest message, in UTF-16 code units: it may quote a body, or tell all namespaces, once for each of many channels. */
const MAX_MESSAGE = 500

const refuse = (code: number, message: string, status: Refused["status"]): Refused =>
  new Refused({ code, message: message.slice(0, MAX_MESSAGE), status })

/** Does not do it, for a reason that the caller can tell from the code. */
export const refused = (error: Codes.ErrorCode, message: string = error.message): Refused =>
  refuse(error.code, message, 200)

/** The body is not what the method takes. */
export const malformed = (message: string): Refused => refuse(Codes.badRequest.code, message, 400)

/** The body, or a payload in it, is too large. */
export const tooLarge = (message: string): Refused => refuse(Codes.limitExceeded.code, message, 413)

/** The broker has not done it. */
export const unavailable = (error: Broker.BrokerError): Refused => refused(Codes.internal, error.message)

/** The error of a reply, as JSON text. */
export const errorOf = ({ code, message }: Refused): string => JSON.stringify({ code, message })

const describe = (error: ParseResult.ParseError): string => {
  const [issue] = ParseResult.ArrayFormatter.formatErrorSync(error)
  const where = issue === undefined || issue.path.length === 0 ? "the body" : issue.path.map(String).join(".")
  return `${where}: ${issue?.message ?? "not what the method takes"}`
}

/** Whether an option says anything: it is not left out, `null`, empty or zero. */
const isSet = (option: unknown): boolean =>
  Predicate.isRecord(option)
    ? Object.values(option).some((member) => member !== null)
    : Array.isArray(option)
      ? option.length > 0
      : Boolean(option)

/** A method that takes what a schema describes. A body that sets an option named `unavailable` is refused. */
export const make = <A, I>(
  schema: Schema.Schema<A, I>,
  run: (body: A, call: Call) => Effect.Effect<string, Refused>,
  unavailable: ReadonlyArray<string> = []
): Method => {
  const decode = Schema.decodeUnknownEither(schema)
  return (call) => {
    const { body } = call
    const option = Predicate.isRecord(body) ? unavailable.find((name) => isSet(body[name])) : undefined
    // As if it were not there, something else would be done than is asked for.
    if (option !== undefined) return Effect.fail(refused(Codes.notAvailable, `${option}: is not available`))
    return Either.match(decode(body), {
      onLeft: (error) => Effect.fail(malformed(describe(error))),
      onRight: (decoded) => run(decoded, call)
    })
  }
}

/** Largest raw JSON beside a publication's, in bytes: what a publication may have, too. */
const MAX_RAW = 64 * 1024

/** The text of a member of a body, so that it is relayed as it came; `undefined` where there is none. */
export const rawOf = (
  { text }: Call,
  name: string,
  maxBytes: number = MAX_RAW
): Either.Either<string | undefined, Refused> => {
  const found = Raw.property(text, name)
  if (found === undefined) return Either.right(undefined)
  if (found === "too deep") return Either.left(malformed(`${name}: nested deeper than ${Raw.MAX_DEPTH}`))
  const bytes = Buffer.byteLength(found.text)
  return bytes > maxBytes
    ? Either.left(tooLarge(`${name} has at most ${maxBytes} bytes, this one ${bytes}`))
    : Either.right(found.text)
}

/** The options of a channel of a known namespace. */
export const namespaceOf = (config: ServerConfig.Config, name: string): Either.Either<Namespace.Namespace, Refused> => {
  const channel = ServerConfig.parseChannel(config, name)
  if (Either.isLeft(channel)) return Either.left(refused(Codes.badRequest, channel.left))
  return Either.fromNullable(Namespace.find(config.channel, name), () =>
    refused(
      Codes.unknownChannel,
      `no namespace "${Channel.namespace(name)}"; known: ${Namespace.known(config.channel)}`
    )
  )
}

/** JSON text of an object whose members have any names; the values are JSON text. */
export const objectOf = (members: Iterable<readonly [name: string, json: string]>): string =>
  `{${Array.from(members, ([name, json]) => `${JSON.stringify(name)}:${json}`).join(",")}}`
