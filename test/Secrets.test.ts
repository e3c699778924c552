import { describe, expect, it } from "@effect/vitest"
import * as Either from "effect/Either"
import * as Redacted from "effect/Redacted"
import { generateKeyPairSync, type KeyObject } from "node:crypto"
import { inspect } from "node:util"
import * as ServerConfig from "../src/ServerConfig.ts"

type Environment = Readonly<Record<string, string>>

const load = (file: object): ServerConfig.Loaded =>
  Either.getOrThrowWith(ServerConfig.load(file as ServerConfig.Input), (error) => error)
const config = (file: object): ServerConfig.Config => load(file).config
const problem = (file: object, environment: Environment = {}): string =>
  Either.match(ServerConfig.load(file as ServerConfig.Input, environment), {
    onLeft: (error) => error.message,
    onRight: () => "it was taken"
  })

describe("ServerConfig, Redis URL", () => {
  it.each(["redis://localhost", "redis://10.0.0.1:6380/3", "rediss://user:p%40ss@host:1/", "redis://:pw@[::1]:6379/0"])(
    "takes %s",
    (url) => {
      expect(Redacted.value(config({ redis_url: url }).redis_url ?? Redacted.make(""))).toBe(url)
    }
  )

  it.each([
    "localhost:6379",
    "http://h",
    "redis://",
    "redis:///0",
    "redis://h/a",
    "redis://h:99999",
    "redis://h?x=1",
    "redis://h#x",
    "nonsense"
  ])("refuses %s", (url) => {
    expect(problem({}, { REDIS_URL: url })).toMatch(
      /^REDIS_URL: .* is not valid: expected redis:\/\/\[user:password@\]host\[:port\]\[\/db\], or rediss:\/\/$/
    )
  })

  // Otherwise the client throws when it is made, and that defect ends the supervisor of the link for good.
  it.each(["redis://:p%zz@h:6379", "redis://u%zz:p@h", " redis://h:6379"])(
    "refuses %j, which the Redis client cannot read",
    (url) => {
      expect(problem({}, { REDIS_URL: url })).toContain("REDIS_URL: ")
    }
  )

  it("refuses a scheme in capitals: the Redis client would take it for one without TLS", () => {
    expect(problem({}, { REDIS_URL: "REDISS://h" })).toContain("REDIS_URL: ")
  })
})

describe("ServerConfig, secrets", () => {
  const SECRET = "s3cret"
  const secrets = {
    redis_url: `redis://user:${SECRET}@h:6379`,
    http_api: { key: SECRET },
    client: { token: { hmac_secret_key: SECRET } },
    telemetry: { otlp: { headers: `authorization=${SECRET}` } }
  }

  it("are in the configuration, and in no text of it", () => {
    const loaded = load(secrets)
    expect(Redacted.value(loaded.config.http_api.key ?? Redacted.make(""))).toBe(SECRET)
    for (const text of [
      JSON.stringify(loaded),
      String(loaded.config.http_api.key),
      inspect(loaded, { depth: 9 }),
      String(loaded.config.redis_url)
    ]) {
      expect(text).not.toContain(SECRET)
    }
  })

  it.each<[string, object, Environment]>([
    ["the URL is malformed", { redis_url: `redis://user:${SECRET}@h:port` }, {}],
    ["the URL is of another kind", {}, { REDIS_URL: `http://user:${SECRET}@h` }],
    ["the key is no text", { http_api: { key: [SECRET] } }, {}],
    ["a slash in the password breaks the URL", {}, { REDIS_URL: `redis://user:a/${SECRET}@h` }],
    ["an @ in the password of a bad URL", {}, { REDIS_URL: `redis://user:a@${SECRET}@h:port` }],
    ["the URL lacks its scheme", {}, { REDIS_URL: `user:${SECRET}@h:6379` }],
    ["another value is wrong", { ...secrets, port: "x" }, {}],
    ["a URL stands under an unknown key", { redis: { url: `redis://user:${SECRET}@h` } }, {}],
    ["the key stands where its object belongs", { http_api: SECRET }, {}],
    ["the token key stands where its object belongs", { client: { token: SECRET } }, {}],
    ["the key is misspelt", { http_api: { api_key: SECRET } }, {}],
    ["a secret stands where a public key belongs", { client: { token: { rsa_public_key: SECRET } } }, {}],
    ["the same in a variable", {}, { FANFARE_CLIENT_TOKEN_ECDSA_PUBLIC_KEY: SECRET }],
    ["the headers of the exporter are none", { telemetry: { otlp: { headers: SECRET } } }, {}],
    ["the same in their variable", {}, { OTEL_EXPORTER_OTLP_HEADERS: `authorization=${SECRET}%` }],
    ["the headers are misspelt", { telemetry: { otlp: { header: `authorization=${SECRET}` } } }, {}],
    ["a secret stands in the endpoint", { telemetry: { otlp: { endpoint: `http://user:${SECRET}@h` } } }, {}],
    ["the token key is misspelt", { client: { token: { hmac_secret: SECRET } } }, {}],
    ["the JSON of its object is malformed", {}, { FANFARE_HTTP_API: `{"key":"${SECRET}"` }],
    ["the JSON of an outer object is malformed", {}, { FANFARE_CLIENT: `{"token":{"hmac_secret_key":"${SECRET}"}` }]
  ])("are in no message where %s", (_, file, environment) => {
    expect(problem(file, environment)).toContain("expected")
    expect(problem(file, environment)).not.toContain(SECRET)
  })

  it("make a token required, each of them", () => {
    expect(ServerConfig.requiresToken(config({}))).toBe(false)
    const pem = ({ publicKey }: { readonly publicKey: KeyObject }) => publicKey.export({ type: "spki", format: "pem" })
    for (const key of [
      { hmac_secret_key: SECRET },
      { rsa_public_key: pem(generateKeyPairSync("rsa", { modulusLength: 2048 })) },
      { ecdsa_public_key: pem(generateKeyPairSync("ec", { namedCurve: "P-256" })) }
    ]) {
      expect(ServerConfig.requiresToken(config({ client: { token: key } }))).toBe(true)
    }
    expect(ServerConfig.requiresToken(config({ client: { token: { audience: "us", issuer: "them" } } }))).toBe(false)
  })
})
