import { describe, expect, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as Option from "../src/config/Option.ts"
import * as Otlp from "../src/config/Otlp.ts"
import * as Namespace from "../src/Namespace.ts"
import * as ServerConfig from "../src/ServerConfig.ts"

type Environment = Readonly<Record<string, string>>

const load = (file: unknown = {}, environment: Environment = {}): ServerConfig.Loaded =>
  Either.getOrThrowWith(ServerConfig.load(file as ServerConfig.Input, environment), (error) => error)
const config = (file: unknown, environment?: Environment): ServerConfig.Config => load(file, environment).config
const problem = (file: unknown, environment: Environment = {}): string =>
  Either.match(ServerConfig.load(file as ServerConfig.Input, environment), {
    onLeft: (error) => error.message,
    onRight: () => "it was taken"
  })

const namespace = (options: object): object => ({ channel: { namespaces: [{ name: "chat", ...options }] } })

describe("ServerConfig.load, defaults", () => {
  it("has those of the documentation, and warns of nothing", () => {
    const { config, warnings } = load()
    expect(warnings).toEqual([])
    expect([config.host, config.port, config.redis_url]).toEqual(["127.0.0.1", 8000, undefined])
    expect(config.client).toMatchObject({
      allowed_origins: [],
      queue_max_size: 1024 * 1024,
      queue_max_frames: 256,
      overflow: "drop_newest",
      reply_max_size: 1024 * 1024,
      recovery_max_publication_limit: 300,
      history_max_publication_limit: 300
    })
    expect(config.broker.memory.history_max_size).toBe(256 * 1024 * 1024)
    expect([config.http_api.key, config.http_server.trusted_proxies]).toEqual([undefined, []])
    expect([config.broker.redis.prefix, config.shutdown.close_rate, config.log.level]).toEqual([
      "fanfare",
      4000,
      "info"
    ])
    const { client, health, shutdown } = config
    expect(
      [
        client.ping_interval,
        client.pong_timeout,
        client.write_timeout,
        client.stale_close_delay,
        client.expired_close_delay,
        client.channel_position_check_delay,
        health.broker_grace,
        shutdown.timeout,
        shutdown.delay
      ].map(Duration.toSeconds)
    ).toEqual([25, 8, 30, 10, 25, 40, 0, 10, 0])
  })

  it("opens channels without a namespace and those of public, as long as channel says nothing of them", () => {
    for (const file of [{}, { client: {} }, { channel: { max_length: 20 } }]) {
      const { channel } = config(file)
      expect(channel.without_namespace).toEqual(Namespace.open)
      expect(channel.namespaces).toEqual([{ ...Namespace.open, name: "public" }])
    }
    expect(config({}, { FANFARE_CHANNEL_MAX_LENGTH: "20" }).channel).toMatchObject({
      max_length: 20,
      without_namespace: Namespace.open
    })
  })

  it("closes every channel that a channel key does not open", () => {
    expect(config({ channel: {} }).channel).toMatchObject({ without_namespace: Namespace.closed, namespaces: [] })
    expect(config({ channel: { namespaces: [] } }).channel.without_namespace).toEqual(Namespace.closed)
    expect(config({ channel: { without_namespace: {}, max_length: 9 } }).channel.namespaces).toEqual([])
    expect(config(namespace({})).channel).toMatchObject({
      without_namespace: Namespace.closed,
      namespaces: [{ ...Namespace.closed, name: "chat" }]
    })
    const variable = { FANFARE_CHANNEL_WITHOUT_NAMESPACE_ALLOW_SUBSCRIBE_FOR_CLIENT: "true" }
    expect(config({}, variable).channel.namespaces).toEqual([])
  })
})

describe("ServerConfig.load, bad values", () => {
  it.each<[object, string, string, string]>([
    [{ port: "8000" }, "port", '"8000"', "a whole number from 0 to 65535"],
    [{ port: 65_536 }, "port", "65536", "a whole number from 0 to 65535"],
    [{ port: -1 }, "port", "-1", "a whole number from 0 to 65535"],
    [{ port: 80.5 }, "port", "80.5", "a whole number"],
    [{ port: null }, "port", "null", "a whole number"],
    [{ host: 1 }, "host", "1", "a text"],
    [{ client: [] }, "client", "[]", "an object"],
    [{ client: { queue_max_size: 1024 } }, "client.queue_max_size", "1024", "a whole number, 131072 or more"],
    [{ client: { reply_max_size: 65_535 } }, "client.reply_max_size", "65535", "a whole number, 65536 or more"],
    [{ client: { history_max_publication_limit: 0 } }, "client.history_max", "0", "a whole number, 1 or more"],
    [{ client: { channel_position_check_delay: "0" } }, "client.channel_position", '"0"', "a duration above 0"],
    [{ broker: { memory: { history_max_size: 0 } } }, "broker.memory.history_max_size", "0", "a whole number, 1"],
    [{ client: { queue_max_frames: 0 } }, "client.queue_max_frames", "0", "a whole number, 1 or more"],
    [{ client: { overflow: "drop" } }, "client.overflow", '"drop"', "drop_newest, drop_oldest or disconnect"],
    [{ client: { allowed_origins: "*" } }, "client.allowed_origins", '"*"', "a list of origins"],
    [{ client: { allowed_origins: [""] } }, "client.allowed_origins", '[""]', "a list of origins"],
    [{ client: { ping_interval: 25 } }, "client.ping_interval", "25", "a duration above 0"],
    [{ client: { ping_interval: "25" } }, "client.ping_interval", '"25"', "a duration above 0"],
    [{ client: { ping_interval: "0" } }, "client.ping_interval", '"0"', "a duration above 0"],
    [{ health: { broker_grace: "soon" } }, "health.broker_grace", '"soon"', 'a duration such as "30s"'],
    [{ client: { allow_anonymous_connect_without_token: "yes" } }, "client.allow_anonymous", '"yes"', "true or false"],
    [{ log: { format: "xml" } }, "log.format", '"xml"', "pretty or json"],
    [{ telemetry: { traces: { sample_ratio: 1.1 } } }, "telemetry.traces.sample_ratio", "1.1", "a number from 0 to 1"],
    [{ telemetry: { traces: { sample_ratio: -1 } } }, "telemetry.traces.sample_ratio", "-1", "a number from 0 to 1"],
    [{ log: { level: "loud" } }, "log.level", '"loud"', "trace, debug, info, warning, error or none"],
    [{ channel: { namespaces: {} } }, "channel.namespaces", "{}", "a list of objects"],
    [{ channel: { namespaces: ["chat"] } }, "channel.namespaces[0]", '"chat"', "an object"],
    [{ channel: { namespaces: [{}] } }, "channel.namespaces[0].name", '""', "two or more letters"],
    [{ channel: { namespaces: [{ name: "a:b" }] } }, "channel.namespaces[0].name", '"a:b"', "two or more letters"],
    [{ channel: { namespaces: [{ name: "a" }] } }, "channel.namespaces[0].name", '"a"', "two or more letters"],
    [{ channel: { namespaces: [{ name: "ab" }, { name: "ab" }] } }, "channel.namespaces[1].name", '"ab"', "not taken"],
    [namespace({ history_size: -1 }), "channel.namespaces[0].history_size", "-1", "a whole number, 0 or more"],
    [namespace({ history_ttl: 300 }), "channel.namespaces[0].history_ttl", "300", 'a duration such as "300s"'],
    [
      namespace({ history_meta_ttl: 720 }),
      "channel.namespaces[0].history_meta_ttl",
      "720",
      'a duration such as "720h"'
    ],
    [namespace({ presence: 1 }), "channel.namespaces[0].presence", "1", "true or false"],
    [namespace({ presense: true }), "channel.namespaces[0].presense", "true", "presence"],
    [{ prot: 8000 }, "prot", "8000", "port"],
    [{ shutdown: { timeuot: { a: 1 } } }, "shutdown.timeuot", '{"a":1}', "timeout"],
    [JSON.parse('{"__proto__":1}'), "__proto__", "1", "port"],
    [{ constructor: 1 }, "constructor", "1", "port"],
    [{ client: { overflow: "a\nb" } }, "client.overflow", '"a\\nb"', "drop_newest"]
  ])("names key, value and what was expected, on one line: %j", (file, key, value, expected) => {
    const message = problem(file)
    expect(message.startsWith(key)).toBe(true)
    expect(message).toContain(value)
    expect(message.slice(message.indexOf("expected"))).toContain(expected)
    expect(message).not.toMatch(/[\r\n]/)
  })

  it("keeps a message on one line where a key has a line feed", () => {
    for (const message of [problem({ "po\nrt": 1 }), problem({ client: { "po\r\nrt": 1 } })]) {
      expect(message).toContain("unknown key")
      expect(message).not.toMatch(/[\r\n]/)
    }
  })

  it.each([[null], [[]], [1]])("wants an object: %j", (file) => {
    expect(problem(file)).toBe(`the configuration: ${JSON.stringify(file)} is not valid: expected an object`)
  })

  it.each<[object, string]>([
    [{ history_size: 5 }, "history_size: 5 is not valid: expected history_ttl beside it"],
    [{ history_ttl: "5m" }, "history_ttl: 5m is not valid: expected history_size beside it"],
    [{ history_size: 5, history_ttl: "0" }, "history_size: 5 is not valid: expected history_ttl beside it"],
    [
      { history_size: 5, history_ttl: "5m", history_meta_ttl: "299s" },
      "history_meta_ttl: 4m 59s is not valid: expected history_ttl or more"
    ],
    [
      { history_size: 5, history_ttl: "5m", history_meta_ttl: "0" },
      "history_meta_ttl: 0 is not valid: expected history_ttl or more"
    ],
    [{ force_recovery: true }, "force_recovery: true is not valid: expected history_size and history_ttl beside it"],
    [
      { force_positioning: true },
      "force_positioning: true is not valid: expected history_size and history_ttl beside it"
    ]
  ])("refuses the contradiction %j", (options, message) => {
    expect(problem(namespace(options))).toBe(`channel.namespaces[0].${message}`)
    expect(problem({ channel: { without_namespace: options } })).toBe(`channel.without_namespace.${message}`)
    expect(problem({}, { FANFARE_CHANNEL_WITHOUT_NAMESPACE: JSON.stringify(options) })).toContain(message)
  })

  it("refuses a history_meta_ttl that two position checks outlast", () => {
    const delay = (text: string) => ({
      client: { channel_position_check_delay: text },
      ...namespace({ history_size: 5, history_ttl: "1m", history_meta_ttl: "1m" })
    })
    expect(problem(delay("31s"))).toBe(
      "channel.namespaces[0].history_meta_ttl: 1m is not valid: expected twice client.channel_position_check_delay or more"
    )
    expect(load(delay("30s")).warnings).toEqual([])
  })

  it("takes a history_meta_ttl of history_ttl or more, and has 720 hours without one", () => {
    const metaTtl = (options: object): number | undefined => {
      const [first] = config(namespace({ history_size: 5, history_ttl: "5m", ...options })).channel.namespaces
      return first && Duration.toSeconds(first.history_meta_ttl)
    }
    expect(metaTtl({})).toBe(720 * 3600)
    expect(metaTtl({ history_meta_ttl: "300s" })).toBe(300)
    expect(problem(namespace({ history_size: 5, history_ttl: "721h" }))).toContain("history_meta_ttl: ")
  })

  it("shortens a long value", () => {
    expect(problem({ client: { overflow: "x".repeat(10_000) } }).length).toBeLessThan(300)
  })
})

describe("ServerConfig.load, environment", () => {
  const file = {
    host: "file",
    port: 1,
    client: { queue_max_frames: 7, overflow: "disconnect", allowed_origins: ["https://a"] }
  }

  it("wins over the file, key by key", () => {
    const { client, host, port, redis_url } = config(file, {
      HOST: "0.0.0.0",
      PORT: "8001",
      REDIS_URL: "redis://127.0.0.1:6379",
      FANFARE_CLIENT_OVERFLOW: "drop_oldest"
    })
    expect([host, port, redis_url && Redacted.value(redis_url)]).toEqual(["0.0.0.0", 8001, "redis://127.0.0.1:6379"])
    expect([client.overflow, client.queue_max_frames, client.allowed_origins]).toEqual([
      "drop_oldest",
      7,
      ["https://a"]
    ])
  })

  it("reads text, numbers, booleans, lists, durations and JSON", () => {
    const { broker, channel, client, shutdown } = config(file, {
      FANFARE_BROKER_REDIS_PREFIX: "12",
      FANFARE_CLIENT_QUEUE_MAX_FRAMES: "12",
      FANFARE_CLIENT_ALLOW_ANONYMOUS_CONNECT_WITHOUT_TOKEN: "true",
      FANFARE_CLIENT_ALLOWED_ORIGINS: "  https://a.example\thttps://b.example ",
      FANFARE_SHUTDOWN_TIMEOUT: "1m30s",
      FANFARE_CHANNEL_NAMESPACES: '[{"name":"chat","allow_publish_for_client":true}]'
    })
    expect(broker.redis.prefix).toBe("12")
    expect([client.queue_max_frames, client.allow_anonymous_connect_without_token]).toEqual([12, true])
    expect(client.allowed_origins).toEqual(["https://a.example", "https://b.example"])
    expect(Duration.toSeconds(shutdown.timeout)).toBe(90)
    expect(channel.namespaces).toEqual([{ ...Namespace.closed, name: "chat", allow_publish_for_client: true }])
  })

  it("takes an object as JSON, and lets the variable of a key in it win", () => {
    const { client } = config(file, {
      FANFARE_CLIENT: '{"queue_max_frames":8,"channel_limit":3}',
      FANFARE_CLIENT_CHANNEL_LIMIT: "4"
    })
    expect([client.queue_max_frames, client.channel_limit, client.overflow]).toEqual([8, 4, "disconnect"])
  })

  it("takes an empty variable for none", () => {
    expect(config(file, { HOST: "", FANFARE_CLIENT_QUEUE_MAX_FRAMES: "", FANFARE_CHANNEL: "" })).toEqual(config(file))
  })

  it.each<[Environment, string]>([
    [{ PORT: "http" }, 'PORT: "http" is not valid: expected a whole number from 0 to 65535'],
    [{ PORT: "Infinity" }, "PORT: Infinity is not valid: expected a whole number from 0 to 65535"],
    [
      { FANFARE_CLIENT_QUEUE_MAX_FRAMES: "1.5" },
      "FANFARE_CLIENT_QUEUE_MAX_FRAMES: 1.5 is not valid: expected a whole number, 1 or more"
    ],
    [
      { FANFARE_SHUTDOWN_TIMEOUT: "10" },
      'FANFARE_SHUTDOWN_TIMEOUT: "10" is not valid: expected a duration above 0, such as "30s"'
    ],
    [{ FANFARE_CHANNEL_NAMESPACES: "[{" }, 'FANFARE_CHANNEL_NAMESPACES: "[{" is not valid: expected a list of objects'],
    [
      { FANFARE_CHANNEL_WITHOUT_NAMESPACE_PRESENCE: "1" },
      'FANFARE_CHANNEL_WITHOUT_NAMESPACE_PRESENCE: "1" is not valid: expected true or false'
    ]
  ])("refuses %j", (environment, message) => {
    expect(problem({}, environment)).toBe(message)
  })

  it("only warns of a FANFARE_ variable that it does not know, and ignores all others", () => {
    const environment = {
      FANFARE_PORT: "tcp://10.0.0.1:80",
      FANFARE_CONFIG: "x",
      fanfare_x: "1",
      PATH: "/",
      FANFARE_X: "s3cret"
    }
    const { config, warnings } = load({}, environment)
    expect(warnings).toEqual([
      "FANFARE_PORT: unknown variable, ignored: it is called PORT",
      "FANFARE_X: unknown variable, ignored"
    ])
    expect(config).toEqual(load().config)
  })

  it("has one variable for every option", () => {
    const names = Option.leaves(ServerConfig.options).map(({ option, path }) => Option.variable(path, option))
    expect(new Set(names).size).toBe(names.length)
    expect(load({}, Object.fromEntries(names.map((name) => [name, ""]))).warnings).toEqual([])
  })
})

describe("ServerConfig.layer", () => {
  it.effect("logs the warnings and fails with what is wrong", () =>
    Effect.gen(function* () {
      const logs: Array<unknown> = []
      const logger = Logger.replace(
        Logger.defaultLogger,
        Logger.make(({ message }) => logs.push(message))
      )
      const build = (input: ServerConfig.Input) =>
        Effect.scoped(Effect.either(Layer.build(Layer.provide(ServerConfig.layer(input), logger))))
      expect(Either.isRight(yield* build({ client: { token: { hmac_secret_key: "short" } } }))).toBe(true)
      expect(logs.flat()).toEqual([expect.stringContaining("client.token.hmac_secret_key: shorter than 32 bytes")])
      const failed = yield* build({ port: "x" })
      expect(Either.isLeft(failed) && failed.left).toMatchObject({ _tag: "ConfigError" })
    })
  )

  it("checks channel names against channel.max_length", () => {
    const short = config({ channel: { max_length: 3 } })
    expect(Either.isRight(ServerConfig.parseChannel(short, "abc"))).toBe(true)
    expect(Either.isLeft(ServerConfig.parseChannel(short, "abcd"))).toBe(true)
  })
})

describe("ServerConfig, telemetry", () => {
  it("is off by default, and takes OpenTelemetry's own variables", () => {
    expect(config({}).telemetry).toEqual({
      service_name: "fanfare",
      otlp: { endpoint: undefined, headers: undefined },
      traces: { sample_ratio: 1 }
    })
    const { telemetry } = config(
      {},
      {
        OTEL_SERVICE_NAME: "chat",
        OTEL_EXPORTER_OTLP_ENDPOINT: "https://otel.example.com/base",
        OTEL_EXPORTER_OTLP_HEADERS: "authorization=Bearer%20x, tenant=a=b",
        FANFARE_TELEMETRY_TRACES_SAMPLE_RATIO: "0.25"
      }
    )
    expect(telemetry).toMatchObject({
      service_name: "chat",
      otlp: { endpoint: "https://otel.example.com/base" },
      traces: { sample_ratio: 0.25 }
    })
    expect(Otlp.parseHeaders(Redacted.value(telemetry.otlp.headers ?? Redacted.make("")))).toEqual({
      authorization: "Bearer x",
      tenant: "a=b"
    })
  })

  it.each(["localhost:4318", "grpc://h:4317", "http://", "http://h?x=1", "http://user@h", "nonsense"])(
    "refuses the endpoint %s",
    (endpoint) => {
      expect(problem({}, { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint })).toBe(
        "OTEL_EXPORTER_OTLP_ENDPOINT: its value is not valid: expected an http:// or https:// URL without a user, such as http://localhost:4318"
      )
    }
  )

  it.each(["nonsense", "=x", "a b=c", "a=%zz", "a=%0Ab", ",", "a=b,c"])("refuses the headers %j", (headers) => {
    expect(problem({}, { OTEL_EXPORTER_OTLP_HEADERS: headers })).toBe(
      "OTEL_EXPORTER_OTLP_HEADERS: its value is not valid: expected key=value,key2=value2, with values percent-encoded"
    )
  })
})
