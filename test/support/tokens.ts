/** JSON Web Tokens (RFC 7519), made without the library that the server reads them with. */
import { createHmac, createSign, type KeyObject } from "node:crypto"

export const KEY = "a secret of 32 bytes or some more"

/** Unix seconds, `after` from now. */
export const inSeconds = (after: number): number => Math.floor(Date.now() / 1000) + after

const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url")

/** A token with these claims, HS256; `header` changes what its header says, and nothing else. */
export const token = (claims: object, key: string = KEY, header: object = {}): string => {
  const signed = `${part({ alg: "HS256", typ: "JWT", ...header })}.${part(claims)}`
  return `${signed}.${createHmac("sha256", key).update(signed).digest("base64url")}`
}

/** The same, RS256. */
export const rsaToken = (claims: object, key: KeyObject): string => {
  const signed = `${part({ alg: "RS256", typ: "JWT" })}.${part(claims)}`
  return `${signed}.${createSign("sha256").update(signed).sign(key, "base64url")}`
}

/** A token without a signature. */
export const unsigned = (claims: object): string => `${part({ alg: "none", typ: "JWT" })}.${part(claims)}.`

/** The same token with other claims: its signature is not theirs. */
export const tampered = (token: string, claims: object): string => {
  const [header, , signature] = token.split(".")
  return `${header}.${part(claims)}.${signature}`
}
