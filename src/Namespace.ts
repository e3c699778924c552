/**
 * The options that the channels of a namespace share, and which options govern
 * a channel. Names of options are those that operators of Centrifugo know.
 */
import * as Duration from "effect/Duration"
import * as Schema from "effect/Schema"
import * as Channel from "./Channel.ts"
import * as Text from "./config/Duration.ts"
import * as Option from "./config/Option.ts"
import type * as History from "./History.ts"

const flag = (doc: string) => Option.make(Schema.Boolean, false, { kind: "boolean", doc })

/** The options of a namespace, with their defaults. */
export const options = {
  presence: flag("keep who is in a channel"),
  join_leave: flag("push joins and leaves to subscribers that ask for them and may read presence"),
  force_push_join_leave: flag("push joins and leaves to every subscriber"),
  history_size: Option.make(Schema.NonNegativeInt, 0, {
    kind: "number",
    unit: "publications",
    doc: "how many publications a channel keeps"
  }),
  history_ttl: Option.make(Text.FromText, Duration.zero, {
    kind: "text",
    doc: "how long a channel keeps them after the last one",
    expected: 'a duration such as "300s"'
  }),
  history_meta_ttl: Option.make(Text.FromText, Duration.hours(720), {
    kind: "text",
    doc: "how long a channel keeps the place in its stream after its last use; a client that is away for longer does not recover",
    expected: 'a duration such as "720h"'
  }),
  force_recovery: flag("every subscription recovers what it missed"),
  force_positioning: flag("every subscription is told of a gap"),
  allow_subscribe_for_client: flag("clients with a user may subscribe"),
  allow_subscribe_for_anonymous: flag("extends it to clients without a user"),
  allow_publish_for_subscriber: flag("subscribers may publish"),
  allow_publish_for_client: flag("clients with a user may publish, subscribed or not"),
  allow_publish_for_anonymous: flag("extends both to clients without a user"),
  allow_history_for_subscriber: flag("subscribers may read the history, and ask for recovery"),
  allow_history_for_client: flag("clients with a user may read the history, subscribed or not"),
  allow_history_for_anonymous: flag("extends both to clients without a user"),
  allow_presence_for_subscriber: flag("subscribers may read presence, and ask for joins and leaves"),
  allow_presence_for_client: flag("clients with a user may read presence, subscribed or not"),
  allow_presence_for_anonymous: flag("extends both to clients without a user")
} as const

/** The options that govern a channel. */
export type Namespace = Option.Values<typeof options>

/** Every option at its default: nobody may do anything. */
export const closed: Namespace = Option.defaults(options)

/** What anybody may use: the default of channels without a namespace and of the namespace `public`. */
export const open: Namespace = {
  ...closed,
  presence: true,
  join_leave: true,
  history_size: 100,
  history_ttl: Duration.seconds(300),
  force_recovery: true,
  allow_subscribe_for_client: true,
  allow_subscribe_for_anonymous: true,
  allow_publish_for_subscriber: true,
  allow_publish_for_client: true,
  allow_publish_for_anonymous: true,
  allow_history_for_subscriber: true,
  allow_history_for_client: true,
  allow_history_for_anonymous: true,
  allow_presence_for_subscriber: true,
  allow_presence_for_client: true,
  allow_presence_for_anonymous: true
}

/** All namespaces of a configuration. */
export interface Namespaces {
  readonly without_namespace: Namespace
  readonly namespaces: ReadonlyArray<Namespace & { readonly name: string }>
}

/** The options of a channel; `undefined` where its namespace is not configured. */
export const find = (all: Namespaces, channel: string): Namespace | undefined => {
  const name = Channel.namespace(channel)
  return name === undefined ? all.without_namespace : all.namespaces.find((one) => one.name === name)
}

/** What the stream of a channel keeps; `undefined` for a channel without history. */
export const retention = (all: Namespaces, channel: string): History.Retention | undefined => {
  const namespace = find(all, channel)
  return namespace === undefined || namespace.history_size === 0
    ? undefined
    : { size: namespace.history_size, ttl: namespace.history_ttl, metaTtl: namespace.history_meta_ttl }
}

/** The names of the configured namespaces, for messages. */
export const known = (all: Namespaces): string =>
  all.namespaces.length === 0 ? "none" : all.namespaces.map((one) => one.name).join(", ")

/** A contradiction between the options of one namespace: the option and what it lacks. `shortest`: of `history_meta_ttl`. */
export const contradiction = (
  namespace: Namespace,
  shortest: Duration.Duration
): { readonly key: keyof Namespace; readonly expected: string } | undefined => {
  const kept = namespace.history_size > 0 && Duration.greaterThan(namespace.history_ttl, Duration.zero)
  if (namespace.history_size > 0 && !kept) return { key: "history_size", expected: "history_ttl beside it" }
  if (Duration.greaterThan(namespace.history_ttl, Duration.zero) && !kept) {
    return { key: "history_ttl", expected: "history_size beside it" }
  }
  if (kept && Duration.lessThan(namespace.history_meta_ttl, namespace.history_ttl)) {
    return { key: "history_meta_ttl", expected: "history_ttl or more" }
  }
  if (kept && Duration.lessThan(namespace.history_meta_ttl, shortest)) {
    return { key: "history_meta_ttl", expected: "twice client.channel_position_check_delay or more" }
  }
  if (namespace.force_recovery && !kept)
    return { key: "force_recovery", expected: "history_size and history_ttl beside it" }
  if (namespace.force_push_join_leave && !namespace.join_leave) {
    return { key: "force_push_join_leave", expected: "join_leave beside it" }
  }
  if (namespace.force_positioning && !kept) {
    return { key: "force_positioning", expected: "history_size and history_ttl beside it" }
  }
  return undefined
}
