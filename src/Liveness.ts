/**
 * What a connection is given time for: to introduce itself, to take what is
 * written, to answer a ping. It has no timer of its own: one sweep looks at all
 * connections. Times are in milliseconds of the monotonic
 * clock.
 */
import * as Duration from "effect/Duration"
import * as Codes from "./protocol/Codes.ts"
import type * as ServerConfig from "./ServerConfig.ts"

/** Why a connection has to end; `detail` is for the log. */
export interface Late {
  readonly disconnect: Codes.Disconnect
  readonly detail: string
}

/** The deadlines of one connection. */
export class Liveness {
  readonly #config: ServerConfig.Config["client"]
  #openedAt = 0
  #nextPing = 0
  #pingedAt: number | undefined
  #blockedSince: number | undefined

  constructor(config: ServerConfig.Config["client"]) {
    this.#config = config
  }

  /** The connection begins; pings of connections that begin together are spread. */
  begin(now: number): void {
    this.#openedAt = now
    this.#nextPing = now + Math.random() * Duration.toMillis(this.#config.ping_interval)
  }

  /** The peer has answered a ping. */
  answered(): void {
    this.#pingedAt = undefined
  }

  /** The socket has taken everything: when it takes nothing the next time, that begins then. */
  drained(): void {
    this.#blockedSince = undefined
  }

  /** Whether the peer takes nothing, or does not introduce itself (`overdue`: how that ends), for too long. */
  late(now: number, isBlocked: boolean, overdue: Codes.Disconnect | undefined): Late | undefined {
    const { stale_close_delay, write_timeout } = this.#config
    if (isBlocked) {
      this.#blockedSince ??= now
      if (now - this.#blockedSince >= Duration.toMillis(write_timeout)) {
        return { disconnect: Codes.slow, detail: `took nothing for ${Duration.format(write_timeout)}` }
      }
    }
    return overdue !== undefined && now - this.#openedAt >= Duration.toMillis(stale_close_delay)
      ? { disconnect: overdue, detail: "not connected in time" }
      : undefined
  }

  /** Whether a ping is due, or the answer to one is `Late`. */
  beat(now: number, isPaused: boolean, isBlocked: boolean): Late | boolean {
    const { ping_interval, pong_timeout } = this.#config
    // While this side does not read, an answer cannot be seen.
    // While the peer does not read, a ping waits with everything else: that is the write timeout's matter.
    if (isPaused || isBlocked) this.#pingedAt = undefined
    if (this.#pingedAt !== undefined && now - this.#pingedAt >= Duration.toMillis(pong_timeout)) {
      return { disconnect: Codes.noPong, detail: `no pong for ${Duration.format(pong_timeout)}` }
    }
    if (now < this.#nextPing || isBlocked) return false
    this.#nextPing = now + Duration.toMillis(ping_interval)
    this.#pingedAt ??= now
    return true
  }
}
