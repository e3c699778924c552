import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as File from "../src/config/File.ts"
import * as ServerConfig from "../src/ServerConfig.ts"
import * as Origin from "../src/transport/Origin.ts"
import { live } from "./support/it.ts"
import * as Program from "./support/program.ts"

type Environment = Readonly<Record<string, string>>

const problem = (file: unknown, environment: Environment = {}): string =>
  Either.match(ServerConfig.load(file as ServerConfig.Input, environment), {
    onLeft: (error) => error.message,
    onRight: () => "it was taken"
  })

const warnings = (file: unknown, environment: Environment = {}): ReadonlyArray<string> =>
  Either.getOrThrowWith(ServerConfig.load(file as ServerConfig.Input, environment), (error) => error).warnings

const ofFile = (text: string): string =>
  Either.match(File.parse("fanfare.json", text), {
    onLeft: (error) => error.message,
    onRight: (value) => JSON.stringify(value)
  })

const ORIGINS = "FANFARE_CLIENT_ALLOWED_ORIGINS"

describe("client.allowed_origins", () => {
  it.each([
    ["https://app.example.com/", '"https://app.example.com": an origin has no slash at its end'],
    ["https://app.example.com/chat", '"https://app.example.com": an origin has no path'],
    ["https://app.example.com?x=1", '"https://app.example.com": as browsers write it'],
    ["app.example.com", 'an origin with its scheme, such as "https://app.example.com"'],
    ["*.example.com", 'an origin with its scheme, such as "https://*.example.com"'],
    ["//app.example.com", 'an origin with its scheme, such as "https://app.example.com"'],
    ["localhost:3000", 'an origin with its scheme, such as "https://localhost:3000"'],
    ["https://", 'an origin with its scheme, such as "https://https:"'],
    ["https://app.example.com:443", '"https://app.example.com": as browsers write it'],
    ["http://app.example.com:80", '"http://app.example.com": as browsers write it'],
    ["https://*.example.com:443", '"https://*.example.com": as browsers write it'],
    ["https://user@app.example.com", '"https://app.example.com": as browsers write it'],
    ["https://bücher.example", '"https://xn--bcher-kva.example": as browsers write it'],
    ["http://[2001:DB8:0:0::1]:8000", '"http://[2001:db8::1]:8000": as browsers write it'],
    ["wss://app.example.com", '"https://app.example.com": an origin is that of a page'],
    ["ws://app.example.com:8000", '"http://app.example.com:8000": an origin is that of a page'],
    ["null", '"*": the origin null is permitted with all others only']
  ])("refuses %s, which no origin can match, and says what to write", (origin, expected) => {
    const message = `${JSON.stringify(origin)} is not valid: expected ${expected}`
    expect(problem({ client: { allowed_origins: ["https://a.example", origin] } })).toBe(
      `client.allowed_origins: ${message}`
    )
    expect(problem({}, { [ORIGINS]: `https://a.example ${origin}` })).toBe(`${ORIGINS}: ${message}`)
  })

  it.each([
    ["https://a.example,https://b.example"],
    ["https://a.example, https://b.example"],
    ['["https://a.example","https://b.example"]'],
    ['["https://a.example", "https://b.example"]'],
    ["'https://a.example','https://b.example'"]
  ])("refuses several in one text, and says how to write them: %s", (text) => {
    const message = problem({}, { [ORIGINS]: text })
    expect(message.startsWith(`${ORIGINS}: "`)).toBe(true)
    expect(
      message.endsWith("expected entries that spaces separate, and nothing else: https://a.example https://b.example")
    ).toBe(true)
    expect(problem({ client: { allowed_origins: [text] } })).toContain(
      'is not valid: expected an entry of its own for each: ["https://a.example","https://b.example"]'
    )
  })

  it("takes every pattern that can match, and the origins that it refuses match nothing", () => {
    const patterns = [
      "*",
      "https://app.example.com",
      "https://APP.example.com",
      "http://localhost:3000",
      "https://*.example.com",
      "http://a.example:*",
      "https://*",
      "*://a.example",
      "http://[2001:db8::1]:8000",
      "https://xn--bcher-kva.example",
      "capacitor://localhost",
      "chrome-extension://abcdefgh"
    ]
    expect(warnings({ client: { allowed_origins: patterns } })).toEqual([])
    const sent = { origin: "https://app.example.com", host: "x" }
    for (const pattern of ["https://app.example.com/", "app.example.com", "https://app.example.com:443"]) {
      expect(Origin.check(sent, [pattern], { toLoopback: false, host: undefined })).toBeDefined()
    }
  })

  it("so does http_server.trusted_proxies with several in one text", () => {
    expect(problem({}, { FANFARE_HTTP_SERVER_TRUSTED_PROXIES: "10.0.0.0/8,192.168.0.0/16" })).toBe(
      'FANFARE_HTTP_SERVER_TRUSTED_PROXIES: "10.0.0.0/8,192.168.0.0/16" is not valid: expected entries that spaces separate, and nothing else: 10.0.0.0/8 192.168.0.0/16'
    )
  })
})

describe("a message about a value that a variable sets", () => {
  it.each<[Environment, string]>([
    [{ FANFARE_WARM_UP: "yes" }, 'FANFARE_WARM_UP: "yes" is not valid: expected true or false'],
    [{ FANFARE_WARM_UP: "TRUE" }, 'FANFARE_WARM_UP: "TRUE" is not valid: expected true or false'],
    [{ PORT: "http" }, 'PORT: "http" is not valid: expected a whole number from 0 to 65535'],
    [
      { FANFARE_SHUTDOWN_TIMEOUT: "10" },
      'FANFARE_SHUTDOWN_TIMEOUT: "10" is not valid: expected a duration above 0, such as "30s"'
    ],
    [
      { FANFARE_CLIENT_QUEUE_MAX_SIZE: "1MB" },
      'FANFARE_CLIENT_QUEUE_MAX_SIZE: "1MB" is not valid: expected a whole number, 131072 or more'
    ],
    [
      { FANFARE_CLIENT: '{"ping_interval":25}' },
      'FANFARE_CLIENT: client.ping_interval: 25 is not valid: expected a duration above 0, such as "30s"'
    ],
    [
      { FANFARE_SHUTDOWN: '{"timeuot":1}' },
      "FANFARE_SHUTDOWN: shutdown.timeuot: unknown key (value 1): expected one of"
    ],
    [
      { FANFARE_CHANNEL_NAMESPACES: '[{"name":"chat","presence":1}]' },
      "FANFARE_CHANNEL_NAMESPACES: channel.namespaces[0].presence: 1 is not valid: expected true or false"
    ],
    [
      { FANFARE_CHANNEL_NAMESPACES: '[{"name":"chat","history_size":5}]' },
      "FANFARE_CHANNEL_NAMESPACES: channel.namespaces[0].history_size: 5 is not valid: expected history_ttl beside it"
    ],
    [
      { FANFARE_CLIENT: '{"ping_interval":"1s"}', FANFARE_CLIENT_PING_INTERVAL: "soon" },
      'FANFARE_CLIENT_PING_INTERVAL: "soon" is not valid'
    ],
    [{ FANFARE_LOG: '{"level":"info","level":"debug"}' }, "FANFARE_LOG: level stands in it twice: expected it once"]
  ])("names the variable: %j", (environment, message) => {
    expect(problem({ warm_up: true, client: { ping_interval: "5s" } }, environment)).toContain(message)
    expect(problem({}, environment)).not.toMatch(/[\r\n]/)
  })

  it("names the key where the value is the file's, whatever variables there are", () => {
    expect(problem({ client: { ping_interval: "soon" } }, { FANFARE_CLIENT_PONG_TIMEOUT: "1s", PORT: "1" })).toBe(
      'client.ping_interval: "soon" is not valid: expected a duration above 0, such as "30s"'
    )
    expect(problem({ client: 5 }, { FANFARE_CLIENT_PONG_TIMEOUT: "1s" })).toBe(
      "client: 5 is not valid: expected an object"
    )
  })

  it("says how a variable is called whose option has a name of its own", () => {
    expect(warnings({}, { FANFARE_REDIS_URL: "redis://h", FANFARE_HOST: "::" })).toEqual([
      "FANFARE_REDIS_URL: unknown variable, ignored: it is called REDIS_URL",
      "FANFARE_HOST: unknown variable, ignored: it is called HOST"
    ])
  })
})

describe("a configuration that cannot be meant", () => {
  it("is an internal port that the port has, on the same address", () => {
    const expected = "is not valid: expected another port than that of"
    const both = { port: 8000, http_server: { internal_port: 8000 } }
    expect(problem(both)).toBe(`http_server.internal_port: 8000 ${expected} port, or 0 to serve everything there`)
    expect(problem({ port: 1 }, { PORT: "8000", FANFARE_HTTP_SERVER_INTERNAL_PORT: "8000" })).toBe(
      `FANFARE_HTTP_SERVER_INTERNAL_PORT: 8000 ${expected} PORT, or 0 to serve everything there`
    )
    const apart = { port: 8000, host: "10.0.0.1", http_server: { internal_port: 8000, internal_host: "127.0.0.1" } }
    expect(warnings(apart)).toEqual([])
    expect(problem({ ...apart, host: "0.0.0.0" })).toContain(expected)
    expect(warnings({ port: 0, http_server: { internal_port: 0 } })).toEqual([])
  })

  it("warns of an internal host without a port, and of white space around a secret", () => {
    expect(warnings({ http_server: { internal_host: "127.0.0.1" } })).toEqual([
      "http_server.internal_host: not used without http_server.internal_port"
    ])
    const key = "a key of 32 bytes or some more, \n"
    expect(warnings({ http_api: { key } }, { FANFARE_CLIENT_TOKEN_HMAC_SECRET_KEY: key })).toEqual([
      "http_api.key: white space at its beginning or end is a part of it: a line feed of its file?",
      "FANFARE_CLIENT_TOKEN_HMAC_SECRET_KEY: white space at its beginning or end is a part of it: a line feed of its file?"
    ])
  })

  it("is an unknown key, whose value is said only where it is no secret", () => {
    expect(problem({ redis_ulr: "redis://:s3cret@h" })).toMatch(/^redis_ulr: unknown key: expected one of host, port,/)
    expect(problem({ prot: 8000 })).toMatch(/^prot: unknown key \(value 8000\): expected one of host, port,/)
  })
})

describe("the file of the configuration", () => {
  it("may begin with a byte order mark", () => {
    expect(ofFile('\uFEFF{"port": 8001}')).toBe('{"port":8001}')
  })

  it.each([
    ["", "is empty"],
    ["\uFEFF \n", "is empty"],
    ["[]", "is not an object"],
    ["null", "is not an object"],
    ['{"a": 1,}', "is not JSON"],
    ["port: 8000", "is not JSON"]
  ])("has to be an object of JSON: %j", (text, what) => {
    const message = ofFile(text)
    expect(message.startsWith(`fanfare.json: ${what}`)).toBe(true)
    expect(message.endsWith(': expected JSON such as {"port": 8000}')).toBe(true)
  })

  it.each([
    ['{\n"port": 1,\n"port": 2}', "port stands in it twice, at line 2 and at line 3"],
    ['{"port": 1, "p\\u006frt": 1}', "port stands in it twice, at line 1"],
    [
      '{"client": {"ping_interval": "1s",\n "pong_timeout": "1s",\n"ping_interval": "2s"}}',
      "client.ping_interval stands in it twice, at line 1 and at line 3"
    ],
    [
      '{"channel": {"namespaces": [{"name": "ab"}, {"name": "cd", "presence": true, "presence": false}]}}',
      "channel.namespaces[1].presence stands in it twice, at line 1"
    ],
    ['{"client": {}, "log": {"level": "info"},\n\n"client": {}}', "client stands in it twice, at line 1 and at line 3"],
    ['{"a\\nb": [[1, {"c": 1}]], "a\\nb": "}"}', '"a\\nb" stands in it twice, at line 1']
  ])("has no key twice: %s", (text, what) => {
    expect(ofFile(text)).toBe(`fanfare.json: ${what}: expected it once`)
  })

  it.each([
    ['{"client": {"token": {}}, "broker": {"token": 1}}'],
    ['{"a": "\\"a\\": 1, \\"a\\"", "b": ["a", "a", {"a": 1}, {"a": 1}], "c": [[], [{"a": {}}], "c"]}'],
    ['{"": 1, " ": 2}']
  ])("may have the same key in several objects: %s", (text) => {
    expect(JSON.parse(ofFile(text))).toEqual(JSON.parse(text))
  })

  live("is none where FANFARE_CONFIG is empty, and is given once", () =>
    Effect.gen(function* () {
      const file = yield* Program.temporaryFile("fanfare.json", '\uFEFF{"port": 0, "name": "from the file"}')
      const started = yield* Program.start({ env: { FANFARE_CONFIG: "" } })
      started.signal("SIGTERM")
      expect(yield* started.exit).toEqual({ code: 0, signal: null })

      const fails = (args: ReadonlyArray<string>, env: Environment, message: string) =>
        Effect.gen(function* () {
          const { exit, output } = yield* Program.spawnProgram({ args, env })
          expect(yield* exit).toEqual({ code: 1, signal: null })
          expect(output()).toBe(`fanfare: ${message}\n`)
        })
      yield* fails(["--config", file, "--config", file], {}, "--config: is given twice: expected it once")
      yield* fails(["--config="], {}, "--config: expected the path of a JSON file behind it")
      const missing = `${file}.none`
      yield* fails(
        [],
        { FANFARE_CONFIG: missing },
        `${missing}: cannot be read: ENOENT: no such file or directory, open '${missing}': expected the path of a JSON file`
      )

      const { output, says, child, exit } = yield* Program.spawnProgram({ args: ["--config", file] })
      yield* says("listening on")
      expect(output()).not.toContain("localhost:8000")
      process.kill(child.pid ?? 0, "SIGTERM")
      expect(yield* exit).toEqual({ code: 0, signal: null })
    })
  )
})
