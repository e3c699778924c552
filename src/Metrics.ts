/**
 * What this server counts and measures: every metric, its labels and what it
 * means, in one place. The values are in a registry of Effect's, one for each
 * server of a process; `/metrics` shows it. docs/metrics.md says what to make of
 * them.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as MetricRegistry from "effect/MetricRegistry"
import { type Counter, each, Instruments, known, OTHER } from "./Metrics/Instruments.ts"
import * as Process from "./Metrics/Process.ts"
import * as Codes from "./protocol/Codes.ts"
import { version } from "./version.ts"

const DROP_REASONS = ["mailbox_full", "connection_closed", "undecodable", "gap"] as const

/** Why a publication was not put in a connection's mailbox, or did not reach the hub. */
export type DropReason = (typeof DROP_REASONS)[number]

const INSUFFICIENCIES = ["overflow", "gap"] as const

/** Why a positioned subscription was ended: its mailbox was full, or this instance has missed something for good. */
export type Insufficiency = (typeof INSUFFICIENCIES)[number]

const REFUSAL_REASONS = [
  "origin",
  "host",
  "path",
  "channel",
  "permission",
  "token",
  "connection_limit",
  "draining",
  "broker",
  "handshake"
] as const

/** Why a connection was not let in. */
export type RefusalReason = (typeof REFUSAL_REASONS)[number]

/** Bounds at which something is refused, or cut, that no other metric tells of. */
const LIMITS = ["channels", "publication_size", "publishes_in_flight", "reply_size"] as const

const BROKER_STATES = ["live", "degraded", "resyncing"] as const

/** Why Redis refuses a command: its codes, in small letters. */
export const REFUSAL_KINDS = [
  "oom",
  "noperm",
  "misconf",
  "noreplicas",
  "readonly",
  "masterdown",
  "loading",
  "busy",
  "moved",
  "ask",
  "crossslot",
  "clusterdown",
  "noauth",
  "wrongtype",
  "err"
] as const

/** The commands of the client protocol. */
const COMMANDS = [
  "connect",
  "subscribe",
  "unsubscribe",
  "publish",
  "history",
  "presence",
  "presence_stats",
  "refresh",
  "sub_refresh",
  "rpc",
  "send",
  "ping"
] as const

/** The methods of the server API. */
const API_METHODS = [
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
] as const

const CODES = Object.values(Codes)
  .flatMap((one) => (typeof one === "object" && "code" in one ? [one.code] : []))
  .concat(Codes.protocolErrors)
  .toSorted((one, other) => one - other)

/** The codes of errors in replies, as they are of this protocol; hooks may have others. */
const ERROR_CODES = CODES.filter((code) => code < 1000)

/** The codes with which the server closes; hooks and the server API may have others. */
const DISCONNECT_CODES = CODES.filter((code) => code >= 3000 || (code >= 1000 && code < 2000))

/** The code of a request of the server API that was answered without an error. */
export const NO_ERROR = 0

const define = (of: Instruments) => {
  const api = (labels: Readonly<Record<string, string>>): Counter =>
    of.counter("fanfare_api_requests_total", "Requests of the server API, by the error code of the answer.", labels)

  of.gauge("fanfare_build_info", "1, with the version and what it runs on.", {
    version,
    runtime: Process.runtime.name,
    runtime_version: Process.runtime.version
  }).set(1)
  of.gauge("process_start_time_seconds", "When the process started, in Unix seconds.").set(Process.startedAt)

  return {
    // ── Clients ────────────────────────────────────────────────────────────
    connections: each("kind", ["protocol", "plain"], (labels) =>
      of.gauge("fanfare_connections", "Open connections.", labels)
    ),
    connectionsOpened: of.counter("fanfare_connections_opened_total", "Connections ever opened."),
    connectionsBlocked: of.gauge("fanfare_connections_blocked", "Connections whose sockets take no more at present."),
    mailboxFrames: of.gauge("fanfare_mailbox_frames", "Frames that wait in the mailboxes of open connections."),
    mailboxBytes: of.gauge("fanfare_mailbox_bytes", "Bytes that wait in the mailboxes of open connections."),
    subscriptions: of.gauge("fanfare_subscriptions", "Subscriptions of open connections."),
    channels: of.gauge("fanfare_channels", "Channels with local subscribers."),
    refused: each("reason", REFUSAL_REASONS, (labels) =>
      of.counter("fanfare_refused_total", "Upgrades refused.", labels)
    ),
    disconnects: known("code", DISCONNECT_CODES, (labels) =>
      of.counter("fanfare_disconnects_total", "Disconnects begun by the server, by close code.", labels)
    ),

    // ── Commands ───────────────────────────────────────────────────────────
    framesReceived: of.counter("fanfare_frames_received_total", "Frames received from clients."),
    commands: known("method", COMMANDS, (labels) =>
      of.counter("fanfare_commands_total", "Commands received in the client protocol.", labels)
    ),
    errors: known("code", ERROR_CODES, (labels) =>
      of.counter("fanfare_errors_total", "Commands answered with an error, by its code.", labels)
    ),
    apiRequests: known("method", API_METHODS, (method) => {
      // Each method with each code would be too many series to begin with.
      api({ ...method, code: String(NO_ERROR) })
      return (code: number): Counter =>
        api({ ...method, code: code === NO_ERROR || ERROR_CODES.includes(code) ? String(code) : OTHER })
    }),

    // ── Messages ───────────────────────────────────────────────────────────
    published: of.counter("fanfare_published_total", "Publications accepted by the broker from this instance."),
    publishFailed: of.counter(
      "fanfare_publish_failed_total",
      "Publications not accepted, or of which that is unknown."
    ),
    received: of.counter("fanfare_received_total", "Publications received from the broker."),
    deliveries: of.counter("fanfare_deliveries_total", "Publications queued for subscribers."),
    dropped: each("reason", DROP_REASONS, (labels) =>
      of.counter("fanfare_dropped_total", "Publications that a subscriber did not get.", labels)
    ),
    holes: of.counter("fanfare_holes_total", "Times that something was found missing in a channel with history."),
    healed: of.counter("fanfare_healed_total", "Missing publications that were read from history."),
    gaps: of.counter("fanfare_gaps_total", "Times that what was missing was not in history any more."),
    recoveries: each("result", ["recovered", "unrecovered"], (labels) =>
      of.counter("fanfare_recoveries_total", "Subscriptions that asked for recovery.", labels)
    ),
    insufficient: each("reason", INSUFFICIENCIES, (labels) =>
      of.counter(
        "fanfare_insufficient_total",
        "Positioned subscriptions that were told that they miss something.",
        labels
      )
    ),
    attendanceLost: of.counter(
      "fanfare_attendance_lost_total",
      "Joins and leaves not accepted by the broker, or of which that is unknown."
    ),

    // ── Bounds ─────────────────────────────────────────────────────────────
    pauses: each("of", ["connection", "broker"], (labels) =>
      of.counter("fanfare_pauses_total", "Times that no more was read, because an inbox was full.", labels)
    ),
    limits: each("limit", LIMITS, (labels) =>
      of.counter("fanfare_limits_total", "Times that something was refused or cut at a bound.", labels)
    ),

    // ── Latency ────────────────────────────────────────────────────────────
    publishDuration: each("result", ["accepted", "failed"], (labels) =>
      of.histogram("fanfare_publish_duration_seconds", "From a publish to the broker's answer.", labels)
    ),
    deliveryDuration: of.histogram(
      "fanfare_delivery_duration_seconds",
      "From the arrival of publications at this instance until they were written or queued for all of its subscribers."
    ),
    eventLoopDelay: of.histogram(
      "fanfare_event_loop_delay_seconds",
      "How much later than it was due a timer was called, ten times a second."
    ),

    // ── Broker ─────────────────────────────────────────────────────────────
    brokerState: each("state", BROKER_STATES, (labels) =>
      of.gauge("fanfare_broker_state", "1 for the state that the broker is in.", labels)
    ),
    brokerLinkLosses: of.counter("fanfare_broker_link_losses_total", "Times the link to the broker was lost."),
    brokerOutageSeconds: of.counter(
      "fanfare_broker_outage_seconds_total",
      "Time without a live broker, in outages that have ended."
    ),
    brokerRefusals: known("kind", REFUSAL_KINDS, (labels) =>
      of.counter("fanfare_broker_refusals_total", "Commands that Redis refused, by the code of its answer.", labels)
    ),
    outageChannels: of.counter(
      "fanfare_broker_outage_channels_total",
      "Channels without history with subscribers, over all outages: what was published meanwhile is lost."
    ),

    // ── Process ────────────────────────────────────────────────────────────
    cpuSeconds: of.counter("process_cpu_seconds_total", "Processor time of the process, user and system."),
    residentBytes: of.gauge("process_resident_memory_bytes", "Memory of the process."),
    heapBytes: of.gauge("process_heap_bytes", "JavaScript heap in use.")
  }
}

/** The metrics; whoever sees an event counts it. */
export class Metrics extends Context.Tag("fanfare/Metrics")<
  Metrics,
  ReturnType<typeof define> & {
    /** Where the values are. Those that are read only when `/metrics` is asked for are as old as the last time. */
    readonly registry: MetricRegistry.MetricRegistry
  }
>() {}

/** Metrics at zero, in a registry of their own. */
export const make = (): Context.Tag.Service<Metrics> => {
  const registry = MetricRegistry.make()
  return { ...define(new Instruments(registry)), registry }
}

/** How often the event loop is looked at. */
const LOOP_INTERVAL = Duration.millis(100)

/** How much later than it was due this fiber goes on after a sleep is how long the event loop was busy with something else. */
const watchLoop = ({ eventLoopDelay }: Context.Tag.Service<Metrics>): Effect.Effect<never> =>
  Effect.gen(function* () {
    const asleep = yield* Clock.currentTimeNanos
    yield* Effect.sleep(LOOP_INTERVAL)
    const late = Number((yield* Clock.currentTimeNanos) - asleep) / 1e9 - Duration.toSeconds(LOOP_INTERVAL)
    eventLoopDelay.observe(Math.max(0, late))
  }).pipe(Effect.forever)

/** Metrics of one server. */
export const layer: Layer.Layer<Metrics> = Layer.scoped(
  Metrics,
  Effect.tap(Effect.sync(make), (metrics) => Effect.forkScoped(watchLoop(metrics)))
)
