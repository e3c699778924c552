import { describe, expect } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Api from "./support/api.ts"
import * as Collector from "./support/collector.ts"
import * as Http from "./support/http.ts"
import { live } from "./support/it.ts"
import * as Program from "./support/program.ts"
import * as Redis from "./support/redis.ts"
import * as Sdk from "./support/sdk.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"
import type { Json } from "./support/json.ts"
import { noting } from "./support/tracer.ts"

const TRACE = "0af7651916cd43dd8448eb211c80319c"
const PARENT = "b7ad6b7169203331"

const tracing = ({ endpoint }: Collector.Collector, more: object = {}) => ({
  telemetry: { otlp: { endpoint }, ...more }
})

const named = (spans: ReadonlyArray<Collector.Span>, name: string): Collector.Span => {
  const found = spans.filter((span) => span.name === name)
  expect(found.length, `${name} among ${spans.map((span) => span.name).join(", ")}`).toBe(1)
  return found[0] as Collector.Span
}

/** What a server answers to a publish by its API with a `traceparent`. */
const publish = (http: string, traceparent?: string) =>
  Http.send(`${http}/api/publish`, {
    method: "POST",
    headers: { "X-API-Key": Api.KEY, ...(traceparent === undefined ? {} : { traceparent }) },
    body: '{"channel":"public:a","data":{"n":1}}'
  })

const plain = ({ ws }: Pick<Server.Running, "ws">) => Socket.open(`${ws}/channels/public:a`)

describe("Traces", () => {
  live(
    "of a publish go through two instances: each that has subscribers records one span below that of the publish",
    () =>
      Effect.gen(function* () {
        const collector = yield* Collector.start()
        const { url } = yield* Redis.start()
        yield* Effect.gen(function* () {
          const config = { ...tracing(collector, { service_name: "chat" }), redis_url: url }
          const one = yield* Server.start({ config })
          const other = yield* Server.start({ config })
          const idle = yield* Server.start({ config })
          const readers = yield* Effect.all([plain(one), plain(other), plain(other)])
          const writer = yield* plain(one)
          writer.send('{"n":1}')
          for (const reader of readers) yield* reader.count(1)
          expect(yield* Effect.map(Http.metrics(idle.http), (all) => all["fanfare_connections_opened_total"])).toBe(0)
        }).pipe(Effect.scoped)
        const { spans } = collector
        const command = named(spans, "command.publish")
        const published = named(spans, "publish")
        const delivered = spans.filter(({ name }) => name === "deliver")
        expect(command).toMatchObject({ kind: 2, parentSpanId: undefined })
        expect(command.attributes["fanfare.client"]).toMatch(/^[\da-f-]{36}$/)
        expect(published).toMatchObject({
          kind: 4,
          traceId: command.traceId,
          parentSpanId: command.spanId,
          attributes: {
            "messaging.system": "fanfare",
            "messaging.operation.name": "publish",
            "messaging.destination.name": "public:a"
          },
          resource: { "service.name": "chat" }
        })
        expect(delivered.map(({ attributes }) => attributes["fanfare.subscribers"]).toSorted()).toEqual([2, 2])
        for (const span of delivered) {
          expect(span).toMatchObject({ kind: 5, traceId: published.traceId, parentSpanId: published.spanId })
        }
        const instances = delivered.map(({ resource }) => resource["service.instance.id"])
        expect(new Set(instances).size).toBe(2)
        expect(instances).toContain(published.resource["service.instance.id"])
        expect(spans.filter(({ name }) => name === "broker.connect").length).toBe(3)
        expect(spans.filter(({ name }) => name === "resync").length).toBe(3)
      })
  )

  live("of a client's commands begin with the command, and nothing is recorded for what is read from history", () =>
    Effect.gen(function* () {
      const collector = yield* Collector.start()
      yield* Effect.gen(function* () {
        const server = yield* Server.start({ config: tracing(collector) })
        const client = yield* Sdk.connect(server.ws)
        const subscription = yield* Sdk.subscribe(client, "public:a")
        const heard = yield* plain(server)
        yield* Effect.promise(() => subscription.publish({ n: 1 }))
        yield* heard.count(1)
        const late = yield* Socket.open(`${server.ws}/channels/public:a?history=1`)
        yield* late.count(1)
        yield* Effect.promise(() => subscription.history({ limit: 1 }))
        yield* Effect.promise(() => client.publish("nobodys:a", 1).catch(() => undefined))
      }).pipe(Effect.scoped)
      const { spans } = collector
      const commands = spans.filter(
        ({ name, attributes }) => name === "command.publish" && attributes["error.type"] === undefined
      )
      expect(commands.length).toBe(1)
      expect(named(spans, "publish")).toMatchObject({
        traceId: commands[0]?.traceId,
        parentSpanId: commands[0]?.spanId
      })
      expect(named(spans, "deliver")).toMatchObject({ traceId: commands[0]?.traceId })
      expect(named(spans, "command.history").attributes["messaging.destination.name"]).toBe("public:a")
      expect(named(spans, "command.subscribe").parentSpanId).toBe(undefined)
      expect(spans.filter(({ name }) => name === "command.connect").length).toBe(3)
      const refused = spans.find(({ attributes }) => attributes["error.type"] !== undefined)
      expect(refused).toMatchObject({ name: "command.publish", attributes: { "error.type": "102" } })
    })
  )

  live(
    "of the server API go on with the caller's; probes and scrapes have none; the exporter's requests have none",
    () =>
      Effect.gen(function* () {
        const collector = yield* Collector.start()
        yield* Effect.gen(function* () {
          const server = yield* Server.start({
            config: {
              ...Api.keyed,
              telemetry: { otlp: { endpoint: `${collector.endpoint}/`, headers: "x-token=a%20b" } }
            }
          })
          const reader = yield* plain(server)
          yield* publish(server.http, `00-${TRACE}-${PARENT}-01`)
          yield* reader.count(1)
          for (const path of ["/metrics", "/health/live", "/", "/api/nothing"]) yield* Http.send(server.http + path)
        }).pipe(Effect.scoped)
        const { requests, spans } = collector
        const request = named(spans, "POST /api/publish")
        const published = named(spans, "publish")
        expect(request).toMatchObject({ kind: 2, traceId: TRACE, parentSpanId: PARENT })
        expect(published).toMatchObject({ traceId: TRACE, parentSpanId: request.spanId })
        expect(named(spans, "deliver")).toMatchObject({ traceId: TRACE, parentSpanId: published.spanId })
        expect(spans.map(({ name }) => name).toSorted()).toEqual([
          "POST /api/publish",
          "command.connect",
          "deliver",
          "publish"
        ])
        expect(JSON.stringify(spans)).not.toContain(Api.KEY)
        expect(requests.map((headers) => headers["x-token"])).toEqual(["a b"])
      })
  )

  live("that begin here are recorded by their share; a decision that was made elsewhere is kept", () =>
    Effect.gen(function* () {
      const collector = yield* Collector.start()
      const run = (sample_ratio: number, traceparents: ReadonlyArray<string | undefined>) =>
        Effect.gen(function* () {
          const config = { ...Api.keyed, ...tracing(collector, { traces: { sample_ratio } }) }
          const server = yield* Server.start({ config })
          const reader = yield* plain(server)
          for (const traceparent of traceparents) yield* publish(server.http, traceparent)
          yield* reader.count(traceparents.length)
        }).pipe(Effect.scoped)
      yield* run(0, [undefined, `00-${TRACE}-${PARENT}-00`])
      expect(collector.requests).toEqual([])
      yield* run(0, [undefined, `00-${TRACE}-${PARENT}-01`])
      const kept = collector.spans.map(({ name, traceId }) => [name, traceId])
      expect(kept.toSorted()).toEqual([
        ["POST /api/publish", TRACE],
        ["deliver", TRACE],
        ["publish", TRACE]
      ])
      yield* run(1, [`00-${TRACE}-${PARENT}-00`])
      expect(collector.spans.slice(3).map(({ name }) => name)).toEqual(["command.connect"])
    })
  )

  live("of strangers are none, ids that are none are no parents, and a name longer than any is not recorded", () =>
    Effect.gen(function* () {
      const collector = yield* Collector.start()
      yield* Effect.gen(function* () {
        const server = yield* Server.start({ config: { ...tracing(collector), ...Api.keyed } })
        const post = (headers: Readonly<Record<string, string>>) =>
          Http.send(`${server.http}/api/info`, { method: "POST", headers, body: "{}" })
        expect((yield* post({ b3: "a-b", "X-API-Key": "guessed" })).status).toBe(401)
        expect((yield* post({ b3: "a-b", "X-API-Key": Api.KEY })).status).toBe(200)
        const client = yield* Socket.open(`${server.ws}/connection/websocket`)
        client.send('{"id":1,"connect":{}}')
        yield* client.count(1)
        client.send(`{"id":2,"subscribe":{"channel":"${"x".repeat(60_000)}"}}`)
        yield* client.count(2)
      }).pipe(Effect.scoped)
      const request = named(collector.spans, "POST /api/info")
      expect(request.traceId).toMatch(/^[\da-f]{32}$/)
      expect(request.parentSpanId).toBe(undefined)
      expect(named(collector.spans, "command.subscribe").attributes["messaging.destination.name"]).toBe(undefined)
    })
  )

  live("without an endpoint there are none, and nothing in what instances send each other", () =>
    Effect.gen(function* () {
      const { url, ...redis } = yield* Redis.start()
      const server = yield* Server.start({ config: { redis_url: url, ...Api.keyed } })
      const heard: Array<string> = []
      const client = yield* Redis.client(redis)
      client.on("message", (_, envelope: string) => heard.push(envelope))
      yield* Effect.promise(() => client.subscribe("fanfare:pub:public:a"))
      const reader = yield* plain(server)
      yield* publish(server.http, `00-${TRACE}-${PARENT}-01`)
      yield* Effect.withSpan(server.publisher.publish("public:a", 2), "nobody reads it")
      yield* reader.count(2)
      yield* Effect.promise(() => client.ping())
      const publications = heard.filter((envelope) => !envelope.includes('"kind"'))
      expect(publications.length).toBe(2)
      for (const envelope of publications) expect(envelope).not.toContain("trace")
    })
  )

  live("are made by the tracer of the program around the server, if it has one", () =>
    Effect.gen(function* () {
      const { names, tracer: own } = yield* noting
      const server = yield* Server.start({ layer: Layer.setTracer(own) })
      const reader = yield* plain(server)
      yield* server.publisher.publish("public:a", 1).pipe(Effect.withTracer(own))
      yield* reader.count(1)
      expect(names).toEqual(["command.connect", "publish", "deliver"])
    })
  )
})

describe("A collector that takes nothing", () => {
  const cases: ReadonlyArray<readonly [string, Effect.Effect<string, never, Json>]> = [
    ["is not there", Effect.map(Redis.freePort, (port) => `http://127.0.0.1:${port}`)],
    ["never answers", Effect.map(Collector.start("never"), ({ endpoint }) => endpoint)],
    ["refuses", Effect.map(Collector.start(503), ({ endpoint }) => endpoint)]
  ]
  for (const [how, endpoint] of cases) {
    live(`and ${how} disturbs nothing, and does not hold the end up`, () =>
      Effect.gen(function* () {
        const program = yield* Program.start({ env: { OTEL_EXPORTER_OTLP_ENDPOINT: yield* endpoint } })
        const socket = yield* plain(program)
        for (let n = 0; n < 5; n++) socket.send(String(n))
        yield* socket.count(5)
        const asked = yield* Clock.currentTimeMillis
        program.signal("SIGTERM")
        expect(yield* program.exit).toEqual({ code: 0, signal: null })
        expect((yield* Clock.currentTimeMillis) - asked).toBeLessThan(4000)
      })
    )
  }

  live("is told of once, and once more when it takes them again", () =>
    Effect.gen(function* () {
      const port = yield* Redis.freePort
      const program = yield* Program.start({ env: { OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}` } })
      const socket = yield* plain(program)
      socket.send("1")
      yield* program.says(`traces are not exported to 127.0.0.1:${port}, and dropped: connect ECONNREFUSED`)
      const collector = yield* Collector.start(200, port)
      socket.send("2")
      yield* program.says(`traces are exported to 127.0.0.1:${port} again`)
      expect(program.output().split("traces are not exported").length).toBe(2)
      // What was dropped is gone.
      expect(collector.spans.map(({ name }) => name)).toEqual(["publish", "command.publish", "deliver"])
    })
  )
})
