/** The faults of a chaos run: how long each lasts, and what may come of it. */
import type { Signal } from "./checker/history.ts"

export interface Kind {
  /** Of the faults of one track there is one at a time. */
  readonly track: "redis" | "nodes" | "clients"
  /** Milliseconds, at least and at most. */
  readonly lasts: readonly [least: number, most: number]
  /** Signals that it explains. Redis or a link that is away explains none: what was missed is read and delivered. */
  readonly explains: ReadonlyArray<Signal>
  /** The broker may lose what it had accepted, and idempotency keys. */
  readonly losesData?: true
  /** Nothing is dropped by it in channels without history. */
  readonly dropsNothing?: true
}

/** The stream is another one, or may have lost its end. */
const NEW_EPOCH: ReadonlyArray<Signal> = ["unrecovered", "2500", "3010"]

/** A client takes its bytes more slowly than they come. */
const SLOW: ReadonlyArray<Signal> = ["2500", "3008"]

const MOMENT = [0, 0] as const

export const kinds = {
  "redis-restart": { track: "redis", lasts: [100, 2500], explains: NEW_EPOCH, losesData: true },
  "redis-empty": { track: "redis", lasts: [100, 2500], explains: NEW_EPOCH, losesData: true },
  "redis-flush": { track: "redis", lasts: MOMENT, explains: NEW_EPOCH, losesData: true },
  "redis-failover": { track: "redis", lasts: MOMENT, explains: NEW_EPOCH, losesData: true },
  "redis-promote": { track: "redis", lasts: MOMENT, explains: NEW_EPOCH, losesData: true },
  "redis-freeze": { track: "redis", lasts: [300, 4000], explains: [] },
  "redis-sleep": { track: "redis", lasts: [300, 3000], explains: [] },
  "redis-pause": { track: "redis", lasts: [300, 3000], explains: [] },
  "redis-clients": { track: "redis", lasts: MOMENT, explains: [] },
  // Where history may not be read, what is missing cannot be had; where `INFO` is not permitted, no restart can be seen.
  "redis-acl": { track: "redis", lasts: [500, 3000], explains: NEW_EPOCH },
  "redis-memory": { track: "redis", lasts: [500, 3000], explains: [] },
  "redis-output": { track: "redis", lasts: [1500, 3000], explains: [] },
  "redis-scripts": { track: "redis", lasts: MOMENT, explains: [], dropsNothing: true },
  "link-cut": { track: "redis", lasts: MOMENT, explains: [] },
  "link-reset": { track: "redis", lasts: MOMENT, explains: [] },
  "link-silence": { track: "redis", lasts: [500, 4000], explains: [] },
  "link-oneway": { track: "redis", lasts: [500, 4000], explains: [] },
  "link-delay": { track: "redis", lasts: [1000, 4000], explains: [] },
  "link-throttle": { track: "redis", lasts: [1000, 3000], explains: [] },
  "node-kill": { track: "nodes", lasts: [200, 2000], explains: [] },
  "node-terminate": { track: "nodes", lasts: [200, 2000], explains: [] },
  "node-freeze": { track: "nodes", lasts: [300, 4000], explains: [] },
  "client-cut": { track: "clients", lasts: MOMENT, explains: [] },
  "client-reset": { track: "clients", lasts: MOMENT, explains: [] },
  "client-silence": { track: "clients", lasts: [500, 4000], explains: SLOW },
  "client-oneway": { track: "clients", lasts: [500, 4000], explains: SLOW },
  "client-delay": { track: "clients", lasts: [500, 3000], explains: SLOW },
  "client-throttle": { track: "clients", lasts: [1000, 4000], explains: SLOW },
  "client-freeze": { track: "clients", lasts: [300, 3000], explains: SLOW }
} as const satisfies Record<string, Kind>

export type Name = keyof typeof kinds

export const names = Object.keys(kinds) as ReadonlyArray<Name>

export const kindOf = (name: Name): Kind => kinds[name]
