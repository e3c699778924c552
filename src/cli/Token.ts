/** `fanfare token`: a token for trying things out, by the configuration of the server. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import * as Auth from "../Auth.ts"
import * as Text from "../config/Duration.ts"
import * as ServerConfig from "../ServerConfig.ts"
import * as CommandLine from "./Arguments.ts"
import * as Output from "./Output.ts"

/** What the command line may be. */
export const HELP = `fanfare token [--user USER] [--ttl 1h] [--channel CHANNEL] [--info JSON] [--config FILE]

  prints a token, signed with client.token.hmac_secret_key of the configuration:
  of USER (of nobody without one), for a connection, or with CHANNEL for a
  subscription to it; INFO is shown to others`

/** The arguments after `token`. */
export interface Arguments extends Auth.Issued {
  readonly help: boolean
  /** The file of the configuration; where it is `undefined`, what the server would read then. */
  readonly config: string | undefined
}

const fail = (message: string): ServerConfig.ConfigError => new ServerConfig.ConfigError({ message })

const DEFAULT_TTL = "1h"

const decodeTtl = Schema.decodeUnknownEither(Text.FromText.pipe(Schema.greaterThanDuration(Duration.zero)))

/** Decodes the arguments. On the left, on one line: what is wrong with them. */
export const parse = (args: ReadonlyArray<string>): Either.Either<Arguments, ServerConfig.ConfigError> =>
  Either.gen(function* () {
    const values = yield* CommandLine.parse(args, {
      channel: { type: "string" },
      config: { type: "string" },
      help: { type: "boolean" },
      info: { type: "string" },
      ttl: { type: "string" },
      user: { type: "string" }
    })
    const { channel, config, help, info, ttl = DEFAULT_TTL, user } = values
    const duration = yield* Either.mapLeft(decodeTtl(ttl), () =>
      fail(`--ttl: ${JSON.stringify(ttl)} is not valid: expected a duration above 0, such as "1h"`)
    )
    return { user: user ?? "", ttl: duration, channel, info, help: help === true, config }
  })

/**
 * Prints a token on one line of stdout, and warnings of the configuration on
 * stderr. `load` reads the configuration. Fails, in words for stderr, where
 * arguments or configuration are wrong, or have no key to sign with.
 */
export const run = (
  args: ReadonlyArray<string>,
  load: (file: string | undefined) => Effect.Effect<ServerConfig.Loaded, ServerConfig.ConfigError>
): Effect.Effect<void, ServerConfig.ConfigError> =>
  Effect.gen(function* () {
    const options = yield* parse(args)
    if (options.help) return yield* Output.answer(HELP)
    const { config, warnings } = yield* load(options.config)
    const { channel } = options
    if (channel !== undefined) {
      yield* Either.mapLeft(ServerConfig.parseChannel(config, channel), (problem) => fail(`--channel: ${problem}`))
    }
    const token = yield* Effect.mapError(Auth.issue(config, options), ({ message }) => fail(message))
    for (const warning of warnings) Output.problem(`fanfare: ${warning}`)
    yield* Output.answer(token)
  })
