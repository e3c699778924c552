/** The end of brokers whose links are being closed at that moment, with a real Redis. */
import { describe, expect } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as Broker from "../src/Broker.ts"
import * as RedisBroker from "../src/Broker/Redis.ts"
import { atMost } from "../src/internal/time.ts"
import { instance } from "./support/broker.ts"
import { live } from "./support/it.ts"
import * as Redis from "./support/redis.ts"
import { eventually } from "./support/wait.ts"

/** When a broker closes, in milliseconds after it has lost its link: its two clients take up to a second to close. */
const MOMENTS = Array.from({ length: 12 }, (_, index) => index * 100)

describe("Broker/Redis, closed while it closes a link that Redis does not answer on", () => {
  live("ends at every moment of that", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const brokers = yield* Effect.forEach(MOMENTS, (moment) =>
        Effect.gen(function* () {
          const scope = yield* Scope.make()
          const { broker } = yield* Scope.extend(instance(RedisBroker.layer(Redacted.make(redis.url))), scope)
          return { moment, scope, broker }
        })
      )
      yield* Effect.acquireRelease(redis.freeze, () => redis.thaw)
      const open = yield* Effect.filter(
        brokers,
        ({ broker, moment, scope }) =>
          Effect.gen(function* () {
            yield* eventually(Broker.isLive(broker), (isLive) => !isLive, "the link is lost")
            yield* Effect.sleep(moment)
            const closed = yield* Scope.close(scope, Exit.void).pipe(Effect.disconnect, atMost(Duration.seconds(5)))
            return Option.isNone(closed)
          }),
        { concurrency: "unbounded" }
      )
      expect(open.map(({ moment }) => moment)).toEqual([])
    })
  )
})
