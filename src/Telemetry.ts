/**
 * Exports traces over OTLP/HTTP, where `telemetry.otlp.endpoint` is set.
 *
 * The exporter keeps at most a batch of 1,000 spans and `IN_FLIGHT` more that
 * are under way; while the collector does not take them they are dropped. That
 * is said once when it begins and once when it ends, and disturbs nothing else.
 */
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import { randomBytes } from "node:crypto"
import { parseHeaders } from "./config/Otlp.ts"
import { monotonic } from "./internal/clock.ts"
import * as Instance from "./Instance.ts"
import * as ServerConfig from "./ServerConfig.ts"
import { version } from "./version.ts"

/** Batches that are under way to the collector, at most; one more is dropped. */
const IN_FLIGHT = 4
/** What the collector has to answer. */
const EXPORT_TIMEOUT = Duration.seconds(5)
/** A collector that takes spans now and then may refuse one of them: it is asked again. */
const RETRY = { times: 2, schedule: Schedule.spaced(Duration.seconds(1)) }
/** How often spans are sent, unless a batch is full earlier. */
const EXPORT_INTERVAL = Duration.seconds(5)
/** The log does not say that a collector keeps up again before nothing has been dropped for so long. */
const KEEPS_UP_AFTER = Duration.seconds(30)
/** What the last spans have when the server ends. */
const FLUSH_TIMEOUT = Duration.seconds(1)

// ── Sampling ─────────────────────────────────────────────────────────────────

/** A span that is not recorded; its children are not either. */
class Unsampled implements Tracer.Span {
  readonly _tag = "Span"
  readonly name: string
  readonly traceId: string
  readonly spanId = randomBytes(8).toString("hex")
  readonly parent: Option.Option<Tracer.AnySpan>
  readonly context: Context.Context<never>
  readonly attributes: ReadonlyMap<string, unknown> = new Map()
  readonly links: ReadonlyArray<Tracer.SpanLink> = []
  readonly sampled = false
  readonly kind: Tracer.SpanKind
  status: Tracer.SpanStatus

  constructor(
    name: string,
    parent: Option.Option<Tracer.AnySpan>,
    context: Context.Context<never>,
    startTime: bigint,
    kind: Tracer.SpanKind
  ) {
    this.name = name
    this.parent = parent
    this.traceId = Option.isSome(parent) ? parent.value.traceId : randomBytes(16).toString("hex")
    this.context = context
    this.kind = kind
    this.status = { _tag: "Started", startTime }
  }

  end(endTime: bigint, exit: Parameters<Tracer.Span["end"]>[1]): void {
    this.status = { _tag: "Ended", startTime: this.status.startTime, endTime, exit }
  }

  attribute(): void {}

  event(): void {}

  addLinks(): void {}
}

const TRACE_ID = /^(?!0{32})[\da-f]{32}$/
const SPAN_ID = /^(?!0{16})[\da-f]{16}$/

/** What a header says is taken as it is by the platform; a collector would refuse the batch that a malformed id is in. */
const isValid = ({ _tag, spanId, traceId }: Tracer.AnySpan): boolean =>
  _tag === "Span" || (TRACE_ID.test(traceId) && SPAN_ID.test(spanId))

/** Records a share of the traces that begin here; one that has begun elsewhere is recorded or not as was decided there. */
export const sampling = (tracer: Tracer.Tracer, ratio: number): Tracer.Tracer =>
  Tracer.make({
    span: (name, given, context, links, startTime, kind, options) => {
      const parent = Option.filter(given, isValid)
      const isSampled = Option.isSome(parent) ? parent.value.sampled : Math.random() < ratio
      return isSampled
        ? tracer.span(name, parent, context, links, startTime, kind, options)
        : new Unsampled(name, parent, context, startTime, kind)
    },
    context: (run, fiber) => tracer.context(run, fiber)
  })

// ── Export ───────────────────────────────────────────────────────────────────

const OVERFLOW = "it does not keep up"

/**
 * A client whose requests always succeed: bounded in time and number, and what
 * becomes of them is told in the log. The exporter on it would repeat a failed
 * one, however many there are, and give up for a minute.
 */
const patient = (client: HttpClient.HttpClient, where: string): HttpClient.HttpClient => {
  let inFlight = 0
  let isFailing = false
  let overflowedAt = -Infinity

  const settled = (problem: string | undefined): Effect.Effect<void> =>
    Effect.flatMap(monotonic, (now) => {
      if (problem === OVERFLOW) overflowedAt = now
      if (problem === undefined && now - overflowedAt < Duration.toMillis(KEEPS_UP_AFTER)) return Effect.void
      const wasFailing = isFailing
      isFailing = problem !== undefined
      if (wasFailing === isFailing) return Effect.void
      return problem === undefined
        ? Effect.logInfo(`traces are exported to ${where} again`)
        : Effect.logWarning(`traces are not exported to ${where}, and dropped: ${problem}`)
    })

  return HttpClient.transform(client, (send, request) => {
    const done = HttpClientResponse.fromWeb(request, new Response(null, { status: 200 }))
    const attempt = send.pipe(
      // Read to its end, or the connection stays open.
      Effect.flatMap((response) => Effect.as(response.text, response.status)),
      Effect.mapError((error) => (error.cause instanceof Error ? error.cause.message : error.message)),
      Effect.filterOrFail(
        (status) => status >= 200 && status < 300,
        (status) => `it answered ${status}`
      ),
      Effect.timeoutFail({
        duration: EXPORT_TIMEOUT,
        onTimeout: () => `no answer within ${Duration.format(EXPORT_TIMEOUT)}`
      })
    )
    return Effect.suspend(() => {
      if (inFlight >= IN_FLIGHT) return Effect.as(settled(OVERFLOW), done)
      inFlight++
      return (isFailing ? attempt : Effect.retry(attempt, RETRY)).pipe(
        Effect.matchEffect({ onFailure: settled, onSuccess: () => settled(undefined) }),
        Effect.as(done),
        Effect.ensuring(Effect.sync(() => inFlight--))
      )
    })
  })
}

/** How Node says that a package is not installed: to `import`, and to the `require` of a bundle. */
const MISSING: ReadonlySet<unknown> = new Set(["ERR_MODULE_NOT_FOUND", "MODULE_NOT_FOUND"])

/** The exporter, which not everybody has or loads. */
const load = Effect.tryPromise({
  try: () => import("./Telemetry/Exporter.ts").then((module) => module.load().then((own) => ({ ...module, ...own }))),
  catch: (error) => {
    const isMissing = error instanceof Error && "code" in error && MISSING.has(error.code)
    const why = isMissing ? "npm install @effect/opentelemetry" : String(error)
    return new ServerConfig.ConfigError({
      message: `telemetry.otlp.endpoint: the package that exports traces cannot be loaded: ${why}`
    })
  }
})

const make = (
  endpoint: string
): Effect.Effect<
  Tracer.Tracer,
  ServerConfig.ConfigError,
  Scope.Scope | Instance.Instance | ServerConfig.ServerConfig
> =>
  Effect.gen(function* () {
    const { telemetry } = yield* ServerConfig.ServerConfig
    const { id } = yield* Instance.Instance
    const Exporter = yield* load
    const client = yield* Effect.map(Layer.build(Exporter.layerClient), Context.get(HttpClient.HttpClient))
    const { headers } = telemetry.otlp
    const tracer = yield* Exporter.make({
      url: `${endpoint.replace(/\/+$/, "")}/v1/traces`,
      resource: {
        serviceName: telemetry.service_name,
        serviceVersion: version,
        attributes: { "service.instance.id": id }
      },
      ...(headers === undefined ? {} : { headers: parseHeaders(Redacted.value(headers)) ?? {} }),
      exportInterval: EXPORT_INTERVAL,
      shutdownTimeout: FLUSH_TIMEOUT
    }).pipe(
      Effect.provideService(HttpClient.HttpClient, patient(client, new URL(endpoint).host)),
      Effect.provide(Exporter.layerJson)
    )
    return sampling(tracer, telemetry.traces.sample_ratio)
  })

// Each line of the log would go to the collector as an event of its span, with what clients have sent.
const withoutEvents = Logger.remove(Logger.tracerLogger)

/**
 * The tracer of everything that is built on it, where an endpoint is
 * configured; else the one that there is stays. Fails where the exporter is not
 * installed. Closing it sends what is left, for at most a second.
 */
export const layer: Layer.Layer<never, ServerConfig.ConfigError, Instance.Instance | ServerConfig.ServerConfig> =
  Layer.unwrapScoped(
    Effect.flatMap(ServerConfig.ServerConfig, ({ telemetry: { otlp } }) =>
      otlp.endpoint === undefined
        ? Effect.succeed(Layer.empty)
        : Effect.map(make(otlp.endpoint), (tracer) => Layer.merge(Layer.setTracer(tracer), withoutEvents))
    )
  )
