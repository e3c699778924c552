/** Who may use the server API: whoever has the key. Asked before a body is read. */
import * as HttpApiMiddleware from "@effect/platform/HttpApiMiddleware"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpApiSecurity from "@effect/platform/HttpApiSecurity"
import * as OpenApi from "@effect/platform/OpenApi"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { createHash, timingSafeEqual } from "node:crypto"
import * as Codes from "../protocol/Codes.ts"
import * as Metrics from "../Metrics.ts"
import * as ServerConfig from "../ServerConfig.ts"
import * as Reply from "./schema/Reply.ts"

const header = (key: string, description: string) =>
  HttpApiSecurity.annotateContext(HttpApiSecurity.apiKey({ key }), OpenApi.annotations({ description }))

/** Asks for the key, in either header. */
export class Authorization extends HttpApiMiddleware.Tag<Authorization>()("fanfare/http/Authorization", {
  failure: Schema.Union(Reply.NoApi, Reply.Unauthorized),
  security: {
    key: header("X-API-Key", "the value of `http_api.key`"),
    authorization: header("Authorization", "`apikey ` and the value of `http_api.key`")
  }
}) {}

/** The server API is off. */
export const noApi = (): Reply.NoApi =>
  new Reply.NoApi({
    error: { code: Codes.notAvailable.code, message: "the server API is off: http_api.key is not set" }
  })

const unauthorized = (): Reply.Unauthorized => new Reply.Unauthorized({ error: Codes.unauthorized })

const digest = (text: string): Uint8Array => createHash("sha256").update(text).digest()

/** Compares in a time that does not depend on where the texts differ. */
const isSame = (expected: Redacted.Redacted, given: string): boolean =>
  timingSafeEqual(digest(Redacted.value(expected)), digest(given))

const bare = (authorization: string): string => /^apikey (.+)$/i.exec(authorization)?.[1] ?? ""

/** Whether a request has the key. */
export const hasKey = (
  { http_api }: ServerConfig.Config,
  headers: Readonly<Record<string, string | undefined>>
): boolean => {
  const { authorization = "", "x-api-key": key = "" } = headers
  return http_api.key !== undefined && (isSame(http_api.key, key) || isSame(http_api.key, bare(authorization)))
}

/** Asks for `http_api.key`. */
export const layer: Layer.Layer<Authorization, never, Metrics.Metrics | ServerConfig.ServerConfig> = Layer.effect(
  Authorization,
  Effect.gen(function* () {
    const { http_api } = yield* ServerConfig.ServerConfig
    const metrics = yield* Metrics.Metrics
    const check = (given: string): Effect.Effect<void, Reply.NoApi | Reply.Unauthorized> => {
      if (http_api.key === undefined) return Effect.fail(noApi())
      return isSame(http_api.key, given) ? Effect.void : Effect.fail(unauthorized())
    }
    const tell = ({ error }: Reply.NoApi | Reply.Unauthorized) =>
      Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ url }) => {
        const method = /^\/api\/([^?]*)/.exec(url)?.[1] ?? ""
        metrics.apiRequests(method)(error.code).add()
        return Effect.logDebug(`refused ${url.split("?", 1)[0]}: ${error.message}`)
      })
    return Authorization.of({
      key: (given) => check(Redacted.value(given)),
      // Asked last, where the other header has not done: what it refuses is refused.
      authorization: (given) => Effect.tapError(check(bare(Redacted.value(given))), tell)
    })
  })
)
