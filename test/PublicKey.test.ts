import { describe, expect, it } from "@effect/vitest"
import * as Either from "effect/Either"
import * as Redacted from "effect/Redacted"
import { generateKeyPairSync, type KeyObject } from "node:crypto"
import { inspect } from "node:util"
import * as PublicKey from "../src/config/PublicKey.ts"
import * as ServerConfig from "../src/ServerConfig.ts"

const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 })
const ec = (namedCurve: string) => generateKeyPairSync("ec", { namedCurve })
const p256 = ec("P-256")

const text = (key: KeyObject, type: "spki" | "pkcs1" | "pkcs8" | "sec1" = "spki"): string =>
  key.export({ type: type as "spki", format: "pem" }).toString()

const RSA = text(rsa.publicKey)
const EC = text(p256.publicKey)

const PRIVATE: ReadonlyArray<readonly [string, string]> = [
  ["a private RSA key", text(rsa.privateKey, "pkcs8")],
  ["a private RSA key, PKCS #1", text(rsa.privateKey, "pkcs1")],
  ["a private EC key", text(p256.privateKey, "pkcs8")],
  ["a private EC key, SEC 1", text(p256.privateKey, "sec1")]
]

/** What stands in a PEM, without its label. */
const body = (pem: string): string => pem.split("\n").slice(1, -2).join("\n")

const relabelled = (pem: string): string => `-----BEGIN PUBLIC KEY-----\n${body(pem)}\n-----END PUBLIC KEY-----\n`

const NONE: ReadonlyArray<readonly [string, string]> = [
  ...PRIVATE,
  ...PRIVATE.map(([what, pem]) => [`${what} that says that it is public`, relabelled(pem)] as const),
  ["a private key before a public one", `${text(rsa.privateKey, "pkcs8")}${RSA}`],
  ["a private key after a public one", `${EC}${text(p256.privateKey, "pkcs8")}`],
  ["two keys", `${RSA}${EC}`],
  ["a secret", "a secret of 32 bytes or some more"],
  ["nothing", " "],
  ["no PEM", body(RSA)],
  ["a PEM of nothing", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"],
  ["a PEM that is cut short", RSA.slice(0, 200)],
  ["a PEM with a part missing", RSA.split("\n").toSpliced(3, 1).join("\n")],
  ["a certificate", `-----BEGIN CERTIFICATE-----\n${body(RSA)}\n-----END CERTIFICATE-----`],
  ["a key of another kind", text(generateKeyPairSync("ed25519").publicKey)],
  ["an RSA-PSS key", text(generateKeyPairSync("rsa-pss", { modulusLength: 2048 }).publicKey)],
  ["an RSA key that is too short", text(generateKeyPairSync("rsa", { modulusLength: 2040 }).publicKey)],
  ["a key on another curve", text(ec("secp256k1").publicKey)]
]

const EXPECTED = {
  rsa_public_key: "the PEM of an RSA public key of 2048 bits or more",
  ecdsa_public_key: "the PEM of an EC public key on P-256, P-384 or P-521"
}

type Key = keyof typeof EXPECTED

const load = (key: Key, pem: string) => ServerConfig.load({ client: { token: { [key]: pem } } })
const fromEnvironment = (key: Key, pem: string) =>
  ServerConfig.load({}, { [`FANFARE_CLIENT_TOKEN_${key.toUpperCase()}`]: pem })

const kept = (loaded: ReturnType<typeof load>, key: Key): string | undefined => {
  const { config, warnings } = Either.getOrThrow(loaded)
  expect(warnings).toEqual([])
  const value = config.client.token[key]
  return value && Redacted.value(value)
}

const algorithms = (read: typeof PublicKey.rsa, pem: string): ReadonlyArray<string> =>
  Either.match(read(pem), { onLeft: (problem) => [problem], onRight: (key) => key.algorithms })

describe("PublicKey", () => {
  it("takes an RSA key for the RS algorithms, and an EC key for that of its curve", () => {
    for (const pem of [RSA, text(rsa.publicKey, "pkcs1")]) {
      expect(algorithms(PublicKey.rsa, pem)).toEqual(["RS256", "RS384", "RS512"])
    }
    const curves = ["P-256", "P-384", "P-521"].map((curve) => algorithms(PublicKey.ecdsa, text(ec(curve).publicKey)))
    expect(curves).toEqual([["ES256"], ["ES384"], ["ES512"]])
  })

  it("says why a text is none, and nothing of the text", () => {
    expect(algorithms(PublicKey.rsa, EC)).toEqual(["it is not an RSA key"])
    expect(algorithms(PublicKey.ecdsa, RSA)).toEqual(["it is not an EC key on P-256, P-384 or P-521"])
    const short = text(generateKeyPairSync("rsa", { modulusLength: 2040 }).publicKey)
    expect(algorithms(PublicKey.rsa, short)).toEqual(["it has less than 2048 bits"])
    for (const [, pem] of PRIVATE) {
      for (const read of [PublicKey.rsa, PublicKey.ecdsa]) {
        expect(algorithms(read, pem)).toEqual(["it is not the PEM of a public key"])
        expect(algorithms(read, relabelled(pem))).toEqual(["its PEM holds no public key"])
      }
    }
  })
})

describe("ServerConfig, public keys", () => {
  it("take a PEM as a file has it, or an environment variable, and keep it redacted", () => {
    for (const [key, pem] of [
      ["rsa_public_key", RSA],
      ["rsa_public_key", text(rsa.publicKey, "pkcs1")],
      ["ecdsa_public_key", EC]
    ] as const) {
      const lines = pem.trim().split("\n")
      for (const one of [
        pem,
        pem.trim(),
        `\n  ${pem}\n`,
        lines.join("\r\n"),
        lines.join("\\n"),
        `${lines.join("\\n")}\\n`,
        lines.join("\\r\\n")
      ]) {
        expect(kept(load(key, one), key)).toBe(one)
        expect(kept(fromEnvironment(key, one), key)).toBe(one)
      }
      const shown = inspect(load(key, pem), { depth: 9 }) + JSON.stringify(load(key, pem))
      expect(shown).not.toContain(lines[1]?.slice(0, 20))
    }
  })

  it.each(NONE)("refuse %s, on one line that shows nothing of it", (_, pem) => {
    for (const key of ["rsa_public_key", "ecdsa_public_key"] as const) {
      const variable = `FANFARE_CLIENT_TOKEN_${key.toUpperCase()}`
      for (const [name, loaded] of [
        [`client.token.${key}`, load(key, pem)],
        // An empty variable is none.
        ...(pem === "" ? [] : [[variable, fromEnvironment(key, pem)] as const]),
        [`client.token.${key}`, load(key, pem.replaceAll("\n", "\\n"))]
      ] as const) {
        expect(Either.isLeft(loaded) && loaded.left.message).toBe(
          `${name}: its value is not valid: expected ${EXPECTED[key]}`
        )
      }
    }
  })

  it("refuse the key of the other option, and what is no text", () => {
    for (const [key, value] of [
      ["rsa_public_key", EC],
      ["ecdsa_public_key", RSA],
      ["rsa_public_key", [RSA]],
      ["ecdsa_public_key", p256.publicKey.export({ format: "jwk" })],
      ["rsa_public_key", ""]
    ] as const) {
      const loaded = load(key, value as string)
      expect(Either.isLeft(loaded) && loaded.left.message).toBe(
        `client.token.${key}: its value is not valid: expected ${EXPECTED[key]}`
      )
    }
  })
})

describe("ServerConfig, hmac_secret_key", () => {
  const warnings = (secret: string): ReadonlyArray<string> =>
    Either.getOrThrow(ServerConfig.load({ client: { token: { hmac_secret_key: secret } } })).warnings

  it("warns of one shorter than 32 bytes, and shows nothing of it", () => {
    const warning = "client.token.hmac_secret_key: shorter than 32 bytes, so it can be guessed by whoever has a token"
    expect(warnings("x".repeat(31))).toEqual([warning])
    expect(warnings("hunter2")).toEqual([warning])
    expect(warnings("x".repeat(32))).toEqual([])
    // Bytes, not characters.
    expect(warnings("ä".repeat(16))).toEqual([])
  })
})
