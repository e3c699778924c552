/** The configurations that cases are played to: each for both servers, which have the same names for most of it. */
import type * as ServerConfig from "../../src/ServerConfig.ts"
import { KEY } from "../support/tokens.ts"
import { API_KEY, type Profile } from "./Case.ts"

const OPEN = {
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

const HISTORY = { history_size: 10, history_ttl: "300s" }
const ATTENDED = { presence: true, join_leave: true }

/** What a channel is for stands in its namespace. */
const namespaces = [
  { name: "fast", ...OPEN },
  { name: "kept", ...OPEN, ...HISTORY, force_recovery: true },
  { name: "asked", ...OPEN, ...HISTORY },
  { name: "placed", ...OPEN, ...HISTORY, force_positioning: true },
  { name: "seen", ...OPEN, ...ATTENDED, force_push_join_leave: true },
  { name: "shy", ...OPEN, ...ATTENDED },
  { name: "closed", ...HISTORY, ...ATTENDED },
  { name: "read", ...HISTORY, ...ATTENDED, allow_subscribe_for_client: true },
  { name: "member", ...HISTORY, ...ATTENDED, allow_subscribe_for_client: true, allow_publish_for_subscriber: true }
]

/** What the reference server needs beside it, so that who may read the history may ask for positions. */
const asThere = (namespace: object): object =>
  !("history_size" in namespace) ? namespace : { ...namespace, allow_positioning: true, allow_recovery: true }

const client: Readonly<Record<Profile, object>> = {
  /** Everybody connects, and tokens are verified. */
  open: { allow_anonymous_connect_without_token: true, token: { hmac_secret_key: KEY } },
  /** Nobody connects without a token. */
  strict: { token: { hmac_secret_key: KEY } },
  /** Limits that a case reaches. */
  narrow: {
    allow_anonymous_connect_without_token: true,
    channel_limit: 2,
    user_connection_limit: 1,
    stale_close_delay: "1s",
    expired_close_delay: "1s",
    history_max_publication_limit: 3,
    recovery_max_publication_limit: 3,
    token: { hmac_secret_key: KEY, audience: "them", issuer: "us" }
  }
}

export const profiles = Object.keys(client) as ReadonlyArray<Profile>

/** Fanfare's. */
export const ours = (profile: Profile): ServerConfig.Input => ({
  http_api: { key: API_KEY },
  client: client[profile],
  channel: { namespaces, without_namespace: OPEN }
})

/** The reference server's, as its file. */
export const theirs = (profile: Profile, port: number): object => ({
  http_server: { address: "127.0.0.1", port },
  http_api: { key: API_KEY },
  health: { enabled: true },
  usage_stats: { disabled: true },
  log: { level: "error" },
  // It looks for expired subscriptions when it refreshes presence.
  client: {
    ...client[profile],
    ...(profile === "narrow" ? { expired_sub_close_delay: "1s", presence_update_interval: "1s" } : {})
  },
  channel: { namespaces: namespaces.map(asThere), without_namespace: OPEN }
})
