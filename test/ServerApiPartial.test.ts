import { describe, expect } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Api from "./support/api.ts"
import { live } from "./support/it.ts"
import * as People from "./support/people.ts"
import * as Program from "./support/program.ts"
import * as Redis from "./support/redis.ts"
import * as Socket from "./support/socket.ts"
import { eventually } from "./support/wait.ts"

/** A call, and the milliseconds that it took. */
const timed = <A, E, R>(call: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.timed(call), ([took, answer]) => [Duration.toMillis(took), answer] as const)

/** One instance here, one as a program, and a subscriber on each; both in the same channels. */
const setting = Effect.gen(function* () {
  const redis = yield* Redis.start()
  const here = yield* People.start({ redis_url: redis.url })
  const env = { REDIS_URL: redis.url, FANFARE_CHANNEL: JSON.stringify(People.channel), FANFARE_HTTP_API_KEY: Api.KEY }
  const there = yield* Program.start({ env })
  for (const ws of [here.ws, there.ws]) yield* Socket.open(`${ws}/channels/room:a`)
  return { here, there, api: yield* Api.make(here.http) }
})

const both = { channels: { "room:a": { num_clients: 2 } } }

describe("an instance that does not answer", () => {
  live(
    "stopped: the others answer in under 2 s, partially; going on again, it is counted again",
    () =>
      Effect.gen(function* () {
        const { api, here, there } = yield* setting
        expect(yield* api.result("channels", {})).toEqual(both)
        expect((yield* api.result("info", {})).nodes.length).toBe(2)

        there.signal("SIGSTOP")
        const ada = yield* People.connect(here, { user: "ada" })
        const batch = { commands: [{ channels: {} }, { info: {} }, { publish: { channel: "bare:a", data: 1 } }] }
        const [took, answers] = yield* timed(
          Effect.all(
            {
              channels: api.result("channels", {}),
              info: api.result("info", {}),
              disconnect: api.result("disconnect", { user: "ada" }),
              batch: api.call("batch", { ...batch, parallel: true })
            },
            { concurrency: "unbounded" }
          )
        )
        expect(took).toBeLessThan(2000)
        expect(answers.channels).toEqual({ channels: { "room:a": { num_clients: 1 } }, partial: true })
        expect([answers.info.nodes.length, answers.info.partial]).toEqual([1, true])
        // Its own part is done all the same.
        expect(answers.disconnect).toEqual({ partial: true })
        expect((yield* ada.socket.closed).code).toBe(3503)
        expect(answers.batch.body.replies).toEqual([
          { channels: answers.channels },
          { info: { nodes: [expect.any(Object)], partial: true } },
          { publish: {} }
        ])

        there.signal("SIGCONT")
        yield* eventually(api.result("info", {}), ({ partial }) => partial === undefined, "both answer")
        expect(yield* api.result("channels", {})).toEqual(both)
        expect(yield* api.result("disconnect", { user: "ada" })).toEqual({})
      }),
    60_000
  )

  live("killed: it is not waited for", () =>
    Effect.gen(function* () {
      const { api, there } = yield* setting
      there.signal("SIGKILL")
      yield* there.exit
      // Redis has seen its connections close by the time that another process knows that it has ended, or soon after.
      yield* eventually(api.result("info", {}), ({ partial }) => partial === undefined, "it is not expected any more")
      const [took, answer] = yield* timed(api.result("info", {}))
      expect(took).toBeLessThan(1000)
      expect(answer.nodes.length).toBe(1)
      expect(yield* api.result("channels", {})).toEqual({ channels: { "room:a": { num_clients: 1 } } })
    })
  )

  live("without Redis: an instance tells of itself, partially, and does its own part", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const here = yield* People.start({ redis_url: redis.url })
      const api = yield* Api.make(here.http)
      const ada = yield* People.connect(here, { user: "ada" })
      yield* ada.ask("subscribe", { channel: "room:a" })
      yield* redis.kill
      yield* eventually(here.broker.state.get, ({ _tag }) => _tag === "Degraded", "the link is lost")
      expect(yield* api.result("channels", {})).toEqual({ channels: { "room:a": { num_clients: 1 } }, partial: true })
      const { nodes, partial } = yield* api.result("info", {})
      expect([nodes.length, partial]).toEqual([1, true])
      for (const [method, body] of [
        ["publish", { channel: "room:a", data: 1 }],
        ["history", { channel: "room:a" }],
        ["history_remove", { channel: "room:a" }],
        ["presence", { channel: "room:a" }],
        ["presence_stats", { channel: "room:a" }]
      ] as const) {
        expect([method, yield* api.refusal(method, body)]).toEqual([method, [200, 100]])
      }
      expect(yield* api.result("disconnect", { user: "ada" })).toEqual({ partial: true })
      expect((yield* ada.socket.closed).code).toBe(3503)
    })
  )
})
