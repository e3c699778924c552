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
import type * as Redis from "../internal/redis.ts"
import * as Reply from "../internal/redisReply.ts"
import * as InFlight from "./InFlight.ts"
import type * as Streams from "./RedisStreams.ts"

// Redis does nothing else while it carries out one command: 0.3 ms for so many that
// two instances hear, longer with more instances. Half as many would be a tenth
// fewer messages where clients have sixteen on their way.
/** Most publishes in a command, and about as many bytes of publications. */
const PUBLISHES = 256
const BYTES = 128 * 1024

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

/** Redis's answer without the command, which has everybody's publications. */
const withoutCommand = (cause: unknown): unknown =>
  cause instanceof Error ? Object.assign(new Error(cause.message), { name: cause.name }) : cause

/** Publishes that are answered as one. */
class Batch extends InFlight.Sent<unknown> {
  readonly at: Streams.Target
  readonly what = "publish"
  readonly lost = "Failed"
  readonly #channels: Array<string> = []
  readonly #publishings: Array<Publishing> = []
  #topicsAndEnvelopes: Array<string> = []
  readonly #refused: InFlight.OnRefusal
  #bytes = 0

  constructor(at: Streams.Target, refused: InFlight.OnRefusal) {
    super()
    this.at = at
    this.#refused = refused
  }

  get count(): number {
    return this.#channels.length
  }

  get bytes(): number {
    return this.#bytes
  }

  get takesMore(): boolean {
    return this.count < PUBLISHES && this.#bytes < BYTES
  }

  has(channel: string): boolean {
    return this.#channels.includes(channel)
  }

  add(channel: string, envelope: string, bytes: number, publishing: Publishing): void {
    this.#channels.push(channel)
    this.#publishings.push(publishing)
    this.#topicsAndEnvelopes.push(this.at.keys.topic(channel), envelope)
    this.#bytes += bytes
  }

  run(): Promise<unknown> {
    const args = this.#topicsAndEnvelopes
    const [topic = "", envelope = ""] = args
    this.#topicsAndEnvelopes = []
    const { redis } = this.at.client
    // One alone costs Redis 0.3 µs so, and 5 as a script. The script goes out by its text: behind one that Redis has
    // forgotten, and that is sent again, others would be passed by.
    return this.count === 1 ? redis.publish(topic, envelope) : redis.eval(LUA, 0, ...args)
  }

  answered(answer: unknown): void {
    if (typeof answer === "number") return this.#tell([])
    if (Array.isArray(answer)) return this.#tell(answer)
    this.failed("Failed", new Error(`not an answer of Redis: ${String(answer)}`))
  }

  #tell(refused: ReadonlyArray<unknown>): void {
    const reasons = new Map<unknown, Error>()
    for (let at = 0; at < refused.length; at += 2) reasons.set(refused[at], Reply.replyError(String(refused[at + 1])))
    for (const [index, publishing] of this.#publishings.entries()) {
      const reason = reasons.get(index)
      if (reason === undefined) {
        publishing.done(ACCEPTED)
        continue
      }
      this.#refused(`publish "${this.#channels[index]}"`, reason, 1)
      this.#fail(index, "Failed", reason)
    }
  }

  failed(reason: BrokerFailure, cause?: unknown): void {
    const told = withoutCommand(cause)
    for (const index of this.#publishings.keys()) this.#fail(index, reason, told)
  }

  #fail(index: number, reason: BrokerFailure, cause: unknown): void {
    const failed = InFlight.failure(reason, this.#channels[index] ?? "", "publish", cause)
    this.#publishings[index]?.done(Exit.fail(failed))
  }
}

/** Rejects where the Redis user may not use scripts: when the link opens that is to be seen at once, and not under load. */
export const probe = ({ redis }: Redis.Client): Promise<unknown> => redis.eval(LUA, 0)

/** Publishes that wait for the end of the turn. */
export interface Batches {
  /** Publishes at a link; the publisher is told within this call, or later. */
  readonly publish: (at: Streams.Target | undefined, channel: string, envelope: string, publishing: Publishing) => void
  /** Sends those that wait now: whatever is sent to Redis after this comes after them. */
  readonly flush: () => void
  /** The same, if there is one to this channel among them. */
  readonly flushChannel: (channel: string) => void
}

export const make = (inFlight: InFlight.InFlight): Batches => {
  let open: Batch | undefined
  let isScheduled = false

  const flush = (): void => {
    const batch = open
    if (batch === undefined) return
    open = undefined
    // Its time begins here: a turn may take longer than that by itself.
    inFlight.begin(batch)
    inFlight.follow(batch, () => batch.run())
  }

  const endTurn = (): void => {
    isScheduled = false
    flush()
  }

  const begin = (at: Streams.Target): Batch => {
    flush()
    const batch = new Batch(at, inFlight.refused)
    if (!isScheduled) setImmediate(endTurn)
    isScheduled = true
    // Behind the above: what the turn ends with is in one write with what was sent before it.
    at.client.cork()
    open = batch
    return batch
  }

  return {
    flush,
    flushChannel: (channel) => {
      if (open?.has(channel) === true) flush()
    },
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
