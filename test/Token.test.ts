import { describe, expect, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Token from "../src/cli/Token.ts"
import * as ServerConfig from "../src/ServerConfig.ts"
import { connection, HMAC, RSA, SECRET, subscription } from "./support/auth.ts"
import { live } from "./support/it.ts"
import * as Program from "./support/program.ts"

const KEY = { FANFARE_CLIENT_TOKEN_HMAC_SECRET_KEY: SECRET }

/** Runs `fanfare token`; what it prints, on either stream. */
const run = (args: ReadonlyArray<string>, env: Readonly<Record<string, string>> = KEY) =>
  Effect.gen(function* () {
    const program = yield* Program.spawnProgram({ args: ["token", ...args], env })
    const exit = yield* program.exit
    return { exit, output: program.output() }
  })

/** The token that it prints: one line, and nothing else. */
const printed = (args: ReadonlyArray<string>, env?: Readonly<Record<string, string>>) =>
  Effect.map(run(args, env), ({ exit, output }) => {
    expect(output).toMatch(/^[\w-]+\.[\w-]+\.[\w-]+\n$/)
    expect(exit).toEqual({ code: 0, signal: null })
    return output.trim()
  })

/** Checks verified claims: `expiresAt` is `ttl` seconds from now, up to what the test took. */
const check = <A extends { readonly expiresAt: number | undefined }>(claims: A, expected: object, ttl: number) =>
  Effect.map(Clock.currentTimeMillis, (now) => {
    const { expiresAt = 0, ...rest } = claims
    expect(rest).toEqual(expected)
    const left = expiresAt - now / 1000
    expect(left).toBeGreaterThan(ttl - 30)
    expect(left).toBeLessThanOrEqual(ttl + 1)
  })

describe("fanfare token", () => {
  live("prints a token that the server accepts: of nobody, for an hour, for a connection", () =>
    Effect.gen(function* () {
      yield* check(yield* connection(yield* printed([])), { user: "", info: undefined, channels: [] }, 3600)
    })
  )

  live("has what is asked for, and reads the configuration like the server", () =>
    Effect.gen(function* () {
      const file = yield* Program.temporaryFile(
        "fanfare.json",
        JSON.stringify({ client: { token: { hmac_secret_key: "another", audience: "us", issuer: "them" } } })
      )
      const keys = { ...HMAC, audience: "us", issuer: "them" }
      const info = '{"name":"x", "n":1.50}'
      // The environment wins over the file, which may be named in either way.
      const one = yield* printed(["--user", "42", "--ttl", "1m30s", "--info", info, "--config", file])
      yield* check(yield* connection(one, keys), { user: "42", info, channels: [] }, 90)
      const other = yield* printed(["--user=42", "--channel=news:a"], { ...KEY, FANFARE_CONFIG: file })
      yield* check(yield* subscription(other, keys), { user: "42", info: undefined, channel: "news:a" }, 3600)
    })
  )

  live("warns of a weak secret beside the token", () =>
    Effect.gen(function* () {
      const { exit, output } = yield* run([], { FANFARE_CLIENT_TOKEN_HMAC_SECRET_KEY: "weak" })
      expect(exit.code).toBe(0)
      expect(output).toContain("fanfare: client.token.hmac_secret_key: shorter than 32 bytes")
      expect(output.trim().split("\n")).toHaveLength(2)
    })
  )

  live("ends with code 1 and one line without a key to sign with", () =>
    Effect.gen(function* () {
      const { exit, output } = yield* run([], {})
      expect(exit).toEqual({ code: 1, signal: null })
      expect(output).toMatch(
        /^fanfare: only HMAC tokens can be issued, and client.token.hmac_secret_key is not set; .*\n$/
      )
    })
  )
})

describe("Token.run", () => {
  it.effect.each<readonly [string, ReadonlyArray<string>, Readonly<Record<string, string>>, string]>([
    ["a public key only", [], { FANFARE_CLIENT_TOKEN_RSA_PUBLIC_KEY: RSA["rsa_public_key"] ?? "" }, "only HMAC tokens"],
    ["a bad configuration", [], { ...KEY, PORT: "x" }, 'PORT: "x" is not valid'],
    ["info that is no JSON", ["--info", "{name:1}"], KEY, "info is not JSON"],
    ["empty info", ["--info", ""], KEY, "info is not JSON"],
    ["a channel that is none", ["--channel", ""], KEY, "--channel: a channel name is not empty"],
    ["a channel that is too long", ["--channel", "x".repeat(256)], KEY, "--channel: a channel name has at most 255"],
    ["a bad argument", ["--ttl", "0"], KEY, "--ttl"]
  ])("fails, in words, with %s", ([, args, env, message]) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Token.run(args, () => ServerConfig.load({}, env)))
      expect(error._tag).toBe("ConfigError")
      expect(error.message).toContain(message)
      expect(error.message).not.toMatch(/[\r\n]/)
    })
  )
})

describe("Token.parse", () => {
  it("has an anonymous user and an hour by default", () => {
    expect(Either.getOrThrow(Token.parse([]))).toEqual({
      user: "",
      ttl: Duration.hours(1),
      channel: undefined,
      info: undefined,
      help: false,
      config: undefined
    })
    expect(Either.getOrThrow(Token.parse(["--help"])).help).toBe(true)
  })

  it.each([
    [["--ttl", "0"], '--ttl: "0" is not valid: expected a duration above 0, such as "1h"'],
    [["--ttl", "0s"], '--ttl: "0s" is not valid'],
    [["--ttl", "60"], '--ttl: "60" is not valid'],
    [["--ttl", "soon"], '--ttl: "soon" is not valid'],
    [["--ttl", ""], '--ttl: "" is not valid'],
    [["--ttl=-1h"], '--ttl: "-1h" is not valid'],
    [["--usr", "42"], "Unknown option '--usr'"],
    [["42"], "42"],
    [["--user"], "--user"],
    [["--user", "--ttl", "1h"], "--user"]
  ])("refuses %j, on one line", (args, message) => {
    const problem = Either.getOrThrow(Either.flip(Token.parse(args))).message
    expect(problem).toContain(message)
    expect(problem).not.toMatch(/[\r\n]/)
  })
})
