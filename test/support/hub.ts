/** The hub over a broker in the test's hands, and members that keep everything they were told. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as Broker from "../../src/Broker.ts"
import * as Frame from "../../src/Frame.ts"
import type * as History from "../../src/History.ts"
import * as Hub from "../../src/Hub.ts"
import * as Metrics from "../../src/Metrics.ts"
import type { Publication } from "../../src/protocol/Publication.ts"
import * as ServerConfig from "../../src/ServerConfig.ts"
import { Watched } from "./wait.ts"

/** The streams of a broker that can lose things. */
export class Stub {
  readonly size: number
  epoch = "e1"
  kept: Array<Publication> = []
  top = 0
  /** What history answers, if not a page. */
  failure: Broker.BrokerFailure | undefined
  /** How many reads of more than a position there were. */
  reads = 0
  readonly subscribed = new Set<string>()
  /** How much it has been asked, and has answered. */
  readonly progress = { asked: 0, answered: 0 }
  sink: Broker.Sink | undefined
  /** Runs before history is read. */
  before: Effect.Effect<void> = Effect.void
  /** Runs before a subscription is confirmed. */
  confirming: Effect.Effect<void> = Effect.void

  constructor(size = 1000) {
    this.size = size
  }

  /** Publishes; unless it is lost, this instance hears it. */
  publish(isLost = false): void {
    const publication: Publication = {
      data: `${this.epoch}:${++this.top}`,
      json: false,
      epoch: this.epoch,
      offset: this.top
    }
    this.kept = [...this.kept, publication].slice(-this.size)
    if (!isLost) this.hear(publication)
  }

  hear(publication: Publication): void {
    if (this.subscribed.has("x")) this.sink?.offer("x", publication)
  }

  /** The stream begins anew. */
  lose(): void {
    this.epoch = `e${Number(this.epoch.slice(1)) + 1}`
    this.kept = []
    this.top = 0
  }

  read({ limit, reverse = false, since, whole = false }: History.Range): History.Page {
    if (limit > 0) this.reads++
    const isAsked = (publication: Publication): boolean =>
      since === undefined || (since.epoch === this.epoch && (publication.offset ?? 0) > since.offset)
    const all = this.kept.filter(isAsked)
    const page = (reverse ? all.toReversed() : all).slice(0, limit)
    return { epoch: this.epoch, offset: this.top, publications: whole && page.length < all.length ? [] : page }
  }
}

const fail = (reason: Broker.BrokerFailure) => new Broker.BrokerError({ reason, channel: "x", message: reason })

export const start = (stub: Stub, check = "20m") =>
  Effect.gen(function* () {
    const state = yield* SubscriptionRef.make<Broker.BrokerState>({ _tag: "Live" })
    const answer = <A>(value: () => A): Effect.Effect<A, Broker.BrokerError> =>
      Effect.suspend(() => (stub.failure === undefined ? Effect.sync(value) : Effect.fail(fail(stub.failure))))
    const broker = Broker.Broker.of({
      name: "stub",
      state,
      publish: () => Effect.succeed(undefined),
      unsafePublish: () => false,
      progress: stub.progress,
      isSubscribed: (channel) => stub.subscribed.has(channel),
      removeHistory: () => Effect.void,
      history: (_, range) =>
        Effect.zipRight(
          stub.before,
          answer(() => stub.read(range))
        ),
      positions: (kept) => answer(() => kept.map(() => ({ epoch: stub.epoch, offset: stub.top }))),
      subscribe: (channel) =>
        Effect.zipRight(
          stub.confirming,
          Effect.sync(() => void stub.subscribed.add(channel))
        ),
      unsubscribe: (channel) => void stub.subscribed.delete(channel),
      attach: (sink) =>
        Effect.sync(() => {
          stub.sink = sink
        }),
      settled: Effect.void,
      sendControl: () => Effect.succeed(1),
      listenControl: () => Effect.void
    })
    const context = yield* Layer.build(
      Hub.layer.pipe(
        Layer.provide(Layer.succeed(Broker.Broker, broker)),
        Layer.provideMerge(Metrics.layer),
        Layer.provide(ServerConfig.layer({ client: { channel_position_check_delay: check } }))
      )
    )
    return { hub: Context.get(context, Hub.Hub), metrics: Context.get(context, Metrics.Metrics) }
  })

type Running = Effect.Effect.Success<ReturnType<typeof start>>

/** Somebody in the channel, and everything that they were told. */
export class Member implements Hub.Subscription {
  readonly encoding = "plain"
  readonly isPositioned: boolean
  readonly hearsAttendance = false
  readonly excludes = undefined
  readonly log: Array<string> = []
  joined: Hub.Joined | undefined
  ended: Metrics.Insufficiency | undefined
  readonly watched = new Watched()

  constructor(isPositioned = true) {
    this.isPositioned = isPositioned
  }

  join({ hub }: Pick<Running, "hub">, want?: Hub.Want, channel = "x"): Effect.Effect<Hub.Joined, Broker.BrokerError> {
    return hub.prepare(channel, want).pipe(
      Effect.map((prepared) => {
        const joined = prepared.join(this)
        this.joined = joined
        this.log.push(...joined.publications.map(({ data }) => data))
        return joined
      }),
      Effect.scoped
    )
  }

  deliver(frame: Frame.Frame): boolean {
    for (let index = 0; index < Frame.count(frame); index++) {
      this.log.push(
        Frame.slice(frame, index, index + 1)
          .bytes.subarray(2)
          .toString()
      )
    }
    this.watched.changed()
    return true
  }

  insufficient(why: Metrics.Insufficiency): void {
    this.ended = why
    this.watched.changed()
  }

  /** Where it is by what it got. */
  get position(): History.Position | undefined {
    const last = this.log.at(-1)?.split(":")
    return last === undefined ? this.joined?.position : { epoch: last[0] ?? "", offset: Number(last[1]) }
  }

  gets(data: string) {
    return this.watched.until(
      () => this.log.includes(data),
      () => `${data}; got ${this.log.join(" ")}, ${this.ended}`
    )
  }

  get isEnded() {
    return this.watched.until(() => this.ended !== undefined, "it is ended")
  }
}

export const since = (offset: number, epoch = "e1"): Hub.Want => ({ since: { epoch, offset } })

export const range = (from: number, to: number, epoch = "e1"): ReadonlyArray<string> =>
  Array.from({ length: Math.max(0, to - from + 1) }, (_, index) => `${epoch}:${from + index}`)

export const publish = (stub: Stub, count: number): void => {
  for (let index = 0; index < count; index++) stub.publish()
}
