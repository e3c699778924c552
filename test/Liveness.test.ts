import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Liveness } from "../src/Liveness.ts"
import * as Codes from "../src/protocol/Codes.ts"
import * as ServerConfig from "../src/ServerConfig.ts"

const make = Effect.gen(function* () {
  const { client } = yield* ServerConfig.ServerConfig
  const liveness = new Liveness(client)
  liveness.begin(0)
  return liveness
}).pipe(Effect.provide(ServerConfig.layer({ client: { write_timeout: "1s", stale_close_delay: "10s" } })))

describe("Liveness.late", () => {
  it.effect("is a socket that takes nothing for the write timeout, counted from when it was first seen", () =>
    Effect.gen(function* () {
      const liveness = yield* make
      expect(liveness.late(5000, false, undefined)).toBeUndefined()
      expect(liveness.late(6000, true, undefined)).toBeUndefined()
      expect(liveness.late(6999, true, undefined)).toBeUndefined()
      expect(liveness.late(7000, true, undefined)?.disconnect).toBe(Codes.slow)
    })
  )

  it.effect("is not one that takes something now and then, though it is blocked whenever it is looked at", () =>
    Effect.gen(function* () {
      const liveness = yield* make
      for (let now = 0; now < 60_000; now += 600) {
        expect(liveness.late(now, true, undefined)).toBeUndefined()
        liveness.drained()
      }
    })
  )

  it.effect("is a client that does not introduce itself in time", () =>
    Effect.gen(function* () {
      const liveness = yield* make
      expect(liveness.late(9999, false, Codes.stale)).toBeUndefined()
      expect(liveness.late(10_000, false, Codes.stale)?.disconnect).toBe(Codes.stale)
      expect(liveness.late(10_000, false, undefined)).toBeUndefined()
    })
  )
})
