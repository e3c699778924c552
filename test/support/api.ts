/** The server API over HTTP; every request and every reply is held against `/openapi.json`. */
import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js"
import * as Effect from "effect/Effect"
import { STATUS_CODES } from "node:http"
import * as Http from "./http.ts"
import type { Json } from "./json.ts"

export const KEY = "a-very-secret-key"

/** The configuration that turns the server API on. */
export const keyed = { http_api: { key: KEY } }

export interface Answer {
  readonly status: number
  /** Parsed. */
  readonly body: Json
  /** As it came. */
  readonly text: string
}

/** What a test wants to be told about a call that is not what the document describes. */
export interface Options {
  /** The request is wrong on purpose: it has to be none that the document describes. */
  readonly malformed?: boolean
  readonly headers?: Record<string, string>
}

export interface Api {
  readonly specification: Json
  /** Calls a method; the body is JSON text or a value. */
  readonly call: (method: string, body: unknown, options?: Options) => Effect.Effect<Answer, Error>
  /** The result of a call that is answered with one. */
  readonly result: (method: string, body: unknown) => Effect.Effect<Json, Error>
  /** The code of a call that is refused, with its status. */
  readonly refusal: (
    method: string,
    body: unknown,
    options?: Options
  ) => Effect.Effect<readonly [number, number], Error>
  /** Holds any answer against the document. */
  readonly check: (verb: string, path: string, answer: Http.Response) => void
}

const pointer = (...parts: ReadonlyArray<string>): string =>
  parts.map((part) => encodeURIComponent(part.replaceAll("~", "~0").replaceAll("/", "~1"))).join("/")

/** Reads the document of a server, and calls its methods by it. */
export const make = (origin: string): Effect.Effect<Api, Error> =>
  Effect.gen(function* () {
    const document = yield* Http.send(`${origin}/openapi.json`)
    if (document.status !== 200) return yield* Effect.fail(new Error(`/openapi.json answers ${document.status}`))
    const specification = JSON.parse(document.body)
    const ajv = new Ajv2020({ strict: false, allErrors: true })
    ajv.addSchema(specification, "openapi")
    const compiled = new Map<string, ValidateFunction>()
    const validator = (at: string): ValidateFunction => {
      const known = compiled.get(at) ?? ajv.compile({ $ref: `openapi#/${at}` })
      compiled.set(at, known)
      return known
    }
    const problems = (at: string, value: unknown): string | undefined => {
      const validate = validator(at)
      return validate(value) ? undefined : ajv.errorsText(validate.errors)
    }

    const check = (verb: string, path: string, answer: Http.Response): void => {
      const responses = specification.paths[path]?.[verb]?.responses
      const response = responses?.[answer.status]
      const told = `${verb} ${path} answers ${answer.status} ${STATUS_CODES[answer.status]}: ${answer.body.slice(0, 500)}`
      if (response === undefined) throw new Error(`${told}\nnot a documented status`)
      const [type] = Object.keys(response.content)
      if (answer.headers["content-type"] !== type) {
        throw new Error(`${told}\nof type ${answer.headers["content-type"]}, documented: ${type}`)
      }
      const value = type === "application/json" ? JSON.parse(answer.body) : answer.body
      const at = pointer("paths", path, verb, "responses", String(answer.status), "content", type ?? "", "schema")
      const wrong = problems(at, value)
      if (wrong !== undefined) throw new Error(`${told}\nnot as documented: ${wrong}`)
    }

    const call = (method: string, body: unknown, { headers, malformed }: Options = {}) =>
      Effect.gen(function* () {
        const text = typeof body === "string" ? body : JSON.stringify(body)
        const path = `/api/${method}`
        if (malformed !== true) {
          const at = pointer("paths", path, "post", "requestBody", "content", "application/json", "schema")
          const wrong = problems(at, JSON.parse(text))
          if (wrong !== undefined) throw new Error(`the body of ${path} is not as documented: ${wrong}`)
        }
        const answer = yield* Http.send(origin + path, {
          method: "POST",
          headers: { "Content-Type": "application/json", "X-API-Key": KEY, ...headers },
          body: text
        })
        check("post", path, answer)
        return { status: answer.status, body: JSON.parse(answer.body), text: answer.body }
      })

    return {
      specification,
      call,
      check,
      result: (method, body) =>
        Effect.map(call(method, body), ({ body, text }) => {
          if (body.result === undefined) throw new Error(`${method} has no result: ${text}`)
          return body.result
        }),
      refusal: (method, body, options) =>
        Effect.map(call(method, body, options), ({ body, status, text }) => {
          if (body.error === undefined) throw new Error(`${method} is not refused: ${text}`)
          return [status, body.error.code] as const
        })
    }
  })
