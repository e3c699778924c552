import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as TestClock from "effect/TestClock"
import { generateKeyPairSync, type KeyObject } from "node:crypto"
import * as Auth from "../src/Auth.ts"
import * as ServerConfig from "../src/ServerConfig.ts"
import {
  connection,
  EC,
  ec,
  encode,
  HMAC,
  type Keys,
  make,
  outcome,
  RSA,
  rsa,
  SECRET,
  subscription,
  token,
  UNSIGNED
} from "./support/auth.ts"

const TAKEN = 'the token of "ada" was taken'
const NO_TOKEN = "Invalid: it is not a signed JSON Web Token"
const OTHER = "Invalid: the algorithm of the token is not one that client.token has a key for: "

const ada = { sub: "ada" }

const ACCEPTED: ReadonlyArray<readonly [string, Keys, string | KeyObject]> = [
  ...["HS256", "HS384", "HS512"].map((algorithm) => [algorithm, HMAC, SECRET] as const),
  ...["RS256", "RS384", "RS512"].map((algorithm) => [algorithm, RSA, rsa.privateKey] as const),
  ...(["ES256", "ES384", "ES512"] as const).map(
    (algorithm) => [algorithm, EC(algorithm), ec[algorithm].privateKey] as const
  )
]

describe("Auth, algorithms", () => {
  it.effect.each(ACCEPTED)("%s is taken with its key alone, and beside all others", ([algorithm, keys, key]) =>
    Effect.gen(function* () {
      const one = make(ada, key, algorithm)
      for (const all of [keys, { ...HMAC, ...RSA, ...EC("ES256"), ...keys }]) {
        expect(yield* connection(one, all)).toEqual({
          user: "ada",
          expiresAt: undefined,
          info: undefined,
          channels: []
        })
        expect(yield* subscription(make({ ...ada, channel: "news" }, key, algorithm), all)).toEqual({
          user: "ada",
          expiresAt: undefined,
          info: undefined,
          channel: "news"
        })
      }
    })
  )

  it.effect.each(ACCEPTED)("%s is refused with another key, and where it was tampered with", ([algorithm, keys, key]) =>
    Effect.gen(function* () {
      const other =
        typeof key === "string"
          ? `${SECRET}!`
          : key.asymmetricKeyType === "rsa"
            ? generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey
            : generateKeyPairSync("ec", { namedCurve: key.asymmetricKeyDetails?.namedCurve ?? "" }).privateKey
      expect(yield* outcome(connection(make(ada, other, algorithm), keys))).toBe(UNSIGNED)

      const [header, claims, signature = ""] = make(ada, key, algorithm).split(".")
      const flipped = `${signature.startsWith("A") ? "B" : "A"}${signature.slice(1)}`
      for (const tampered of [
        `${header}.${encode('{"sub":"eve"}')}.${signature}`,
        `${header}.${claims}.${flipped}`,
        `${header}.${claims}.${signature.slice(0, -4)}`,
        `${header}.${claims}.`,
        `${encode(JSON.stringify({ alg: algorithm, typ: "other" }))}.${claims}.${signature}`
      ]) {
        expect(yield* outcome(connection(tampered, keys))).toBe(UNSIGNED)
        expect(yield* outcome(subscription(tampered, keys))).toBe(UNSIGNED)
      }
    })
  )

  it.effect("none is refused, signed or not, in any writing", () =>
    Effect.gen(function* () {
      for (const keys of [HMAC, RSA, EC("ES256")]) {
        for (const alg of ["none", "None", "NONE", "nOnE", "", "HS1", "hs256", "__proto__", "toString"]) {
          const header = JSON.stringify({ alg, typ: "JWT" })
          const unsigned = `${encode(header)}.${encode(JSON.stringify(ada))}.`
          const problem = alg === "" ? NO_TOKEN : OTHER
          expect(yield* outcome(connection(unsigned, keys))).toContain(problem)
          expect(yield* outcome(connection(token(header, JSON.stringify(ada), SECRET, "HS256"), keys))).toContain(
            problem
          )
        }
      }
    })
  )

  // The public key is known to everybody: as a secret it would let everybody in.
  it.effect("an HMAC token signed with the text of a public key is refused, with and without a secret", () =>
    Effect.gen(function* () {
      const keys = { ...RSA, ...EC("ES256") }
      const secrets = Object.values(keys).flatMap((text) => [text, text.trim(), text.replaceAll("\n", "\\n")])
      for (const secret of secrets) {
        for (const algorithm of ["HS256", "HS384", "HS512"]) {
          const one = make(ada, secret, algorithm)
          expect(yield* outcome(connection(one, keys))).toContain(OTHER)
          expect(yield* outcome(connection(one, { ...HMAC, ...keys }))).toBe(UNSIGNED)
        }
      }
      expect(secrets).toHaveLength(6)
    })
  )

  it.effect("an algorithm without a key of its kind is refused, whatever it is signed with", () =>
    Effect.gen(function* () {
      const rs = make(ada, rsa.privateKey, "RS256")
      expect(yield* outcome(connection(rs, EC("ES256")))).toBe(`${OTHER}ES256`)
      expect(yield* outcome(connection(rs, HMAC))).toBe(`${OTHER}HS256, HS384, HS512`)
      expect(yield* outcome(connection(make(ada, ec.ES256.privateKey, "ES256"), RSA))).toBe(
        `${OTHER}RS256, RS384, RS512`
      )
      expect(yield* outcome(connection(make(ada, ec.ES256.privateKey, "ES256"), EC("ES384")))).toBe(`${OTHER}ES384`)
      expect(yield* outcome(connection(make(ada, ec.ES384.privateKey, "ES384"), EC("ES256")))).toBe(`${OTHER}ES256`)
      // Of the same key, but with a padding that nobody has asked for.
      const pss = make(ada, rsa.privateKey, "RS256", { alg: "PS256" })
      expect(yield* outcome(connection(pss, RSA))).toContain(OTHER)
      // ES256 says the curve, too: not that of a larger key.
      expect(yield* outcome(connection(make(ada, ec.ES384.privateKey, "ES256"), EC("ES384")))).toBe(`${OTHER}ES384`)
      expect(yield* outcome(connection(make(ada, ec.ES384.privateKey, "ES256"), EC("ES256")))).toBe(UNSIGNED)
      // A key in the header is not asked.
      const own = generateKeyPairSync("rsa", { modulusLength: 2048 })
      const jwk = own.publicKey.export({ format: "jwk" })
      expect(yield* outcome(connection(make(ada, own.privateKey, "RS256", { jwk, kid: "x" }), RSA))).toBe(UNSIGNED)
    })
  )

  it.effect("without any key every token is refused", () =>
    Effect.gen(function* () {
      const problem = "Invalid: client.token has no key that could verify a token"
      for (const one of [make(ada), "", "abc"]) {
        expect(yield* outcome(connection(one, {}))).toBe(problem)
        expect(yield* outcome(subscription(one, { audience: "us" }))).toBe(problem)
      }
    })
  )
})

describe("Auth, texts that are no tokens", () => {
  const [header, claims, signature] = make(ada).split(".")
  const TEXTS = [
    "",
    ".",
    "..",
    "...",
    "abc",
    "a.b.c",
    "ä.ö.ü",
    "\u0000.\ud800.\n",
    `${header}.${claims}`,
    `${header}.${claims}.${signature}.`,
    `${header}.${claims}.${signature}.${signature}`,
    `.${claims}.${signature}`,
    `${encode("[]")}.${claims}.${signature}`,
    `${encode("null")}.${claims}.${signature}`,
    `${encode('{"alg":1}')}.${claims}.${signature}`,
    `${encode("{}")}.${claims}.${signature}`,
    `${encode("{")}.${claims}.${signature}`,
    `${header}.${claims}.%`,
    "x".repeat(1_000_000),
    ".".repeat(1_000_000),
    `${encode(`{"alg":${"[".repeat(60_000)}${"]".repeat(60_000)}}`)}.${claims}.${signature}`,
    make(ada, SECRET, "HS256", { crit: ["exp"], exp: 1 }),
    make(ada, SECRET, "HS256", { crit: ["b64"], b64: false }),
    ...["", "{", "[]", "null", "1", '"ada"', '{"sub":"ada"}}', "\ufffd"].map((claims) => make(claims))
  ]

  it.effect("are refused, and nothing of them is said", () =>
    Effect.gen(function* () {
      for (const one of TEXTS) {
        const said = yield* outcome(connection(one, { ...HMAC, ...RSA }))
        expect([NO_TOKEN, UNSIGNED]).toContain(said)
        expect(yield* outcome(subscription(one, { ...HMAC, ...RSA }))).toBe(said)
      }
    })
  )

  it.effect("a huge token is refused with a wrong signature, and verified with the right one", () =>
    Effect.gen(function* () {
      const huge = make({ ...ada, pad: "x".repeat(1_000_000) })
      expect(yield* outcome(connection(huge))).toBe(TAKEN)
      expect(yield* outcome(connection(`${huge.slice(0, -5)}AAAAA`))).toBe(UNSIGNED)
    })
  )

  it.effect("errors have nothing of the token or of a key in them, also printed whole", () =>
    Effect.gen(function* () {
      const marked = { sub: "mark", info: "mark", exp: -1 }
      for (const one of [
        make(marked),
        make({ ...marked, nbf: 9 }),
        make(marked, "mark"),
        make({ ...marked, exp: 1, channel: "mark" }),
        make({ exp: 1, sub: ["mark"] }),
        make(marked, SECRET, "HS256", { crit: ["mark"], mark: 1 }),
        `mark.${encode("mark")}.mark`
      ]) {
        const error = yield* Effect.flip(connection(one))
        for (const shown of [error.message, String(error), JSON.stringify(error), error.stack ?? ""]) {
          expect(shown).not.toContain("mark")
          expect(shown).not.toContain(encode("mark"))
          expect(shown).not.toContain(SECRET)
        }
        expect(error.cause).toBe(undefined)
      }
    })
  )
})

describe("Auth, time", () => {
  it.effect("a token is taken until the second of exp, and has expired from then on", () =>
    Effect.gen(function* () {
      const one = make({ ...ada, exp: 3600 })
      expect((yield* connection(one)).expiresAt).toBe(3600)
      yield* TestClock.setTime(3_599_999)
      expect(yield* outcome(connection(one))).toBe(TAKEN)
      yield* TestClock.adjust("1 millis")
      expect(yield* outcome(connection(one))).toBe("Expired: the token has expired")
      expect(yield* outcome(subscription(make({ ...ada, channel: "a", exp: 3600 })))).toBe(
        "Expired: the token has expired"
      )
    })
  )

  it.effect("has expired only if its signature is right, and everything else as well", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(10_000)
      const expired = { ...ada, exp: 10 }
      const keys = { ...HMAC, audience: "us" }
      expect(yield* outcome(connection(make(expired, "another secret")))).toBe(UNSIGNED)
      expect(yield* outcome(connection(make(expired), EC("ES256")))).toContain(OTHER)
      expect(yield* outcome(connection(make({ ...expired, aud: "them" }), keys))).toContain('Invalid: the claim "aud"')
      expect(yield* outcome(connection(make({ ...expired, aud: "us" }), keys))).toBe("Expired: the token has expired")
    })
  )

  it.effect("a fraction of exp counts as a whole second", () =>
    Effect.gen(function* () {
      const one = make({ ...ada, exp: 10.25 })
      expect((yield* connection(one)).expiresAt).toBe(11)
      yield* TestClock.setTime(10_999)
      expect(yield* outcome(connection(one))).toBe(TAKEN)
      yield* TestClock.setTime(11_000)
      expect(yield* outcome(connection(one))).toContain("Expired")
    })
  )

  it.effect("a token without exp does not expire, whenever it was made", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(4e12)
      expect((yield* connection(make({ ...ada, iat: 0 }))).expiresAt).toBe(undefined)
    })
  )

  it.effect("a token is not valid before nbf, and may be then", () =>
    Effect.gen(function* () {
      const one = make({ ...ada, nbf: 60 })
      expect(yield* outcome(connection(one))).toBe("NotYet: the token is not valid yet")
      yield* TestClock.setTime(59_999)
      expect(yield* outcome(connection(one))).toBe("NotYet: the token is not valid yet")
      expect(yield* outcome(connection(make({ ...ada, nbf: 60 }, "another secret")))).toBe(UNSIGNED)
      yield* TestClock.adjust("1 millis")
      expect(yield* outcome(connection(one))).toBe(TAKEN)
    })
  )

  it.effect(
    "client.token.leeway counts before nbf and after exp, 5 seconds of it by default; iat does not matter",
    () =>
      Effect.gen(function* () {
        const withDefaults = { client: { token: HMAC } }
        const defaults = (given: string) =>
          Effect.flatMap(Auth.Auth, (auth) => auth.verifyConnection(given)).pipe(
            Effect.provide(Auth.layer),
            Effect.provideService(ServerConfig.ServerConfig, Either.getOrThrow(ServerConfig.load(withDefaults)).config)
          )
        const times: ReadonlyArray<readonly [object, number, string]> = [
          [{ nbf: 1000 }, 995, TAKEN],
          [{ nbf: 1000 }, 994, "NotYet: the token is not valid yet"],
          [{ exp: 1000 }, 1004, TAKEN],
          [{ exp: 1000 }, 1005, "Expired: the token has expired"],
          [{ iat: 1000 }, 1, TAKEN]
        ]
        for (const [claims, at, expected] of times) {
          yield* TestClock.setTime(at * 1000)
          expect(yield* outcome(defaults(make({ ...ada, ...claims }))), `${JSON.stringify(claims)} at ${at}`).toBe(
            expected
          )
        }
        yield* TestClock.setTime(1_060_000)
        const keys = { ...HMAC, leeway: "1m" }
        expect(yield* outcome(connection(make({ ...ada, exp: 1001 }), keys))).toBe(TAKEN)
        expect(yield* outcome(connection(make({ ...ada, exp: 1000 }), keys))).toBe("Expired: the token has expired")
        expect(yield* outcome(connection(make({ ...ada, nbf: 1120 }), keys))).toBe(TAKEN)
        // What it says of its end is not moved, but that the grace of one that is past begins now.
        expect((yield* connection(make({ ...ada, exp: 1061 }), keys)).expiresAt).toBe(1061)
        expect((yield* connection(make({ ...ada, exp: 1001 }), keys)).expiresAt).toBe(1060)
      })
  )
})

describe("Auth, audience and issuer", () => {
  it.effect("have to be those of the configuration, and do not matter without one", () =>
    Effect.gen(function* () {
      const keys = { ...HMAC, audience: "us", issuer: "https://id.example" }
      const right = { ...ada, aud: "us", iss: "https://id.example" }
      for (const aud of ["us", ["them", "us"]]) {
        expect(yield* outcome(connection(make({ ...right, aud }), keys))).toBe(TAKEN)
      }
      const wrong: ReadonlyArray<readonly [object, string]> = [
        ...[undefined, null].flatMap((absent): ReadonlyArray<readonly [object, string]> => [
          [{ aud: absent }, 'the token has no claim "aud", and client.token.audience is set'],
          [{ iss: absent }, 'the token has no claim "iss", and client.token.issuer is set']
        ]),
        ...["them", "", "US", ["them"], [], 1, { us: "us" }].map(
          (aud) => [{ aud }, 'the claim "aud" of the token is not client.token.audience'] as const
        ),
        ...["https://id.example/", "", ["https://id.example"]].map(
          (iss) => [{ iss }, 'the claim "iss" of the token is not client.token.issuer'] as const
        )
      ]
      for (const [claims, message] of wrong) {
        expect(yield* outcome(connection(make({ ...right, ...claims }), keys))).toBe(`Invalid: ${message}`)
        const one = make({ ...right, ...claims, channel: "a" })
        expect(yield* outcome(subscription(one, keys))).toBe(`Invalid: ${message}`)
        expect(yield* outcome(connection(make({ ...right, ...claims })))).toBe(TAKEN)
      }
    })
  )
})
