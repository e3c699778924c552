/** How the program writes its log: an entry a line for people, or one of JSON for what collects logs. */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as FiberRef from "effect/FiberRef"
import * as FiberRefs from "effect/FiberRefs"
import * as HashMap from "effect/HashMap"
import * as Inspectable from "effect/Inspectable"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"
import * as Output from "./cli/Output.ts"
import type * as ServerConfig from "./ServerConfig.ts"

type Config = ServerConfig.Config["log"]

const LEVELS: Record<Config["level"], LogLevel.LogLevel> = {
  trace: LogLevel.Trace,
  debug: LogLevel.Debug,
  info: LogLevel.Info,
  warning: LogLevel.Warning,
  error: LogLevel.Error,
  none: LogLevel.None
}

const partsOf = (message: unknown): ReadonlyArray<string> =>
  (Array.isArray(message) ? message : [message]).map((part) => Inspectable.toStringUnknown(part, 0))

const causeOf = (cause: Cause.Cause<unknown>): string | undefined =>
  Cause.isEmpty(cause) ? undefined : Cause.pretty(cause, { renderErrorCause: true })

/** In one order, which a hash map does not have. */
const sorted = (annotations: HashMap.HashMap<string, unknown>): ReadonlyArray<readonly [string, unknown]> =>
  HashMap.toEntries(annotations).toSorted(([one], [other]) => (one < other ? -1 : 1))

/** What ends a line for some reader, or moves the cursor of a terminal. */
const CONTROL = /[\p{Cc}\p{Zl}\p{Zp}]+/gu

// Text of a client may stand in it: it must not look like an entry of its own.
const onOneLine = (text: string): string => text.replace(CONTROL, " ")

const indented = (text: string): string =>
  text
    .split(/\r\n|\r|\n/)
    .map(onOneLine)
    .join("\n  ")

const isWord = (text: string): boolean => /^[\p{L}\p{N}_.:@/+-]+$/u.test(text)

const valueOf = (value: unknown): string => {
  const text = Inspectable.toStringUnknown(value, 0)
  return isWord(text) ? text : onOneLine(JSON.stringify(text))
}

/**
 * `log.format: pretty`. One line an entry: time, level, message, annotations;
 * behind it the cause, if there is one, whose further lines are indented. An
 * annotation that the message quotes is not said again.
 */
export const pretty: Logger.Logger<unknown, string> = Logger.make(({ annotations, cause, date, logLevel, message }) => {
  const text = partsOf(message).map(onOneLine).join(" ")
  const about = sorted(annotations)
    .filter(([, value]) => typeof value !== "string" || !text.includes(onOneLine(JSON.stringify(value))))
    .map(([key, value]) => `${onOneLine(key)}=${valueOf(value)}`)
  const why = causeOf(cause)
  return [
    date.toISOString(),
    logLevel.label.padEnd(5),
    text,
    ...about,
    ...(why === undefined ? [] : [indented(why)])
  ].join(" ")
})

/** JSON text on one line, for readers too that take more than a line feed for the end of one. */
const toJson = (value: string | number | boolean): string =>
  JSON.stringify(value).replace(
    /[\u007f-\u009f\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`
  )

const scalar = (value: unknown): string | number | boolean =>
  typeof value === "boolean" || (typeof value === "number" && Number.isFinite(value))
    ? value
    : Inspectable.toStringUnknown(value, 0)

/** What an annotation is called whose name is taken. */
const RENAMED = "annotation_"

/**
 * `log.format: json`. One object a line: `time`, `level`, `message`, `cause`
 * where there is one, `trace_id` and `span_id` within a span, and each
 * annotation under its own name, or behind `annotation_` where that is taken.
 */
export const json: Logger.Logger<unknown, string> = Logger.make(
  ({ annotations, cause, context, date, logLevel, message }) => {
    const why = causeOf(cause)
    const span = Context.getOption(FiberRefs.getOrDefault(context, FiberRef.currentContext), Tracer.ParentSpan)
    const members = new Map<string, string | number | boolean>([
      ["time", date.toISOString()],
      // As `log.level` calls them.
      ["level", logLevel._tag.toLowerCase()],
      ["message", partsOf(message).join(" ")]
    ])
    const add = (name: string, value: unknown): void => {
      if (members.has(name) || name === "cause" || name === "trace_id" || name === "span_id") {
        add(`${RENAMED}${name}`, value)
      } else {
        members.set(name, scalar(value))
      }
    }
    for (const [key, value] of sorted(annotations)) add(key, value)
    if (why !== undefined) members.set("cause", why)
    // A span of a disabled tracer is none.
    if (Option.isSome(span) && span.value.traceId !== "noop") {
      members.set("trace_id", span.value.traceId)
      members.set("span_id", span.value.spanId)
    }
    return `{${Array.from(members, ([name, value]) => `${toJson(name)}:${toJson(value)}`).join(",")}}`
  }
)

const FORMATS: Record<Config["format"], Logger.Logger<unknown, string>> = { pretty, json }

/** The program's logger, on standard output, and without it where that cannot be written. */
export const layer = ({ format, level }: Config): Layer.Layer<never> =>
  Layer.merge(
    Logger.replace(Logger.defaultLogger, Logger.map(FORMATS[format], Output.log)),
    Logger.minimumLogLevel(LEVELS[level])
  )
