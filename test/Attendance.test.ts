import { describe, expect, it } from "@effect/vitest"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import * as Broker from "../src/Broker.ts"
import * as Metrics from "../src/Metrics.ts"
import type * as Presence from "../src/Presence.ts"
import * as ServerConfig from "../src/ServerConfig.ts"
import { Attendance } from "../src/Session/Attendance.ts"

const { config } = Either.getOrThrow(ServerConfig.load({}))
const CLIENT = { client: "c1", user: "ada" }
const TIMEOUT = new Broker.BrokerError({ reason: "Timeout", channel: "lobby", message: "no answer" })

/** A presence whose answers to `add` are given by the test, and a broker that keeps what it is told. */
const services = (answer: (call: number) => Effect.Effect<void, Broker.BrokerError>) => {
  const present = new Set<string>()
  const told: Array<string> = []
  let calls = 0
  const presence: Context.Tag.Service<Presence.Presence> = {
    add: (channel) =>
      Effect.zipRight(
        answer(++calls),
        Effect.sync(() => void present.add(channel))
      ),
    remove: (channel) => Effect.sync(() => void present.delete(channel)),
    list: () => Effect.succeed([]),
    stats: () => Effect.succeed({ clients: present.size, users: present.size })
  }
  const broker = {
    publish: (_: string, { kind }: { readonly kind?: string }) =>
      Effect.sync(() => {
        told.push(kind ?? "publication")
        return undefined
      })
  } as unknown as Context.Tag.Service<Broker.Broker>
  const metrics = Metrics.make()
  return { present, told, metrics, services: { broker, config, metrics, presence } }
}

describe("Attendance", () => {
  it.effect("a refresh while it enters and fails leaves nobody behind", () =>
    Effect.gen(function* () {
      const answered = yield* Effect.makeLatch(false)
      const { present, services: with_ } = services((call) =>
        call === 1 ? Effect.zipRight(answered.await, Effect.fail(TIMEOUT)) : Effect.void
      )
      const attendance = new Attendance(with_, { info: () => CLIENT })
      const entering = yield* Effect.fork(Effect.either(attendance.enter("lobby", undefined)))
      yield* Effect.yieldNow()
      yield* attendance.show("lobby", "1")
      expect(present.has("lobby")).toBe(true)
      yield* answered.open
      expect(yield* Fiber.join(entering)).toEqual(Either.left(TIMEOUT))
      expect(present.has("lobby")).toBe(false)
    })
  )

  it.effect(
    "one that enters again before it has left is told of as leaving first, and is left by a later end only once",
    () =>
      Effect.gen(function* () {
        const { present, told, services: with_ } = services(() => Effect.void)
        const attendance = new Attendance(with_, { info: () => CLIENT })
        const begin = Effect.zipRight(attendance.enter("lobby", undefined), attendance.announce("lobby"))
        yield* begin
        const first = attendance.stay("lobby")
        yield* begin
        expect(told).toEqual(["join", "leave", "join"])
        // The end of the first stay comes late: it is over already.
        yield* attendance.leave("lobby", first)
        expect([told.length, present.has("lobby")]).toEqual([3, true])
        yield* attendance.leaveAll
        expect(told).toEqual(["join", "leave", "join", "leave"])
        expect(present.has("lobby")).toBe(false)
      })
  )

  it.effect("what the broker does not take of joins and leaves is counted", () =>
    Effect.gen(function* () {
      const { metrics, services: with_ } = services(() => Effect.void)
      const away = { ...with_.broker, publish: () => Effect.fail(TIMEOUT) }
      const attendance = new Attendance({ ...with_, broker: away }, { info: () => CLIENT })
      yield* attendance.enter("lobby", undefined)
      yield* attendance.announce("lobby")
      yield* attendance.leaveAll
      expect(metrics.attendanceLost.value).toBe(2)
    })
  )
})
