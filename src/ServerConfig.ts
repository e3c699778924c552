/**
 * Every option of the server, its default and its unit. Read from a JSON
 * object (a file, or the code that embeds the server) and from environment
 * variables, which win.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import * as Channel from "./Channel.ts"
import { ConfigError, decodeTree, overlay } from "./config/decode.ts"
import * as Text from "./config/Duration.ts"
import * as Option from "./config/Option.ts"
import * as Otlp from "./config/Otlp.ts"
import * as TokenOptions from "./config/TokenOptions.ts"
import * as Namespace from "./Namespace.ts"

export { ConfigError } from "./config/decode.ts"

const KIB = 1024

const duration = (default_: Duration.DurationInput, doc: string) =>
  Option.make(Text.FromText, Duration.decode(default_), {
    kind: "text",
    doc,
    expected: 'a duration such as "30s"'
  })

const positiveDuration = (default_: Duration.DurationInput, doc: string) =>
  Option.make(Text.FromText.pipe(Schema.greaterThanDuration(0)), Duration.decode(default_), {
    kind: "text",
    doc,
    expected: 'a duration above 0, such as "30s"'
  })

const integer = (
  default_: number,
  unit: string,
  doc: string,
  about: {
    readonly least?: number
    readonly most?: number
    readonly env?: string
  } = {}
) => {
  const least = about.least ?? 1
  const most = about.most ?? Number.MAX_SAFE_INTEGER
  return Option.make(Schema.Int.pipe(Schema.between(least, most)), default_, {
    kind: "number",
    unit,
    doc,
    expected: about.most === undefined ? `a whole number, ${least} or more` : `a whole number from ${least} to ${most}`,
    ...(about.env === undefined ? {} : { env: about.env })
  })
}

const secret = (doc: string) =>
  Option.make(Schema.UndefinedOr(Schema.Redacted(Schema.NonEmptyString)), undefined, {
    kind: "text",
    doc,
    expected: "a text that is not empty",
    secret: true
  })

const optionalText = (doc: string) =>
  Option.make(Schema.UndefinedOr(Schema.NonEmptyString), undefined, {
    kind: "text",
    doc,
    expected: "a text that is not empty"
  })

const flag = (default_: boolean, doc: string) => Option.make(Schema.Boolean, default_, { kind: "boolean", doc })

const list = (doc: string, expected: string) =>
  Option.make(Schema.Array(Schema.NonEmptyString), [], { kind: "list", doc, expected })

const isDecodable = (text: string): boolean => Either.isRight(Either.try(() => decodeURIComponent(text)))

// As strict as the Redis client, which throws on some URLs that `URL` takes, and
// would read a scheme in capitals as one without TLS.
const isRedisUrl = (text: string): boolean => {
  if (!/^rediss?:\/\//.test(text) || !URL.canParse(text)) return false
  const url = new URL(text)
  return (
    isDecodable(url.username) &&
    isDecodable(url.password) &&
    url.hostname !== "" &&
    /^\/?\d*$/.test(url.pathname) &&
    url.search === "" &&
    url.hash === ""
  )
}

const NAME = /^[A-Za-z0-9_.-]{2,}$/

const namespaceOptions = {
  name: Option.make(Schema.NonEmptyString, "", {
    kind: "text",
    doc: "the part of a channel name before the first `:`"
  }),
  ...Namespace.options
} as const

/** Every option, in the order in which the documentation lists them. */
export const options = {
  host: Option.make(Schema.NonEmptyString, "127.0.0.1", { kind: "text", doc: "address to listen on", env: "HOST" }),
  port: integer(8000, "", "port to listen on; 0: any free one", { least: 0, most: 65535, env: "PORT" }),
  name: optionalText("what this instance is called in the method `info` of the server API; `host:port` by default"),
  redis_url: Option.make(
    Schema.UndefinedOr(Schema.Redacted(Schema.String.pipe(Schema.filter(isRedisUrl)))),
    undefined,
    {
      kind: "text",
      doc: "the Redis that connects the instances, `redis://` or `rediss://`, with user and password where it has them, and the number of a database; a master, without cluster mode; without it the broker is in process",
      expected: "redis://[user:password@]host[:port][/db], or rediss://",
      secret: true,
      env: "REDIS_URL"
    }
  ),
  warm_up: flag(
    true,
    "once it listens, a few clients of its own come, leave and come back, to a server of their own within the process, on a free port of 127.0.0.1: what V8 compiles from then on is compiled for that, and a first reconnect storm is over sooner; a quarter to half a second of CPU; of the program only"
  ),
  client: {
    allowed_origins: list(
      "origins (`https://app.example.com`, `https://*.example.com`) whose pages may connect, beside those of the server itself; `*`: all",
      "a list of origins such as https://app.example.com, or *"
    ),
    allow_anonymous_connect_without_token: flag(
      false,
      "with a token key set, clients without a token may connect, without a user"
    ),
    connection_limit: integer(50_000, "connections", "more are refused with 503 before the upgrade"),
    channel_limit: integer(128, "channels", "subscriptions of one connection; one more is answered with error 106"),
    queue_max_size: integer(1024 * KIB, "bytes", "bound of a connection's mailbox", { least: 128 * KIB }),
    queue_max_frames: integer(256, "frames", "bound of a connection's mailbox"),
    overflow: Option.make(Schema.Literal("drop_newest", "drop_oldest", "disconnect"), "drop_newest", {
      kind: "text",
      doc: "what happens to a publication for a full mailbox: `drop_newest`, `drop_oldest`, or `disconnect` with 3008",
      expected: "drop_newest, drop_oldest or disconnect"
    }),
    write_timeout: positiveDuration(
      "30 seconds",
      "a client that takes less than a write, 64 KiB or one longer message, in so long is disconnected with 3008, then terminated"
    ),
    ping_interval: positiveDuration("25 seconds", "how often the server pings a client"),
    pong_timeout: positiveDuration("8 seconds", "how long it waits for the answer"),
    stale_close_delay: positiveDuration(
      "10 seconds",
      "a client that has not sent `connect` by then is disconnected with 3502, one that has not been let in with 3004"
    ),
    expired_close_delay: positiveDuration(
      "25 seconds",
      "grace for an expired connection, then it is disconnected with 3005, and for an expired subscription, then it is ended with 2501"
    ),
    reply_max_size: integer(
      1024 * KIB,
      "bytes",
      "bound of a replay (beyond it a subscription is not recovered) and of a history reply (a shorter page)",
      { least: 64 * KIB }
    ),
    recovery_max_publication_limit: integer(
      300,
      "publications",
      "bound of a replay; beyond it a subscription is not recovered"
    ),
    history_max_publication_limit: integer(300, "publications", "bound of a history reply to a client"),
    channel_position_check_delay: Option.make(
      Text.FromText.pipe(Schema.greaterThanDuration(0), Schema.lessThanOrEqualToDuration("30 minutes")),
      Duration.seconds(40),
      {
        kind: "text",
        doc: "how often each channel with history and local subscribers is compared with its stream, so that a loss that nothing told of is noticed",
        expected: 'a duration above 0, up to "30m"'
      }
    ),
    presence_update_interval: Option.make(
      Text.FromText.pipe(Schema.greaterThanDuration(0), Schema.lessThanOrEqualToDuration("1 hour")),
      Duration.seconds(25),
      {
        kind: "text",
        doc: "how often presence is refreshed in Redis; who is on an instance that is gone is present for twice as long at most",
        expected: 'a duration above 0, up to "1h"'
      }
    ),
    user_connection_limit: integer(
      0,
      "connections",
      "connections of one user to one instance, the anonymous ones not counted; one more is disconnected with 3504; 0: no limit",
      { least: 0 }
    ),
    command_rate: integer(
      0,
      "commands/s",
      "of one connection, and as many at once; more are answered with error 111, and twice as many disconnect it with 3013, as does the first one too many that has no answer; 0: no limit",
      { least: 0 }
    ),
    error_limit: integer(
      1000,
      "errors/min",
      "refusals of commands of one connection, and as many at once; one more disconnects it with 3509; 0: no limit",
      { least: 0 }
    ),
    token: TokenOptions.options
  },
  channel: {
    max_length: integer(255, "characters", "longest channel name"),
    without_namespace: Namespace.options,
    namespaces: Option.make(
      Schema.Array(Schema.Unknown) as unknown as Schema.Schema<
        ReadonlyArray<Namespace.Namespace & { readonly name: string }>
      >,
      [],
      { kind: "json", doc: "the namespaces", expected: "a list of objects", entry: namespaceOptions }
    )
  },
  http_api: { key: secret("the `X-API-Key` of the server API; without it the API is off (404)") },
  http_server: {
    trusted_proxies: list(
      "addresses and CIDR ranges whose `X-Forwarded-For` and `X-Forwarded-Host` are believed",
      "a list of addresses such as 10.0.0.0/8"
    ),
    internal_port: integer(
      0,
      "",
      "port on which alone the server API, its documentation, `/metrics` and `/health/…` are served; 0: on `port`; not for an embedded server",
      { least: 0, most: 65535 }
    ),
    internal_host: optionalText("address to listen on with it; `host` by default")
  },
  broker: {
    memory: {
      history_max_size: integer(
        256 * 1024 * KIB,
        "bytes",
        "bound of all histories together where the broker is in process; beyond it those written least recently go"
      )
    },
    redis: {
      prefix: Option.make(Schema.NonEmptyString, "fanfare", {
        kind: "text",
        doc: "what all keys and channels in Redis begin with; environments that share a Redis have one each"
      })
    }
  },
  health: {
    broker_grace: duration(
      0,
      "`/health/ready` is 503 once the broker has not been live for so long; above a failover's length where all instances share one Redis"
    )
  },
  shutdown: {
    timeout: positiveDuration("10 seconds", "what is left of a drain by then is terminated"),
    delay: duration(0, "time between readiness turning 503 and the first refusal, for load balancers to notice"),
    close_rate: integer(4000, "connections/s", "how fast a drain closes connections")
  },
  log: {
    level: Option.make(Schema.Literal("trace", "debug", "info", "warning", "error", "none"), "info", {
      kind: "text",
      doc: "least severe level that is logged",
      expected: "trace, debug, info, warning, error or none"
    }),
    format: Option.make(Schema.Literal("pretty", "json"), "pretty", {
      kind: "text",
      doc: "`pretty`: a line an entry, for people; `json`: an object a line; of the program's log, an embedding program has its own",
      expected: "pretty or json"
    })
  },
  telemetry: {
    service_name: Option.make(Schema.NonEmptyString, "fanfare", {
      kind: "text",
      doc: "the `service.name` of its traces",
      env: "OTEL_SERVICE_NAME"
    }),
    otlp: {
      endpoint: Option.make(Schema.UndefinedOr(Schema.String.pipe(Schema.filter(Otlp.isEndpoint))), undefined, {
        kind: "text",
        doc: "where traces are sent, as OTLP over HTTP in JSON, to `/v1/traces` below it; without it nothing is traced",
        expected: "an http:// or https:// URL without a user, such as http://localhost:4318",
        // One that is wrong may have a password in it.
        secret: true,
        env: "OTEL_EXPORTER_OTLP_ENDPOINT"
      }),
      headers: Option.make(
        Schema.UndefinedOr(
          Schema.Redacted(Schema.String.pipe(Schema.filter((text) => Otlp.parseHeaders(text) !== undefined)))
        ),
        undefined,
        {
          kind: "text",
          doc: "headers that are sent with them, `key=value,key2=value2`, values percent-encoded",
          expected: "key=value,key2=value2, with values percent-encoded",
          secret: true,
          env: "OTEL_EXPORTER_OTLP_HEADERS"
        }
      )
    },
    traces: {
      sample_ratio: Option.make(Schema.Number.pipe(Schema.between(0, 1)), 1, {
        kind: "number",
        doc: "share of the traces that begin here which are recorded; one that began elsewhere is recorded or not as was decided there",
        expected: "a number from 0 to 1"
      })
    }
  }
} as const

/** A complete configuration. */
export type Config = Option.Values<typeof options>

/** The configuration of this server. */
export class ServerConfig extends Context.Tag("fanfare/ServerConfig")<ServerConfig, Config>() {}

/** A configuration as it is written in a file or in code: any part of it, durations as text. */
export type Input = { readonly [key: string]: unknown }

/** A configuration, and what its owner should be told about it. */
export interface Loaded {
  readonly config: Config
  /** One line each: a variable that means nothing, a weak secret. */
  readonly warnings: ReadonlyArray<string>
}

/** What a configuration without a `channel` key opens. */
const openChannels = { without_namespace: Namespace.open, namespaces: [{ ...Namespace.open, name: "public" }] } as const

/** Whether the configuration says itself which channels there are. */
const opensNothing = (value: unknown): boolean => {
  const channel = Predicate.isRecord(value) ? value["channel"] : undefined
  return Predicate.isRecord(channel) && Object.keys(channel).join() !== "max_length"
}

const RESERVED = ["FANFARE_CONFIG"]

const contradictions = (config: Config): ConfigError | undefined => {
  // The position check is what keeps the place of a quiet channel from expiring.
  const shortest = Duration.times(config.client.channel_position_check_delay, 2)
  const at = (key: string, namespace: Namespace.Namespace): ConfigError | undefined => {
    const found = Namespace.contradiction(namespace, shortest)
    const value = found && namespace[found.key]
    return (
      found &&
      new ConfigError({
        message: `${key}.${found.key}: ${Duration.isDuration(value) ? Duration.format(value) : value} is not valid: expected ${found.expected}`
      })
    )
  }
  const { without_namespace, namespaces } = config.channel
  const found = at("channel.without_namespace", without_namespace)
  if (found !== undefined) return found
  const names = new Set<string>()
  for (const [index, namespace] of namespaces.entries()) {
    const key = `channel.namespaces[${index}]`
    if (!NAME.test(namespace.name)) {
      return new ConfigError({
        message: `${key}.name: ${JSON.stringify(namespace.name)} is not valid: expected two or more letters, digits, '_', '.' or '-'`
      })
    }
    if (names.has(namespace.name)) {
      return new ConfigError({
        message: `${key}.name: "${namespace.name}" is not valid: expected a name that is not taken`
      })
    }
    names.add(namespace.name)
    const inside = at(key, namespace)
    if (inside !== undefined) return inside
  }
  return undefined
}

/** Decodes a configuration. Fails with `ConfigError` on an unknown key, a wrong type or a contradiction. */
export const load = (
  file: Input,
  environment: Readonly<Record<string, string | undefined>> = {}
): Either.Either<Loaded, ConfigError> => {
  const { value, unknown } = overlay(options, file, environment, RESERVED)
  return Either.flatMap(decodeTree(options, value, ""), (decoded) => {
    const given = decoded as unknown as Config
    const config: Config = opensNothing(value) ? given : { ...given, channel: { ...given.channel, ...openChannels } }
    const wrong = contradictions(config)
    if (wrong !== undefined) return Either.left(wrong)
    return Either.right({
      config,
      warnings: [
        ...unknown.map((name) => `${name}: unknown variable, ignored`),
        ...TokenOptions.warnings(config.client.token)
      ]
    })
  })
}

/** Whether a client must present a token. */
export const requiresToken = (config: Config): boolean => {
  const { hmac_secret_key, rsa_public_key, ecdsa_public_key } = config.client.token
  return hmac_secret_key !== undefined || rsa_public_key !== undefined || ecdsa_public_key !== undefined
}

/** The configuration of an embedded server. Warnings are logged; the environment is not read. */
export const layer = (input: Input = {}): Layer.Layer<ServerConfig, ConfigError> =>
  Layer.effect(
    ServerConfig,
    Effect.gen(function* () {
      const { config, warnings } = yield* load(input)
      yield* Effect.forEach(warnings, (warning) => Effect.logWarning(warning), { discard: true })
      return config
    })
  )

/** Checks a channel name against `channel.max_length`. */
export const parseChannel = (config: Config, name: string): Either.Either<string, Channel.Malformed> =>
  Channel.parse(name, config.channel.max_length)
