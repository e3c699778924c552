/** An OpenTelemetry collector of a test's own: takes traces over HTTP in JSON, and keeps them. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import type { Json } from "./json.ts"

export interface Span {
  readonly name: string
  /** As OTLP numbers them: 2 server, 3 client, 4 producer, 5 consumer. */
  readonly kind: number
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId: string | undefined
  readonly attributes: Readonly<Record<string, unknown>>
  /** The attributes of who made it. */
  readonly resource: Readonly<Record<string, unknown>>
}

export interface Collector {
  /** For `telemetry.otlp.endpoint`. */
  readonly endpoint: string
  /** What was exported so far, and the headers of each request. */
  readonly spans: ReadonlyArray<Span>
  readonly requests: ReadonlyArray<NodeJS.Dict<string | Array<string>>>
}

const record = (attributes: ReadonlyArray<{ readonly key: string; readonly value: object }>): Record<string, unknown> =>
  Object.fromEntries(attributes.map(({ key, value }) => [key, Object.values(value)[0]]))

const spansOf = (body: string): ReadonlyArray<Span> =>
  JSON.parse(body).resourceSpans.flatMap(({ resource, scopeSpans }: Json) =>
    scopeSpans.flatMap(({ spans }: Json) =>
      spans.map(({ attributes, kind, name, parentSpanId, spanId, traceId }: Json) => ({
        name,
        kind,
        traceId,
        spanId,
        parentSpanId,
        attributes: record(attributes),
        resource: record(resource.attributes)
      }))
    )
  )

/** Starts a collector; `status` is what it answers, `never`: nothing at all. */
export const start = (status: number | "never" = 200, port = 0): Effect.Effect<Collector, never, Scope.Scope> =>
  Effect.gen(function* () {
    const spans: Array<Span> = []
    const requests: Array<NodeJS.Dict<string | Array<string>>> = []
    const server = createServer((request, response) => {
      let body = ""
      request.setEncoding("utf8").on("data", (part: string) => {
        body += part
      })
      request.on("end", () => {
        requests.push(request.headers)
        if (request.method === "POST" && request.url === "/v1/traces") spans.push(...spansOf(body))
        if (status !== "never") response.writeHead(status).end("{}")
      })
    })
    yield* Effect.acquireRelease(
      Effect.async<void>((resume) => {
        server.listen(port, "127.0.0.1", () => resume(Effect.void))
      }),
      () =>
        Effect.async<void>((resume) => {
          server.close(() => resume(Effect.void))
          server.closeAllConnections()
        })
    )
    return { endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, spans, requests }
  })
