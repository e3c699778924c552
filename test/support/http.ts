/** HTTP requests that leave no socket behind. */
import * as Effect from "effect/Effect"
import { request } from "node:http"

export interface Response {
  readonly status: number
  readonly headers: NodeJS.Dict<string | Array<string>>
  readonly body: string
}

export interface Options {
  readonly method?: string
  readonly headers?: Record<string, string>
  readonly body?: string
}

/** Sends a request on a connection of its own. */
export const send = (url: string, options: Options = {}): Effect.Effect<Response, Error> =>
  Effect.async((resume) => {
    const outgoing = request(
      url,
      { agent: false, method: options.method ?? "GET", headers: options.headers ?? {} },
      (incoming) => {
        let body = ""
        incoming.setEncoding("utf8")
        incoming.on("data", (part: string) => {
          body += part
        })
        incoming.on("end", () =>
          resume(Effect.succeed({ status: incoming.statusCode ?? 0, headers: incoming.headers, body }))
        )
        incoming.on("error", (error) => resume(Effect.fail(error)))
      }
    )
    outgoing.on("error", (error) => resume(Effect.fail(error)))
    outgoing.end(options.body)
    return Effect.sync(() => outgoing.destroy())
  })

/** The samples of `/metrics`, by name with labels. */
export const metrics = (origin: string): Effect.Effect<Readonly<Record<string, number>>, Error> =>
  Effect.map(send(`${origin}/metrics`), ({ body }) =>
    Object.fromEntries(
      body
        .split("\n")
        .filter((line) => line !== "" && !line.startsWith("#"))
        .map((line) => {
          const space = line.lastIndexOf(" ")
          return [line.slice(0, space), Number(line.slice(space + 1))] as const
        })
    )
  )
