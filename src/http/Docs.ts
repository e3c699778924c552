/** `/openapi.json` and `/docs`: the description of the server API, while there is one. */
import * as HttpApi from "@effect/platform/HttpApi"
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as HttpRouter from "@effect/platform/HttpRouter"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as OpenApi from "@effect/platform/OpenApi"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { once } from "../internal/once.ts"
import * as ServerConfig from "../ServerConfig.ts"
import * as Api from "./Api.ts"
import { noApi } from "./Authorization.ts"

/** The endpoints, with the prefix that their paths have here. */
const below = (prefix: string) =>
  prefix === "" ? Api.Api : Api.Api.annotateContext(OpenApi.annotations({ servers: [{ url: prefix }] }))

/**
 * The page, with everything that it needs in it: it works without any other
 * server. Imported when it is asked for the first time: that costs 115 ms and
 * 8 MB.
 */
const makePage = (prefix: string) =>
  Effect.gen(function* () {
    // The platform's own service wants it without the types of its groups, which it does not look at.
    const untyped = below(prefix) as unknown as Context.Tag.Service<HttpApi.Api>["api"]
    const Swagger = yield* Effect.promise(() => import("@effect/platform/HttpApiSwagger"))
    // It comes as a layer that adds a route; this router is for that route alone.
    const route = Layer.provideMerge(
      Layer.provide(Swagger.layer(), Layer.succeed(HttpApi.Api, { api: untyped, context: Context.empty() })),
      HttpApiBuilder.Router.Live
    )
    return yield* Effect.provide(Effect.flatMap(HttpApiBuilder.Router.router, HttpRouter.toHttpApp), route)
  })

/** The handlers of the group `docs`. */
export const layer = HttpApiBuilder.group(Api.Api, "docs", (handlers) =>
  Effect.gen(function* () {
    const { http_api, http_server } = yield* ServerConfig.ServerConfig
    const isOn = Effect.suspend(() => (http_api.key === undefined ? Effect.fail(noApi()) : Effect.void))
    const specification = yield* once(
      Effect.sync(() => JSON.stringify(OpenApi.fromApi(below(http_server.handler_prefix))))
    )
    const page = yield* once(makePage(http_server.handler_prefix))

    return handlers
      .handleRaw("specification", () =>
        Effect.zipRight(
          isOn,
          Effect.map(specification, (text) => HttpServerResponse.text(text, { contentType: "application/json" }))
        )
      )
      .handleRaw("docs", () => Effect.zipRight(isOn, Effect.orDie(Effect.flatten(page))))
  })
)
