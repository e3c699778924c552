/**
 * Tokens (JWT, RFC 7519): what they say of a connection or a subscription, once
 * their signature is verified. What follows from it is for `Hooks` to decide.
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Predicate from "effect/Predicate"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Errors from "jose/errors"
import { CompactSign } from "jose/jws/compact/sign"
import { compactVerify } from "jose/jws/compact/verify"
import { createSecretKey, type KeyObject } from "node:crypto"
import * as PublicKey from "./config/PublicKey.ts"
import { wall } from "./internal/clock.ts"
import * as Json from "./protocol/Json.ts"
import * as Raw from "./protocol/Raw.ts"
import * as ServerConfig from "./ServerConfig.ts"

/**
 * A token that is not accepted. `Expired`: its signature is right, and its time
 * is over. `NotYet`: its signature is right, and its time has not begun. A new
 * one may do in place of either. `Invalid`: everything else. `message` is for
 * the log, and has nothing of the token or of a key in it.
 */
export class TokenError extends Data.TaggedError("TokenError")<{
  readonly reason: "Expired" | "NotYet" | "Invalid"
  readonly message: string
}> {}

/** A channel that the server is to subscribe a connection to. `info` and `data` are raw JSON. */
export interface ServerSubscription {
  readonly channel: string
  readonly info?: string
  readonly data?: string
}

/** What every token says. A claim that is `null` is absent, but for those of raw JSON. */
interface Claims {
  /** The claim `sub`; empty without one: anonymous. */
  readonly user: string
  /** The claim `exp`, Unix time in seconds, a fraction rounded up; without one it does not expire. */
  readonly expiresAt: number | undefined
  /** The claim `info`, raw JSON as it stands in the token. */
  readonly info: string | undefined
}

/** What the token of a connection says. */
export interface ConnectionClaims extends Claims {
  /** Those of the claims `channels` and `subs`, each once; what `subs` says of one wins. The names are not checked. */
  readonly channels: ReadonlyArray<ServerSubscription>
}

/** What the token of a subscription says. */
export interface SubscriptionClaims extends Claims {
  readonly channel: string
}

/**
 * Verifies tokens: their signature with the keys of `client.token`, each for
 * its own algorithms only; `exp` and `nbf` against the clock, with
 * `client.token.leeway`; `aud` and `iss` where the configuration names them.
 * Without a key every token fails as `Invalid`.
 */
export class Auth extends Context.Tag("fanfare/Auth")<
  Auth,
  {
    /** Fails as `Invalid` also where the token is one of a subscription: where it has a claim `channel`. */
    readonly verifyConnection: (token: string) => Effect.Effect<ConnectionClaims, TokenError>
    /** Fails as `Invalid` also without a claim `channel`. Whether user and channel are the client's is for the caller to see. */
    readonly verifySubscription: (token: string) => Effect.Effect<SubscriptionClaims, TokenError>
  }
>() {}

const invalid = (message: string): TokenError => new TokenError({ reason: "Invalid", message })

const HMAC = ["HS256", "HS384", "HS512"]

const secretKey = (secret: Redacted.Redacted): KeyObject => createSecretKey(Redacted.value(secret), "utf8")

const publicKey = (
  text: Redacted.Redacted | undefined,
  read: (text: string) => Either.Either<PublicKey.PublicKey, string>
): ReadonlyArray<PublicKey.PublicKey> =>
  text === undefined
    ? []
    : [Either.getOrThrowWith(read(Redacted.value(text)), (problem) => new Error(`a key of client.token: ${problem}`))]

/** The key of every algorithm that is accepted. */
const keysOf = (token: ServerConfig.Config["client"]["token"]): ReadonlyMap<string, KeyObject> => {
  const { hmac_secret_key: secret } = token
  const keys = [
    ...(secret === undefined ? [] : [{ key: secretKey(secret), algorithms: HMAC }]),
    ...publicKey(token.rsa_public_key, PublicKey.rsa),
    ...publicKey(token.ecdsa_public_key, PublicKey.ecdsa)
  ]
  return new Map(keys.flatMap(({ algorithms, key }) => algorithms.map((algorithm) => [algorithm, key] as const)))
}

const NO_TOKEN = "it is not a signed JSON Web Token"

// Not the library's own words, which quote the header of the token.
const problem = (error: unknown, algorithms: ReadonlyArray<string>): TokenError => {
  if (error instanceof Errors.JOSEAlgNotAllowed) {
    return invalid(`the algorithm of the token is not one that client.token has a key for: ${algorithms.join(", ")}`)
  }
  if (error instanceof Errors.JWSSignatureVerificationFailed) return invalid("the signature of the token is wrong")
  return invalid(NO_TOKEN)
}

/** The claims of a token, without those that are `null`, the text that they were read from, and when that was, in Unix seconds. */
interface Verified {
  readonly at: number
  readonly claims: Readonly<Record<string, unknown>>
  readonly text: string
}

/** Reads the claims of a token whose signature is right. */
const readClaims = (payload: Uint8Array, at: number): Either.Either<Verified, TokenError> =>
  Either.try({
    try: () => {
      const text = new TextDecoder("utf-8", { fatal: true }).decode(payload)
      return { text, claims: JSON.parse(text) as unknown }
    },
    catch: () => invalid(NO_TOKEN)
  }).pipe(
    Either.flatMap(({ claims, text }) =>
      Predicate.isRecord(claims)
        ? Either.right({
            at,
            text,
            claims: Object.fromEntries(Object.entries(claims).filter(([, claim]) => claim !== null))
          })
        : Either.left(invalid(NO_TOKEN))
    )
  )

/** A claim that may be missing; `expected` says what it is if not. */
const optional = <A>(
  { claims }: Verified,
  name: string,
  is: (value: unknown) => value is A,
  expected: string
): Either.Either<A | undefined, TokenError> => {
  const value = claims[name]
  return value === undefined || is(value)
    ? Either.right(value)
    : Either.left(invalid(`the claim "${name}" of the token is not ${expected}`))
}

const isNumber = Schema.is(Schema.Finite)

/** A claim that is a time, in Unix seconds (RFC 7519, section 2: NumericDate). */
const timeOf = (verified: Verified, name: "exp" | "nbf" | "iat") =>
  optional(verified, name, isNumber, "a finite number")

/** Whether `aud` and `iss` are those of the configuration, and what the clock says of `exp` and `nbf`. */
const inForce = (
  verified: Verified,
  { audience, issuer, leeway }: ServerConfig.Config["client"]["token"]
): Either.Either<void, TokenError> =>
  Either.gen(function* () {
    const { aud, iss } = verified.claims
    for (const [name, claim, wanted] of [
      ["aud", Array.isArray(aud) ? aud : [aud], audience],
      ["iss", [iss], issuer]
    ] as const) {
      if (wanted === undefined || claim.includes(wanted)) continue
      const option = name === "aud" ? "client.token.audience" : "client.token.issuer"
      return yield* Either.left(
        invalid(
          Object.hasOwn(verified.claims, name)
            ? `the claim "${name}" of the token is not ${option}`
            : `the token has no claim "${name}", and ${option} is set`
        )
      )
    }
    // Of no consequence, but it has to be what it is called.
    yield* timeOf(verified, "iat")
    const now = verified.at
    const tolerated = Duration.toSeconds(leeway)
    const nbf = yield* timeOf(verified, "nbf")
    const exp = yield* timeOf(verified, "exp")
    if (nbf !== undefined && nbf > now + tolerated) {
      return yield* Either.left(new TokenError({ reason: "NotYet", message: "the token is not valid yet" }))
    }
    if (exp !== undefined && exp <= now - tolerated) {
      return yield* Either.left(new TokenError({ reason: "Expired", message: "the token has expired" }))
    }
  })
const isTexts = Schema.is(Schema.Array(Schema.String))

/** `null` is an entry that says nothing of its channel. */
type Entries = Readonly<Record<string, Readonly<Record<string, unknown>> | null>>

// No schema: one would copy it, and a channel may be called `__proto__`.
const isEntries = (value: unknown): value is Entries =>
  Predicate.isRecord(value) && Object.values(value).every((entry) => entry === null || Predicate.isRecord(entry))

/** The raw JSON of a member: `null` is a value of it. */
const rawOf = (text: string, name: string): Either.Either<string | undefined, TokenError> => {
  const found = Raw.property(text, name)
  return found === "too deep"
    ? Either.left(invalid(`the claims of the token are nested deeper than ${Raw.MAX_DEPTH}`))
    : Either.right(found?.text)
}

const claimsOf = (verified: Verified): Either.Either<Claims, TokenError> =>
  Either.gen(function* () {
    const user = (yield* optional(verified, "sub", Predicate.isString, "a text")) ?? ""
    const exp = yield* timeOf(verified, "exp")
    const info = yield* rawOf(verified.text, "info")
    // Up, as it is verified: against the clock without its fraction. One that is taken by the leeway alone
    // ends now: with an end that is past its grace may be over, and a client that is closed comes back with it.
    return { user, expiresAt: exp === undefined ? undefined : Math.max(Math.ceil(exp), verified.at), info }
  })

/** `limit`: channels that a client may have. */
const channelsOf = (verified: Verified, limit: number): Either.Either<ReadonlyArray<ServerSubscription>, TokenError> =>
  Either.gen(function* () {
    const names = (yield* optional(verified, "channels", isTexts, "a list of texts")) ?? []
    const subs = (yield* optional(verified, "subs", isEntries, "an object of objects")) ?? {}
    const entries = Object.entries(subs)
    const channels = new Map<string, ServerSubscription>(names.map((channel) => [channel, { channel }]))
    // Each search reads all of it, so not for a client that has more of them than it
    // may have: it is refused, whatever it would show there.
    const text = entries.length > limit ? "{}" : ((yield* rawOf(verified.text, "subs")) ?? "{}")
    for (const [channel, entry] of entries) {
      const hasMore = entry !== null && (Object.hasOwn(entry, "info") || Object.hasOwn(entry, "data"))
      const own = hasMore ? ((yield* rawOf(text, channel)) ?? "{}") : "{}"
      const info = yield* rawOf(own, "info")
      const data = yield* rawOf(own, "data")
      channels.set(channel, {
        channel,
        ...(info === undefined ? {} : { info }),
        ...(data === undefined ? {} : { data })
      })
    }
    return Array.from(channels.values())
  })

const make = ({ client }: ServerConfig.Config): Context.Tag.Service<Auth> => {
  const keys = keysOf(client.token)
  const algorithms = Array.from(keys.keys())
  // Asked only for one of `algorithms`. The header chooses among the keys that
  // are there for its algorithm, so the text of a public one is never a secret.
  const keyFor = ({ alg }: { readonly alg: string }): KeyObject => keys.get(alg) as KeyObject

  const verify = (token: string): Effect.Effect<Verified, TokenError> => {
    if (keys.size === 0) return Effect.fail(invalid("client.token has no key that could verify a token"))
    return Effect.gen(function* () {
      const { payload, protectedHeader } = yield* Effect.tryPromise({
        try: () => compactVerify(token, keyFor, { algorithms }),
        catch: (error) => problem(error, algorithms)
      })
      // RFC 7797, section 7: the payload of a JSON Web Token is encoded.
      if (protectedHeader.b64 === false) return yield* invalid(NO_TOKEN)
      const verified = yield* readClaims(payload, Math.floor((yield* wall) / 1000))
      yield* inForce(verified, client.token)
      return verified
    })
  }

  return Auth.of({
    verifyConnection: (token) =>
      Effect.flatMap(verify(token), (verified) =>
        Object.hasOwn(verified.claims, "channel")
          ? Effect.fail(invalid('the token has the claim "channel": it is for a subscription, not for a connection'))
          : Either.zipWith(claimsOf(verified), channelsOf(verified, client.channel_limit), (claims, channels) => ({
              ...claims,
              channels
            }))
      ),
    verifySubscription: (token) =>
      Effect.flatMap(verify(token), (verified) =>
        Either.gen(function* () {
          const claims = yield* claimsOf(verified)
          const channel = yield* optional(verified, "channel", Predicate.isString, "a text")
          if (channel === undefined) {
            return yield* Either.left(invalid('the token has no claim "channel": it is not for a subscription'))
          }
          return { ...claims, channel }
        })
      )
  })
}

/** Verifies with the keys of the configuration. */
export const layer: Layer.Layer<Auth, never, ServerConfig.ServerConfig> = Layer.effect(
  Auth,
  Effect.map(ServerConfig.ServerConfig, make)
)

/** A token that cannot be made, and why. */
export class IssueError extends Data.TaggedError("IssueError")<{
  readonly reason: "NoKey" | "BadInfo"
  readonly message: string
}> {}

/** What a new token says. */
export interface Issued {
  /** Empty: anonymous. */
  readonly user: string
  /** From now on, rounded up to whole seconds; without it, it does not expire. */
  readonly ttl: Duration.Duration | undefined
  /** With one it is the token of a subscription, else that of a connection. */
  readonly channel: string | undefined
  /** Raw JSON, nested no deeper than `Raw.MAX_DEPTH`. */
  readonly info: string | undefined
}

const infoProblem = (info: string): string | undefined => {
  if (Either.isLeft(Either.try((): unknown => JSON.parse(info)))) return "info is not JSON"
  return Raw.isShallow(info) ? undefined : `info is nested deeper than ${Raw.MAX_DEPTH}`
}

const nonEmpty = (value: string | undefined): string | undefined =>
  value === undefined || value === "" ? undefined : JSON.stringify(value)

/**
 * Makes a token that a server with this configuration accepts: HS256, for its
 * audience and issuer. Fails with `NoKey` where the configuration has no
 * `client.token.hmac_secret_key`, and with `BadInfo`.
 */
export const issue = (
  { client }: ServerConfig.Config,
  { channel, info, ttl, user }: Issued
): Effect.Effect<string, IssueError> =>
  Effect.gen(function* () {
    const { audience, hmac_secret_key: secret, issuer } = client.token
    if (secret === undefined) {
      const message =
        "only HMAC tokens can be issued, and client.token.hmac_secret_key is not set; its other keys are public ones, which verify tokens and cannot sign any"
      return yield* new IssueError({ reason: "NoKey", message })
    }
    const wrong = info === undefined ? undefined : infoProblem(info)
    if (wrong !== undefined) return yield* new IssueError({ reason: "BadInfo", message: wrong })
    const now = yield* wall
    // As text, so that `info` stands in it as it was given.
    const claims = Json.object({
      sub: nonEmpty(user),
      iat: String(Math.floor(now / 1000)),
      exp:
        ttl === undefined || !Duration.isFinite(ttl)
          ? undefined
          : String(Math.ceil((now + Duration.toMillis(ttl)) / 1000)),
      aud: nonEmpty(audience),
      iss: nonEmpty(issuer),
      channel: channel === undefined ? undefined : JSON.stringify(channel),
      info
    })
    const token = new CompactSign(new TextEncoder().encode(claims)).setProtectedHeader({ alg: "HS256", typ: "JWT" })
    return yield* Effect.promise(() => token.sign(secretKey(secret)))
  })
