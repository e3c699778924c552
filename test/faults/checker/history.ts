/**
 * What a run has recorded: the publishers' log, the subscribers' logs, the
 * faults. All times are milliseconds of one monotonic clock.
 */

/** A place in a stream. */
export interface Position {
  readonly epoch: string
  readonly offset: number
}

/** How a publish ended, for its publisher. */
export type Outcome =
  | { readonly type: "acknowledged"; readonly at: number; readonly position?: Position }
  /** A time-out, a broken connection: it may have been accepted, or may be yet. */
  | { readonly type: "unknown"; readonly at: number }
  /** It was not accepted, and never will be. */
  | { readonly type: "refused"; readonly at: number }

/** One publication, by its publisher. */
export interface Published {
  /** In no other publication. */
  readonly id: string
  readonly channel: string
  /** When it was sent first. */
  readonly at: number
  readonly outcome: Outcome
  /** The connection on which it was sent and its place among what was sent there; none where each goes a way of its own. */
  readonly sent?: { readonly connection: string; readonly number: number }
}

/**
 * What a subscription is promised:
 * - `recoverable`: every publication, also those while it was away, or a signal.
 * - `positioned`: every publication for as long as it is subscribed, or a signal; it has positions.
 * - `plain`: the same on a plain socket, which has no positions.
 * - `lossy`: at most once, in order.
 */
export type Promised = "recoverable" | "positioned" | "plain" | "lossy"

/** One event of a subscription, by its subscriber. */
export type Event =
  /** It is subscribed from now on, at `position` where it has one; `recovered` where it asked for what it missed. */
  | { readonly type: "subscribed"; readonly at: number; readonly position?: Position; readonly recovered?: boolean }
  | { readonly type: "received"; readonly at: number; readonly id: string; readonly offset?: number }
  /** It is not subscribed any more: a close code, an unsubscribe code, or 1 for a lost connection. */
  | { readonly type: "interrupted"; readonly at: number; readonly code: number }

/** The log of one subscription. */
export interface Subscriber {
  readonly client: string
  readonly channel: string
  readonly promised: Promised
  readonly events: ReadonlyArray<Event>
}

/** What tells a subscriber that it misses something. */
export type Signal = "unrecovered" | "2500" | "3008" | "3010"

/** What was done to the system. */
export interface Fault {
  readonly kind: string
  readonly from: number
  readonly to: number
  /** Signals that may come of it. */
  readonly explains: ReadonlyArray<Signal>
  /** The broker may have lost what it had accepted, and what it knew of idempotency keys. */
  readonly losesData: boolean
  /** Publications may be dropped in channels without history. */
  readonly drops: boolean
}

/** Everything that is known of a run. */
export interface History {
  readonly published: ReadonlyArray<Published>
  readonly subscribers: ReadonlyArray<Subscriber>
  readonly faults: ReadonlyArray<Fault>
  /** By channel: a publication that was acknowledged once all faults were over, so that everybody has to get it. */
  readonly last: ReadonlyMap<string, string>
}

/** What must not be. */
export type Kind =
  | "invention"
  | "wrong channel"
  | "refused but delivered"
  | "duplicate"
  | "order"
  | "gap"
  | "lost"
  | "position"
  | "needless signal"
  | "not live"
  | "not up to date"

export interface Violation {
  readonly kind: Kind
  readonly channel: string
  /** Absent where it is about a channel, not about one subscriber. */
  readonly client?: string
  readonly at: number
  readonly message: string
}
