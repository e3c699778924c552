/**
 * What this server counts, and how it is shown in Prometheus's text format.
 * Counters are plain numbers, one set for each server of a process: a delivery
 * costs an addition.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

/** Why a publication was not put in a connection's mailbox, or did not reach the hub. */
export type DropReason = "mailbox_full" | "connection_closed" | "undecodable" | "gap"

/** Why a positioned subscription was ended: its mailbox was full, or this instance has missed something for good. */
export type Insufficiency = "overflow" | "gap"

/** Why a connection was not let in, or a command not carried out. */
export type RefusalReason =
  | "origin"
  | "host"
  | "path"
  | "channel"
  | "permission"
  | "token"
  | "connection_limit"
  | "draining"
  | "broker"
  | "handshake"

/** The counters; whoever sees the event adds to them. */
export class Metrics extends Context.Tag("fanfare/Metrics")<
  Metrics,
  {
    /** Connections that are open now, by kind. */
    readonly connections: Record<"protocol" | "plain", number>
    /** Connections ever opened. */
    connectionsOpened: number
    /** Subscriptions of local connections now. */
    subscriptions: number
    /** Channels with local subscribers now. */
    channels: number
    /** Frames received from clients. */
    framesReceived: number
    /** Publications accepted by the broker from this instance. */
    published: number
    /** Publications that the broker did not accept, or of which that is unknown. */
    publishFailed: number
    /** Publications received from the broker. */
    received: number
    /** Publications put in mailboxes or written, one for each subscriber. */
    deliveries: number
    /** Publications dropped, one for each subscriber that did not get it. */
    readonly dropped: Record<DropReason, number>
    /** Times that something was found missing in a channel with history. */
    holes: number
    /** Publications that were missing and were read from history. */
    healed: number
    /** Times that what was missing was not in history any more. */
    gaps: number
    /** Subscriptions that asked for recovery, by what came of it. */
    readonly recoveries: Record<"recovered" | "unrecovered", number>
    /** Positioned subscriptions that were told that they miss something, by why. */
    readonly insufficient: Record<Insufficiency, number>
    /** Channels without history that had subscribers when the broker's link came back, over all outages. */
    outageChannels: number
    /** Joins and leaves that the broker did not accept, or of which that is unknown. */
    attendanceLost: number
    /** Upgrades refused. */
    readonly refused: Partial<Record<RefusalReason, number>>
    /** Disconnects that the server began, by close code. */
    readonly disconnects: Map<number, number>
    /** Times the broker's link was lost. */
    brokerLinkLosses: number
    /** Seconds without a live broker, over all outages that have ended. */
    brokerOutageSeconds: number
  }
>() {}

/** Counters at zero. */
export const make = (): Context.Tag.Service<Metrics> => ({
  connections: { protocol: 0, plain: 0 },
  connectionsOpened: 0,
  subscriptions: 0,
  channels: 0,
  framesReceived: 0,
  published: 0,
  publishFailed: 0,
  received: 0,
  deliveries: 0,
  dropped: { mailbox_full: 0, connection_closed: 0, undecodable: 0, gap: 0 },
  holes: 0,
  healed: 0,
  gaps: 0,
  recoveries: { recovered: 0, unrecovered: 0 },
  insufficient: { overflow: 0, gap: 0 },
  outageChannels: 0,
  attendanceLost: 0,
  refused: {},
  disconnects: new Map(),
  brokerLinkLosses: 0,
  brokerOutageSeconds: 0
})

/** Counters of one server. */
export const layer: Layer.Layer<Metrics> = Layer.effect(Metrics, Effect.sync(make))

/** Counts a refused upgrade. */
export const countRefusal = (metrics: Context.Tag.Service<Metrics>, reason: RefusalReason): void => {
  metrics.refused[reason] = (metrics.refused[reason] ?? 0) + 1
}

/** Counts a disconnect that the server began. */
export const countDisconnect = (metrics: Context.Tag.Service<Metrics>, code: number): void => {
  metrics.disconnects.set(code, (metrics.disconnects.get(code) ?? 0) + 1)
}

type Sample = readonly [labels: string, value: number]

const family = (name: string, type: "counter" | "gauge", help: string, samples: ReadonlyArray<Sample>): string =>
  `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${samples.map(([labels, value]) => `${name}${labels} ${value}\n`).join("")}`

const by = (label: string, counts: Iterable<readonly [string | number, number]>): ReadonlyArray<Sample> =>
  Array.from(counts, ([key, value]) => [`{${label}="${key}"}`, value] as const)

const BROKER_STATES = ["Live", "Degraded", "Resyncing"] as const

/** The counters in Prometheus's text format, version 0.0.4. */
export const render = (metrics: Context.Tag.Service<Metrics>, brokerState: (typeof BROKER_STATES)[number]): string =>
  [
    family("fanfare_connections", "gauge", "Open connections.", by("kind", Object.entries(metrics.connections))),
    family("fanfare_connections_opened_total", "counter", "Connections ever opened.", [
      ["", metrics.connectionsOpened]
    ]),
    family("fanfare_subscriptions", "gauge", "Subscriptions of open connections.", [["", metrics.subscriptions]]),
    family("fanfare_channels", "gauge", "Channels with local subscribers.", [["", metrics.channels]]),
    family("fanfare_frames_received_total", "counter", "Frames received from clients.", [["", metrics.framesReceived]]),
    family("fanfare_published_total", "counter", "Publications accepted by the broker from this instance.", [
      ["", metrics.published]
    ]),
    family("fanfare_publish_failed_total", "counter", "Publications not accepted, or of which that is unknown.", [
      ["", metrics.publishFailed]
    ]),
    family("fanfare_received_total", "counter", "Publications received from the broker.", [["", metrics.received]]),
    family("fanfare_deliveries_total", "counter", "Publications queued for subscribers.", [["", metrics.deliveries]]),
    family(
      "fanfare_dropped_total",
      "counter",
      "Publications that a subscriber did not get.",
      by("reason", Object.entries(metrics.dropped))
    ),
    family("fanfare_holes_total", "counter", "Times that something was found missing in a channel with history.", [
      ["", metrics.holes]
    ]),
    family("fanfare_healed_total", "counter", "Missing publications that were read from history.", [
      ["", metrics.healed]
    ]),
    family("fanfare_gaps_total", "counter", "Times that what was missing was not in history any more.", [
      ["", metrics.gaps]
    ]),
    family(
      "fanfare_recoveries_total",
      "counter",
      "Subscriptions that asked for recovery.",
      by("result", Object.entries(metrics.recoveries))
    ),
    family(
      "fanfare_insufficient_total",
      "counter",
      "Positioned subscriptions that were told that they miss something.",
      by("reason", Object.entries(metrics.insufficient))
    ),
    family(
      "fanfare_broker_outage_channels_total",
      "counter",
      "Channels without history with subscribers, over all outages: what was published meanwhile is lost.",
      [["", metrics.outageChannels]]
    ),
    family(
      "fanfare_attendance_lost_total",
      "counter",
      "Joins and leaves not accepted by the broker, or of which that is unknown.",
      [["", metrics.attendanceLost]]
    ),
    family("fanfare_refused_total", "counter", "Upgrades refused.", by("reason", Object.entries(metrics.refused))),
    family("fanfare_disconnects_total", "counter", "Disconnects begun by the server.", by("code", metrics.disconnects)),
    family(
      "fanfare_broker_state",
      "gauge",
      "1 for the state that the broker is in.",
      by(
        "state",
        BROKER_STATES.map((state) => [state.toLowerCase(), state === brokerState ? 1 : 0])
      )
    ),
    family("fanfare_broker_link_losses_total", "counter", "Times the link to the broker was lost.", [
      ["", metrics.brokerLinkLosses]
    ]),
    family(
      "fanfare_broker_outage_seconds_total",
      "counter",
      "Time without a live broker, in outages that have ended.",
      [["", metrics.brokerOutageSeconds]]
    )
  ].join("")
