/**
 * Spans of what happens on the control paths: commands, requests, publishes and
 * the link to the broker; and one for each publication that an instance
 * delivers, a child of the span of its publish wherever that was.
 *
 * They are made by the tracer of the fiber, which `Telemetry` or the program
 * around the server has set. Where nobody has set one nothing is made: Effect's
 * own tracer keeps spans that nobody reads.
 */
import * as Context from "effect/Context"
import * as DefaultServices from "effect/DefaultServices"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"
import { Buffer } from "node:buffer"
import type { Publication } from "./protocol/Publication.ts"

const nobodys = Context.get(DefaultServices.liveServices, Tracer.Tracer)

const isOnIn = (fiber: Fiber.RuntimeFiber<unknown, unknown>): boolean =>
  fiber.currentTracer !== nobodys && fiber.getFiberRef(FiberRef.currentTracerEnabled)

/** Whether the spans of this fiber are of use to anybody. */
export const isOn: Effect.Effect<boolean> = Effect.withFiberRuntime((fiber) => Effect.succeed(isOnIn(fiber)))

type Attributes = Readonly<Record<string, unknown>>

/** What a span is; `root`: it begins a trace, whatever span the server was started in. */
export interface About {
  readonly kind?: Tracer.SpanKind
  readonly root?: boolean
  readonly attributes?: Attributes
}

/** Runs an effect in a span. What the span is, is asked for only where it is made. */
export const span =
  (name: string, about: () => About = () => ({})) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.withFiberRuntime<A, E, R>((fiber) =>
      isOnIn(fiber)
        ? Effect.useSpan(name, { ...about(), captureStackTrace: false }, (own) => Effect.withParentSpan(effect, own))
        : effect
    )

/** Adds attributes to the span that the fiber is in. */
export const annotate = (attributes: () => Attributes): Effect.Effect<void> =>
  Effect.withFiberRuntime((fiber) => {
    const current = fiber.currentSpan
    if (current?._tag === "Span" && isOnIn(fiber)) {
      for (const [key, value] of Object.entries(attributes())) current.attribute(key, value)
    }
    return Effect.void
  })

/** The attributes of messaging systems, as OpenTelemetry names them. */
const messaging = (operation: string, type: "send" | "process", channel: string, data: string): Attributes => ({
  "messaging.system": "fanfare",
  "messaging.operation.name": operation,
  "messaging.operation.type": type,
  "messaging.destination.name": channel,
  "messaging.message.body.size": Buffer.byteLength(data)
})

// ── The span of a publish, on its way to every instance ──────────────────────

/** https://www.w3.org/TR/trace-context/#traceparent-header, of a trace that is recorded. */
const TRACEPARENT = /^00-(?!0{32})([\da-f]{32})-(?!0{16})([\da-f]{16})-[\da-f][13579bdf]$/

/** Whether a text names a span of a trace that is recorded. */
export const isTraceparent = (text: unknown): text is string => typeof text === "string" && TRACEPARENT.test(text)

const traceparentOf = ({ sampled, spanId, traceId }: Tracer.Span): string | undefined => {
  const text = `00-${traceId}-${spanId}-01`
  return sampled && isTraceparent(text) ? text : undefined
}

const parentOf = (traceparent: string): Tracer.ExternalSpan | undefined => {
  const [, traceId, spanId] = TRACEPARENT.exec(traceparent) ?? []
  return traceId === undefined || spanId === undefined ? undefined : Tracer.externalSpan({ traceId, spanId })
}

/** Runs a publish in its span. Where that is recorded, the publication is to carry its `traceparent`. */
export const publish = <A, E, R>(
  channel: string,
  data: string,
  run: (traceparent: string | undefined) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.withFiberRuntime<A, E, R>((fiber) => {
    if (!isOnIn(fiber)) return run(undefined)
    const attributes = messaging("publish", "send", channel, data)
    return Effect.useSpan("publish", { kind: "producer", attributes, captureStackTrace: false }, (own) =>
      Effect.withParentSpan(run(traceparentOf(own)), own)
    )
  })

/** The spans of publications from their arrival until they are in the mailboxes. Neither waits nor throws. */
export interface Deliveries {
  /** A publication with a `traceparent` has come. */
  readonly begin: (channel: string, publication: Publication) => void
  /** It has been handed to so many subscribers. Without any of them, and where it has not begun, nothing is recorded. */
  readonly end: (publication: Publication, subscribers: number) => void
}

/** `undefined` where nothing is traced. */
export const deliveries: Effect.Effect<Deliveries | undefined> = Effect.gen(function* () {
  if (!(yield* isOn)) return undefined
  const tracer = yield* Effect.tracer
  const clock = yield* Effect.clock
  // What is never delivered is never recorded, and goes with its publication.
  const begun = new WeakMap<Publication, Tracer.Span>()
  return {
    begin: (channel, publication) => {
      const parent = publication.traceparent === undefined ? undefined : parentOf(publication.traceparent)
      if (parent === undefined) return
      const startedAt = clock.unsafeCurrentTimeNanos()
      const own = tracer.span("deliver", Option.some(parent), Context.empty(), [], startedAt, "consumer")
      const attributes = messaging("deliver", "process", channel, publication.data)
      for (const [key, value] of Object.entries(attributes)) own.attribute(key, value)
      begun.set(publication, own)
    },
    end: (publication, subscribers) => {
      const own = begun.get(publication)
      if (own === undefined || subscribers === 0) return
      begun.delete(publication)
      own.attribute("fanfare.subscribers", subscribers)
      own.end(clock.unsafeCurrentTimeNanos(), Exit.void)
    }
  }
})
