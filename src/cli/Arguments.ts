/** The options of a command line. */
import * as Either from "effect/Either"
import { parseArgs } from "node:util"
import * as ServerConfig from "../ServerConfig.ts"

/** The options that a command has, by name. */
export interface Options {
  readonly [name: string]: { readonly type: "string" | "boolean" }
}

/** The values of those that are given. */
export type Values<O extends Options> = {
  readonly [K in keyof O]?: O[K]["type"] extends "string" ? string : boolean
}

/** Reads arguments. On the left, on one line: what is wrong with them. An option that is given twice is. */
export const parse = <O extends Options>(
  args: ReadonlyArray<string>,
  options: O
): Either.Either<Values<O>, ServerConfig.ConfigError> =>
  Either.flatMap(
    Either.try({
      try: () => parseArgs({ args: [...args], options, tokens: true }),
      // Node breaks some of them into lines.
      catch: (error) =>
        new ServerConfig.ConfigError({
          message: (error instanceof Error ? error.message : String(error)).replaceAll(/\s+/g, " ")
        })
    }),
    ({ tokens, values }) => {
      const names = tokens.flatMap((token) => (token.kind === "option" ? [token.name] : []))
      const twice = names.find((name, index) => names.indexOf(name) !== index)
      return twice === undefined
        ? Either.right(values as Values<O>)
        : Either.left(new ServerConfig.ConfigError({ message: `--${twice}: is given twice: expected it once` }))
    }
  )
