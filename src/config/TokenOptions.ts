/** The options `client.token`: which tokens are taken. */
import * as Duration from "effect/Duration"
import * as Either from "effect/Either"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Text from "./Duration.ts"
import * as Option from "./Option.ts"
import * as PublicKey from "./PublicKey.ts"

const NOT_EMPTY = "a text that is not empty"

const text = (doc: string) =>
  Option.make(Schema.UndefinedOr(Schema.NonEmptyString), undefined, { kind: "text", doc, expected: NOT_EMPTY })

// Public, but a private one may stand in its place: it is treated as a secret.
const publicKey = (read: typeof PublicKey.rsa, doc: string, expected: string) =>
  Option.make(
    Schema.UndefinedOr(Schema.Redacted(Schema.String.pipe(Schema.filter((pem) => Either.isRight(read(pem)))))),
    undefined,
    { kind: "text", doc, expected, secret: true }
  )

/** The options, with their defaults: no key, so no token can be verified. */
export const options = {
  hmac_secret_key: Option.make(Schema.UndefinedOr(Schema.Redacted(Schema.NonEmptyString)), undefined, {
    kind: "text",
    doc: "verifies HS256, HS384 and HS512 tokens; 32 random bytes or more",
    expected: NOT_EMPTY,
    secret: true
  }),
  rsa_public_key: publicKey(
    PublicKey.rsa,
    "verifies RS256, RS384 and RS512 tokens; the PEM of a key of 2048 bits or more, in which `\\n` may stand for a line end",
    "the PEM of an RSA public key of 2048 bits or more"
  ),
  ecdsa_public_key: publicKey(
    PublicKey.ecdsa,
    "verifies tokens of the algorithm of its curve, ES256, ES384 or ES512; the PEM of a key on P-256, P-384 or P-521, in which `\\n` may stand for a line end",
    "the PEM of an EC public key on P-256, P-384 or P-521"
  ),
  leeway: Option.make(Text.FromText.pipe(Schema.lessThanOrEqualToDuration("10 minutes")), Duration.seconds(5), {
    kind: "text",
    doc: "by how much the clocks of who signs tokens and of this server may differ: a token is accepted so long before its `nbf` and after its `exp`",
    expected: 'a duration from 0 to "10m"'
  }),
  audience: text("the `aud` that a token must have"),
  issuer: text("the `iss` that a token must have")
} as const

const LEAST_SECRET = 32

/** What can be used and should not be, one line each. */
export const warnings = ({ hmac_secret_key: secret }: Option.Values<typeof options>): ReadonlyArray<string> =>
  secret !== undefined && new TextEncoder().encode(Redacted.value(secret)).length < LEAST_SECRET
    ? [`client.token.hmac_secret_key: shorter than ${LEAST_SECRET} bytes, so it can be guessed by whoever has a token`]
    : []
