/**
 * Public keys that verify tokens, from the PEM text of the configuration: RFC
 * 7468 with the label `PUBLIC KEY` (SPKI), or `RSA PUBLIC KEY` (PKCS #1).
 */
import * as Either from "effect/Either"
import { createPublicKey, type KeyObject } from "node:crypto"

/** A key, and the only algorithms (RFC 7518) that it may verify. */
export interface PublicKey {
  readonly key: KeyObject
  readonly algorithms: ReadonlyArray<string>
}

/** Least size of an RSA key, in bits (RFC 7518, 3.3): tokens of a smaller one could not be verified anyway. */
const MIN_RSA_BITS = 2048

// One block and nothing beside it. The label is what tells a public key from a
// private one: `createPublicKey` takes both, and certificates as well.
const PEM = /^-----BEGIN ((?:RSA )?PUBLIC KEY)-----[A-Za-z0-9+/=\s]+-----END \1-----$/

/** An environment variable may hold the line ends as the two characters `\n`. */
const withLineEnds = (text: string): string => text.replaceAll(/(?:\\r)?\\n/g, "\n").trim()

const read = (text: string): Either.Either<KeyObject, string> => {
  const pem = withLineEnds(text)
  return PEM.test(pem)
    ? Either.try({ try: () => createPublicKey(pem), catch: () => "its PEM holds no public key" })
    : Either.left("it is not the PEM of a public key")
}

/** A PEM text as an RSA key for RS256, RS384 and RS512. On the left, in words and without the text: why it is none. */
export const rsa = (text: string): Either.Either<PublicKey, string> =>
  Either.flatMap(read(text), (key) => {
    // RSA-PSS is another type: such a key is not for the RS algorithms.
    if (key.asymmetricKeyType !== "rsa") return Either.left("it is not an RSA key")
    return (key.asymmetricKeyDetails?.modulusLength ?? 0) < MIN_RSA_BITS
      ? Either.left(`it has less than ${MIN_RSA_BITS} bits`)
      : Either.right({ key, algorithms: ["RS256", "RS384", "RS512"] })
  })

/** By the name that OpenSSL has for the curve. */
const CURVES = new Map([
  ["prime256v1", "ES256"],
  ["secp384r1", "ES384"],
  ["secp521r1", "ES512"]
])

/** A PEM text as an EC key for the algorithm of its curve. On the left, in words and without the text: why it is none. */
export const ecdsa = (text: string): Either.Either<PublicKey, string> =>
  Either.flatMap(read(text), (key) => {
    const algorithm = CURVES.get(key.asymmetricKeyDetails?.namedCurve ?? "")
    return key.asymmetricKeyType !== "ec" || algorithm === undefined
      ? Either.left("it is not an EC key on P-256, P-384 or P-521")
      : Either.right({ key, algorithms: [algorithm] })
  })
