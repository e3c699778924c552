/**
 * Publishes without history that come up in one turn of the event loop go to
 * Redis as one command, and are answered as one. Each in a command of its own is
 * a tenth more CPU where a client has one on its way at a time, and two fifths
 * where it has sixteen: most of what a publish keeps in memory until it is
 * answered is its command (200 rooms of 5, everybody publishes; four pairs of
 * runs).
 */
import * as Exit from "effect/Exit"
import { Buffer } from "node:buffer"
import { setImmediate } from "node:timers"
import type { BrokerFailure, Publishing } from "../Broker.ts"
import * as InFlight from "./InFlight.ts"
import type * as Streams from "./RedisStreams.ts"

/** Most publishes in a command, and about as many bytes: Redis does nothing else meanwhile, for less than a millisecond. */
const PUBLISHES = 512
const BYTES = 256 * 1024

/**
 * ARGV: topic and envelope of each. Answers the places of those that Redis
 * refused, counted from 0, each with the reason.
 */
const LUA = `
local refused = {}
for i = 1, #ARGV, 2 do
  local answer = redis.pcall("PUBLISH", ARGV[i], ARGV[i + 1])
  if type(answer) == "table" and answer.err then
    refused[#refused + 1] = (i - 1) / 2
    refused[#refused + 1] = answer.err
  end
end
return refused`

const ACCEPTED = Exit.succeed(undefined)

/** Publishes that are answered as one. */
class Batch extends InFlight.Sent<unknown> {
  readonly at: Streams.Target
  readonly lost = "Failed"
  readonly #channels: Array<string> = []
  readonly #publishings: Array<Publishing> = []
  readonly #topicsAndEnvelopes: Array<string> = []
  bytes = 0

  constructor(at: Streams.Target) {
    super()
    this.at = at
  }

  get count(): number {
    return this.#channels.length
  }

  /** Not once its time is over, as after a turn of a second: those in it have been told. */
  get takesMore(): boolean {
    return this.isOn && this.count < PUBLISHES && this.bytes < BYTES
  }

  add(channel: string, envelope: string, bytes: number, publishing: Publishing): void {
    this.#channels.push(channel)
    this.#publishings.push(publishing)
    this.#topicsAndEnvelopes.push(this.at.keys.topic(channel), envelope)
    this.bytes += bytes
  }

  // By its text: behind a script that Redis has forgotten, and that is sent again, others would be passed by. One alone
  // too, or a Redis user who may not call EVAL would be noticed under load only.
  run({ client }: Streams.Target): Promise<unknown> {
    return client.redis.eval(LUA, 0, ...this.#topicsAndEnvelopes)
  }

  answered(answer: unknown): void {
    const refusals = new Map<unknown, unknown>()
    if (Array.isArray(answer)) for (let at = 0; at < answer.length; at += 2) refusals.set(answer[at], answer[at + 1])
    for (const [index, publishing] of this.#publishings.entries()) {
      if (refusals.has(index)) this.#fail(index, "Failed", refusals.get(index))
      else publishing.done(ACCEPTED)
    }
  }

  failed(reason: BrokerFailure, cause?: unknown): void {
    for (const index of this.#publishings.keys()) this.#fail(index, reason, cause)
  }

  #fail(index: number, reason: BrokerFailure, cause: unknown): void {
    const failed = InFlight.failure(reason, this.#channels[index] ?? "", "publish", cause)
    this.#publishings[index]?.done(Exit.fail(failed))
  }
}

/** Publishes that wait for the end of the turn. */
export interface Batches {
  /** Publishes at a link; the publisher is told within this call, or later. */
  readonly publish: (at: Streams.Target | undefined, channel: string, envelope: string, publishing: Publishing) => void
  /** Sends them now: whatever is sent to Redis after this comes after them. */
  readonly flush: () => void
}

export const make = (inFlight: InFlight.InFlight): Batches => {
  let open: Batch | undefined

  const flush = (): void => {
    const batch = open
    if (batch === undefined) return
    open = undefined
    inFlight.follow(batch, batch.at, (at) => batch.run(at))
  }

  const begin = (at: Streams.Target): Batch => {
    flush()
    const batch = new Batch(at)
    inFlight.begin(batch)
    setImmediate(flush)
    open = batch
    return batch
  }

  return {
    flush,
    publish: (at, channel, envelope, publishing) => {
      const fail = (reason: BrokerFailure): void =>
        publishing.done(Exit.fail(InFlight.failure(reason, channel, "publish")))
      if (at === undefined) return fail("NotLive")
      const bytes = Buffer.byteLength(envelope)
      if (!inFlight.admit(bytes)) return fail("Overloaded")
      const batch = open?.at === at && open.takesMore ? open : begin(at)
      batch.add(channel, envelope, bytes, publishing)
      publishing.sent()
    }
  }
}
