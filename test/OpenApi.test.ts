import { describe, expect } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { version } from "../src/version.ts"
import * as Api from "./support/api.ts"
import * as Browser from "./support/browser.ts"
import * as Http from "./support/http.ts"
import { live } from "./support/it.ts"
import * as Server from "./support/server.ts"
import { eventually } from "./support/wait.ts"
import type { Json } from "./support/json.ts"

const METHODS = [
  "publish",
  "broadcast",
  "subscribe",
  "unsubscribe",
  "disconnect",
  "refresh",
  "presence",
  "presence_stats",
  "history",
  "history_remove",
  "channels",
  "info",
  "rpc",
  "batch"
]

/** Every place of a document that refers to another one. */
const references = (value: unknown): ReadonlyArray<string> => {
  if (typeof value !== "object" || value === null) return []
  return Object.entries(value).flatMap(([key, inner]) =>
    key === "$ref" && typeof inner === "string" ? [inner] : references(inner)
  )
}

describe("/openapi.json", () => {
  live("describes every method, its key, and every status that it answers with", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: Api.keyed })
      const { specification } = yield* Api.make(server.http)
      expect([specification.openapi, specification.info]).toEqual(["3.1.0", { title: "Fanfare", version }])
      expect(specification.components.securitySchemes).toEqual({
        key: { type: "apiKey", in: "header", name: "X-API-Key", description: expect.any(String) },
        authorization: { type: "apiKey", in: "header", name: "Authorization", description: expect.any(String) }
      })
      const paths = Object.keys(specification.paths)
      expect(paths.filter((path) => path.startsWith("/api/"))).toEqual(METHODS.map((method) => `/api/${method}`))
      for (const method of METHODS) {
        const operation = specification.paths[`/api/${method}`].post
        expect(operation).toMatchObject({
          operationId: method,
          summary: expect.stringMatching(/./),
          description: expect.stringMatching(/./),
          security: [{ key: [] }, { authorization: [] }],
          requestBody: { required: true }
        })
        expect([method, Object.keys(operation.responses)]).toEqual([method, ["200", "400", "401", "404", "413"]])
        expect(operation.responses["400"].content).toEqual({
          "application/json": { schema: { $ref: "#/components/schemas/BadRequest" } }
        })
      }
      expect(paths.filter((path) => !path.startsWith("/api/"))).toEqual([
        "/health/live",
        "/health/ready",
        "/metrics",
        "/openapi.json",
        "/docs"
      ])
      const names = Object.keys(specification.components.schemas).map((name) => `#/components/schemas/${name}`)
      expect(references(specification).filter((name) => !names.includes(name))).toEqual([])
      expect(names.filter((name) => !references(specification).includes(name))).toEqual([])
      // Every field says what it is.
      for (const [name, schema] of Object.entries<Json>(specification.components.schemas)) {
        if (name === "BadRequest" || !/(Request|Result)$/.test(name)) continue
        for (const [field, { description }] of Object.entries<Json>(schema.properties ?? {})) {
          expect([name, field, description]).toEqual([name, field, expect.stringMatching(/./)])
        }
      }
    })
  )

  live("what it says of health, metrics and itself is what they answer", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: Api.keyed })
      const api = yield* Api.make(server.http)
      for (const path of ["/health/live", "/health/ready", "/metrics", "/openapi.json", "/docs"]) {
        api.check("get", path, yield* Http.send(server.http + path))
      }
    })
  )

  live("without a key: 404, as it is of the methods and of /docs", () =>
    Effect.gen(function* () {
      const on = yield* Api.make((yield* Server.start({ config: Api.keyed })).http)
      const off = yield* Server.start()
      for (const path of ["/openapi.json", "/docs"]) {
        const answer = yield* Http.send(off.http + path)
        expect(answer.status).toBe(404)
        on.check("get", path, answer)
      }
      for (const method of METHODS) {
        const answer = yield* Http.send(`${off.http}/api/${method}`, { method: "POST", body: "{}" })
        expect([method, answer.status]).toEqual([method, 404])
        on.check("post", `/api/${method}`, answer)
      }
    })
  )
})

describe("/docs", () => {
  live(
    "shows every method in a browser, and loads nothing from anywhere else",
    () =>
      Effect.gen(function* () {
        const server = yield* Server.start({ config: Api.keyed })
        const browser = yield* Browser.start()
        const errors: Array<string> = []
        const requested: Array<string> = []
        const page = yield* Effect.promise(async () => {
          const page = await browser.newPage()
          page.on("pageerror", (error) => errors.push(String(error)))
          const requests = page as unknown as {
            readonly on: (event: "request", listener: (request: { readonly url: () => string }) => void) => unknown
          }
          requests.on("request", (request) => requested.push(request.url()))
          await page.goto(`${server.http}/docs`)
          return page
        })
        const shown = yield* eventually(
          Effect.promise(() => page.locator(".opblock-summary-path").allTextContents()),
          (paths) => paths.length >= METHODS.length,
          "the page shows the methods"
        )
        const plain = new Set(shown.map((path) => path.replace(/\u200b/g, "")))
        expect(METHODS.filter((method) => !plain.has(`/api/${method}`))).toEqual([])
        expect(yield* Effect.promise(() => page.title())).toBe("Fanfare Documentation")
        const elsewhere = requested.filter((url) => !url.startsWith(server.http) && !url.startsWith("data:"))
        expect([elsewhere, errors]).toEqual([[], []])
      }),
    60_000
  )

  live("is the same page every time, also for those who ask at the same time, and for those who do not wait", () =>
    Effect.gen(function* () {
      // When exactly the first client has to leave for the page to be spoilt depends on the machine.
      for (let early = 0; early < 12; early++) {
        const server = yield* Server.start({ config: Api.keyed })
        for (const path of ["/docs", "/openapi.json"]) {
          yield* Effect.timeoutOption(Http.send(server.http + path), Duration.micros(BigInt(250 * early)))
          expect([path, early, (yield* Http.send(server.http + path)).status]).toEqual([path, early, 200])
        }
      }
      const server = yield* Server.start({ config: Api.keyed })
      const ask = Http.send(`${server.http}/docs`)
      const answers = yield* Effect.all([ask, ask, ask], { concurrency: "unbounded" })
      expect(new Set(answers.map(({ body }) => body)).size).toBe(1)
      expect(answers.map(({ status }) => status)).toEqual([200, 200, 200])
      // No script, style or image from another place, nor any of a path of its own.
      const [head = ""] = (answers[0]?.body ?? "").split("<script>", 1)
      expect(head).not.toMatch(/<(script|link|img)[^>]*\s(src|href)=/)
    })
  )
})
