/** The service `Auth` by itself: tokens of every algorithm, and what it says of them. */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { createHmac, generateKeyPairSync, type KeyObject, sign as signWith } from "node:crypto"
import * as Auth from "../../src/Auth.ts"
import * as ServerConfig from "../../src/ServerConfig.ts"

export const SECRET = "a secret of 32 bytes or some more"

export const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 })
export const ec = {
  ES256: generateKeyPairSync("ec", { namedCurve: "P-256" }),
  ES384: generateKeyPairSync("ec", { namedCurve: "P-384" }),
  ES512: generateKeyPairSync("ec", { namedCurve: "P-521" })
}

export const pem = (key: KeyObject): string => key.export({ type: "spki", format: "pem" }).toString()

export const encode = (text: string): string => Buffer.from(text).toString("base64url")

/** A token of any texts; the library that reads them has no part in it. */
export const token = (header: string, claims: string, key: string | KeyObject, algorithm: string): string => {
  const signed = `${encode(header)}.${encode(claims)}`
  const hash = `sha${algorithm.slice(2)}`
  const signature =
    typeof key === "string"
      ? createHmac(hash, key).update(signed).digest()
      : signWith(hash, Buffer.from(signed), { key, dsaEncoding: "ieee-p1363" })
  return `${signed}.${signature.toString("base64url")}`
}

/** A token of these claims: an object, or JSON text. */
export const make = (
  claims: object | string,
  key: string | KeyObject = SECRET,
  alg = "HS256",
  header: object = {}
): string =>
  token(
    JSON.stringify({ alg, typ: "JWT", ...header }),
    typeof claims === "string" ? claims : JSON.stringify(claims),
    key,
    alg
  )

export type Keys = Readonly<Record<string, string>>

export const HMAC: Keys = { hmac_secret_key: SECRET }
export const RSA: Keys = { rsa_public_key: pem(rsa.publicKey) }
export const EC = (algorithm: keyof typeof ec): Keys => ({ ecdsa_public_key: pem(ec[algorithm].publicKey) })

/** Without leeway, unless `keys` has one: to the second. */
export const config = (keys: Keys, client: object = {}): ServerConfig.Config =>
  Either.getOrThrow(ServerConfig.load({ client: { ...client, token: { leeway: "0s", ...keys } } })).config

const auth = (keys: Keys, client: object = {}) =>
  Auth.Auth.pipe(Effect.provide(Auth.layer), Effect.provideService(ServerConfig.ServerConfig, config(keys, client)))

export const connection = (given: string, keys: Keys = HMAC, client: object = {}) =>
  Effect.flatMap(auth(keys, client), (auth) => auth.verifyConnection(given))

export const subscription = (given: string, keys: Keys = HMAC) =>
  Effect.flatMap(auth(keys), (auth) => auth.verifySubscription(given))

/** Why it is refused; of a token that is taken, its user. */
export const outcome = (verified: Effect.Effect<{ readonly user: string }, Auth.TokenError>) =>
  Effect.match(verified, {
    onFailure: ({ message, reason }) => `${reason}: ${message}`,
    onSuccess: ({ user }) => `the token of "${user}" was taken`
  })

export const UNSIGNED = "Invalid: the signature of the token is wrong"
