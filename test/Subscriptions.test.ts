import { describe, expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as FastCheck from "effect/FastCheck"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Subscriptions from "../src/Broker/Subscriptions.ts"

type Lost = "link lost"
type Kind = "subscribe" | "unsubscribe"

interface Command {
  readonly kind: Kind
  readonly channels: ReadonlyArray<string>
  readonly done: Deferred.Deferred<void, Lost>
}

/** A Redis whose answers come when the test says so. */
class Redis {
  /** What it is subscribed to. */
  readonly channels = new Set<string>()
  /** Commands without an answer, oldest first. */
  inFlight: Array<Command> = []
  readonly seen: Array<Command> = []
  /** Answers at once. */
  prompt = false
  /** Carries a command out when it comes, long before its answer; else together with its answer. */
  readonly eager: boolean

  constructor(eager = false) {
    this.eager = eager
  }

  readonly commands: Subscriptions.Commands<Lost> = {
    subscribe: (channels) => this.#run("subscribe", channels),
    unsubscribe: (channels) => this.#run("unsubscribe", channels)
  }

  #run(kind: Kind, channels: ReadonlyArray<string>): Effect.Effect<void, Lost> {
    return Effect.suspend(() => {
      const command = { kind, channels, done: Deferred.unsafeMake<void, Lost>(FiberId.none) }
      this.seen.push(command)
      this.inFlight.push(command)
      if (this.eager) this.#apply(command)
      if (this.prompt) this.answer()
      return Deferred.await(command.done)
    })
  }

  #apply({ channels, kind }: Command): void {
    for (const channel of channels) {
      if (kind === "subscribe") this.channels.add(channel)
      else this.channels.delete(channel)
    }
  }

  /** Answers the oldest command. */
  answer(): void {
    const command = this.inFlight.shift()
    if (command === undefined) return
    if (!this.eager) this.#apply(command)
    Deferred.unsafeDone(command.done, Effect.void)
  }

  /** Answers all that is asked, from now on. */
  answerAll(): void {
    this.prompt = true
    while (this.inFlight.length > 0) this.answer()
  }
}

// Every fiber that can go on does so, several times over.
const settle = Effect.repeatN(Effect.yieldNow(), 20)

const setup = (eager = false) =>
  Effect.gen(function* () {
    const redis = new Redis(eager)
    const subscriptions = yield* Subscriptions.make<Lost>()
    const maintain = yield* Effect.fork(subscriptions.maintain(redis.commands))
    yield* settle
    return { redis, subscriptions, maintain }
  })

const isDone = (fiber: Fiber.RuntimeFiber<void, Lost>): Effect.Effect<boolean> =>
  Effect.map(Fiber.poll(fiber), (exit) => exit._tag === "Some")

const sent = (redis: Redis): ReadonlyArray<string> =>
  redis.seen.map(({ channels, kind }) => `${kind} ${channels.join()}`)

type Step =
  | { readonly _tag: "Want"; readonly channel: string }
  | { readonly _tag: "Release"; readonly channel: string }
  | { readonly _tag: "Answer" }
  | { readonly _tag: "Yield"; readonly times: number }

const channel = FastCheck.constantFrom("a", "b", "c", "d", "__proto__")
const step: FastCheck.Arbitrary<Step> = FastCheck.oneof(
  { weight: 4, arbitrary: FastCheck.record({ _tag: FastCheck.constant("Want" as const), channel }) },
  { weight: 4, arbitrary: FastCheck.record({ _tag: FastCheck.constant("Release" as const), channel }) },
  { weight: 3, arbitrary: FastCheck.constant({ _tag: "Answer" as const }) },
  {
    weight: 2,
    arbitrary: FastCheck.record({
      _tag: FastCheck.constant("Yield" as const),
      times: FastCheck.integer({ min: 1, max: 8 })
    })
  }
)

describe("Subscriptions", () => {
  it.effect.prop(
    "end in exactly the wanted channels, whatever is wanted and released while commands are in flight",
    [FastCheck.array(step, { maxLength: 60, size: "max" }), FastCheck.boolean()],
    ([steps, eager]) =>
      Effect.gen(function* () {
        const { maintain, redis, subscriptions } = yield* setup(eager)
        const wanted = new Set<string>()
        const releases = new Map<string, number>()
        const releasesOf = (channel: string): number => releases.get(channel) ?? 0
        const waiters: Array<{
          readonly channel: string
          readonly at: number
          readonly fiber: Fiber.RuntimeFiber<void, Lost>
        }> = []
        const unheard: Array<string> = []
        for (const step of steps) {
          if (step._tag === "Want") {
            wanted.add(step.channel)
            const at = releasesOf(step.channel)
            // Who wants it without interruption hears it from the moment in which that is confirmed.
            const check = Effect.sync(() => {
              if (releasesOf(step.channel) === at && !redis.channels.has(step.channel)) unheard.push(step.channel)
            })
            const fiber = yield* Effect.fork(Effect.zipRight(subscriptions.want(step.channel), check))
            // Until it has run, the channel is not wanted.
            yield* Effect.yieldNow()
            waiters.push({ channel: step.channel, at, fiber })
          } else if (step._tag === "Release") {
            wanted.delete(step.channel)
            releases.set(step.channel, releasesOf(step.channel) + 1)
            subscriptions.release(step.channel)
          } else if (step._tag === "Answer") {
            redis.answer()
          } else {
            yield* Effect.repeatN(Effect.yieldNow(), step.times)
          }
          expect(redis.inFlight.length).toBeLessThanOrEqual(1)
          for (const one of wanted) expect(subscriptions.isWanted(one)).toBe(true)
        }
        redis.answerAll()
        // Touched last, so confirmed no earlier than all that was touched before.
        yield* subscriptions.want("last")
        expect([...redis.channels].toSorted()).toEqual([...wanted, "last"].toSorted())
        expect(subscriptions.sizes()).toEqual({ wanted: wanted.size + 1, confirmed: wanted.size + 1 })
        expect(unheard).toEqual([])
        yield* settle
        for (const { at, channel, fiber } of waiters) {
          if (releasesOf(channel) === at) expect(yield* isDone(fiber), `${channel} is confirmed`).toBe(true)
          yield* Fiber.interrupt(fiber)
        }
        for (const one of [...wanted, "last"]) subscriptions.release(one)
        yield* settle
        expect(redis.channels.size).toBe(0)
        expect(subscriptions.sizes()).toEqual({ wanted: 0, confirmed: 0 })
        yield* Fiber.interrupt(maintain)
      }),
    { fastCheck: { numRuns: 200 } }
  )

  it.effect("are sent in batches of at most 512, in the order wanted, each once", () =>
    Effect.gen(function* () {
      const { maintain, redis, subscriptions } = yield* setup()
      const names = Array.from({ length: 5000 }, (_, index) => `c${index}`)
      const all = yield* Effect.fork(
        Effect.forEach(names, subscriptions.want, { concurrency: "unbounded", discard: true })
      )
      yield* settle
      redis.answerAll()
      yield* Fiber.join(all)
      expect(redis.seen.flatMap(({ channels }) => channels)).toEqual(names)
      expect(Math.max(...redis.seen.map(({ channels }) => channels.length))).toBe(512)
      expect(redis.seen.length).toBeLessThanOrEqual(Math.ceil(5000 / 512) + 1)
      expect(subscriptions.sizes()).toEqual({ wanted: 5000, confirmed: 5000 })
      redis.seen.length = 0
      for (const name of names) subscriptions.release(name)
      yield* subscriptions.want("last")
      expect(redis.seen.filter(({ kind }) => kind === "unsubscribe").flatMap(({ channels }) => channels)).toEqual(names)
      expect(Math.max(...redis.seen.map(({ channels }) => channels.length))).toBe(512)
      expect([...redis.channels]).toEqual(["last"])
      yield* Fiber.interrupt(maintain)
    })
  )

  it.effect("send nothing for a channel that is confirmed, or that was given up before anything was sent", () =>
    Effect.gen(function* () {
      const { maintain, redis, subscriptions } = yield* setup()
      redis.answerAll()
      yield* subscriptions.want("a")
      yield* subscriptions.want("a")
      subscriptions.release("a")
      yield* subscriptions.want("a")
      subscriptions.release("b")
      yield* settle
      expect(sent(redis)).toEqual(["subscribe a"])
      yield* Fiber.interrupt(maintain)
    })
  )

  it.effect("let all who want one channel wait for one confirmation", () =>
    Effect.gen(function* () {
      const { maintain, redis, subscriptions } = yield* setup()
      const waiters = yield* Effect.forEach([1, 2, 3], () => Effect.fork(subscriptions.want("a")))
      yield* settle
      expect(yield* Effect.forEach(waiters, isDone)).toEqual([false, false, false])
      redis.answer()
      yield* Effect.forEach(waiters, Fiber.join)
      expect(sent(redis)).toEqual(["subscribe a"])
      yield* Fiber.interrupt(maintain)
    })
  )

  it.effect("let a want during an unsubscribe in flight wait for a new confirmation", () =>
    Effect.gen(function* () {
      const { maintain, redis, subscriptions } = yield* setup()
      const first = yield* Effect.fork(subscriptions.want("a"))
      yield* settle
      redis.answer()
      yield* Fiber.join(first)
      subscriptions.release("a")
      yield* settle
      expect(sent(redis)).toEqual(["subscribe a", "unsubscribe a"])
      const again = yield* Effect.fork(subscriptions.want("a"))
      yield* settle
      expect(yield* isDone(again)).toBe(false)
      redis.answer()
      yield* settle
      expect([yield* isDone(again), ...sent(redis)]).toEqual([false, "subscribe a", "unsubscribe a", "subscribe a"])
      redis.answer()
      yield* Fiber.join(again)
      expect([...redis.channels]).toEqual(["a"])
      yield* Fiber.interrupt(maintain)
    })
  )

  it.effect("give up a channel that was released while its subscribe was in flight", () =>
    Effect.gen(function* () {
      const { maintain, redis, subscriptions } = yield* setup()
      const waiter = yield* Effect.fork(subscriptions.want("a"))
      yield* settle
      subscriptions.release("a")
      redis.answerAll()
      yield* settle
      expect(sent(redis)).toEqual(["subscribe a", "unsubscribe a"])
      expect(subscriptions.sizes()).toEqual({ wanted: 0, confirmed: 0 })
      yield* Fiber.interruptAll([waiter, maintain])
    })
  )

  it.effect("keep wanting a channel whose waiter was interrupted", () =>
    Effect.gen(function* () {
      const { maintain, redis, subscriptions } = yield* setup()
      const waiter = yield* Effect.fork(subscriptions.want("a"))
      yield* settle
      yield* Fiber.interrupt(waiter)
      redis.answerAll()
      yield* subscriptions.want("a")
      expect(subscriptions.isWanted("a")).toBe(true)
      expect(sent(redis)).toEqual(["subscribe a"])
      yield* Fiber.interrupt(maintain)
    })
  )
})

describe("Subscriptions, a lost link", () => {
  it.effect("fails those who wait and keeps what is wanted", () =>
    Effect.gen(function* () {
      const { maintain, redis, subscriptions } = yield* setup()
      redis.answerAll()
      yield* subscriptions.want("a")
      redis.prompt = false
      const waiters = yield* Effect.forEach(["b", "b", "c"], (channel) => Effect.fork(subscriptions.want(channel)))
      yield* settle
      yield* Fiber.interrupt(maintain)
      yield* subscriptions.lost("link lost")
      const results = yield* Effect.forEach(waiters, (waiter) => Effect.either(Fiber.join(waiter)))
      expect(results.map(Either.flip).map(Either.getOrUndefined)).toEqual(["link lost", "link lost", "link lost"])
      expect(subscriptions.sizes()).toEqual({ wanted: 3, confirmed: 0 })
    })
  )

  it.effect("fails maintain with the error of the command", () =>
    Effect.gen(function* () {
      const { maintain, redis, subscriptions } = yield* setup()
      const waiter = yield* Effect.fork(subscriptions.want("a"))
      yield* settle
      for (const { done } of redis.inFlight) Deferred.unsafeDone(done, Effect.fail("link lost"))
      expect(yield* Effect.flip(Fiber.join(maintain))).toBe("link lost")
      expect([yield* isDone(waiter), subscriptions.isWanted("a")]).toEqual([false, true])
      yield* Fiber.interrupt(waiter)
    })
  )

  it.effect("fails a waiter too whose channel was released while it waited", () =>
    Effect.gen(function* () {
      const { maintain, subscriptions } = yield* setup()
      const first = yield* Effect.fork(subscriptions.want("x"))
      yield* settle
      // The batch with x is in flight; y is looked at in the next one.
      const waiter = yield* Effect.fork(subscriptions.want("y"))
      yield* settle
      subscriptions.release("y")
      yield* Fiber.interrupt(maintain)
      const next = new Redis()
      next.answerAll()
      const again = yield* Effect.fork(subscriptions.maintain(next.commands))
      yield* subscriptions.want("z")
      yield* Fiber.interrupt(again)
      yield* subscriptions.lost("link lost")
      yield* settle
      expect(yield* isDone(waiter)).toBe(true)
      yield* Fiber.interruptAll([first, waiter])
    })
  )

  it.effect("is restored: all that is wanted is confirmed again, in batches, and nothing else", () =>
    Effect.gen(function* () {
      const { maintain, redis, subscriptions } = yield* setup()
      const names = Array.from({ length: 1500 }, (_, index) => `c${index}`)
      redis.answerAll()
      yield* Effect.forEach(names, subscriptions.want, { concurrency: "unbounded", discard: true })
      yield* Fiber.interrupt(maintain)
      yield* subscriptions.lost("link lost")
      // While there is no link one goes and one comes.
      subscriptions.release("c0")
      const late = yield* Effect.fork(subscriptions.want("late"))
      yield* settle
      const next = new Redis()
      const restore = yield* Effect.fork(subscriptions.restore(next.commands))
      yield* settle
      expect([yield* isDone(restore), next.inFlight.length]).toEqual([false, 1])
      next.answerAll()
      yield* Fiber.join(restore)
      yield* Fiber.join(late)
      expect(next.seen.map(({ channels, kind }) => [kind, channels.length])).toEqual([
        ["subscribe", 512],
        ["subscribe", 512],
        ["subscribe", 476]
      ])
      expect([...next.channels].toSorted()).toEqual([...names.slice(1), "late"].toSorted())
      expect(subscriptions.sizes()).toEqual({ wanted: 1500, confirmed: 1500 })
    })
  )

  it.effect("is restored with what is wanted and released meanwhile", () =>
    Effect.gen(function* () {
      const { maintain, redis, subscriptions } = yield* setup()
      redis.answerAll()
      yield* subscriptions.want("a")
      yield* Fiber.interrupt(maintain)
      yield* subscriptions.lost("link lost")
      const next = new Redis()
      const restore = yield* Effect.fork(subscriptions.restore(next.commands))
      yield* settle
      subscriptions.release("a")
      const waiter = yield* Effect.fork(subscriptions.want("b"))
      yield* settle
      next.answerAll()
      yield* Effect.all([Fiber.join(restore), Fiber.join(waiter)])
      expect([...next.channels]).toEqual(["b"])
      expect(subscriptions.sizes()).toEqual({ wanted: 1, confirmed: 1 })
    })
  )
})
