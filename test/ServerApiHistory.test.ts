import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { live } from "./support/it.ts"
import { call, fill, namespaces, offsets, post } from "./support/methods.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"

describe("server API", () => {
  live("history: the position alone, all of it, what comes after a position, or before it from the newest", () =>
    Effect.gen(function* () {
      const server = yield* Server.start(namespaces)
      const channel = "kept:a"
      const empty = yield* call(server, "history", { channel, limit: -1 })
      expect(empty).toEqual({ result: { publications: [], epoch: expect.stringMatching(/./), offset: 0 } })
      const epoch = yield* fill(server, channel, 5)
      expect(epoch).toBe(empty.result.epoch)
      const ask = (range: object) => call(server, "history", { channel, ...range })

      for (const range of [{}, { limit: 0 }, { limit: null, since: null, reverse: null }]) {
        expect(yield* ask(range)).toEqual({ result: { publications: [], epoch, offset: 5 } })
      }
      expect(yield* ask({ limit: 2 })).toEqual({
        result: {
          publications: [
            { data: 1, offset: 1 },
            { data: 2, offset: 2 }
          ],
          epoch,
          offset: 5
        }
      })
      const cases: ReadonlyArray<readonly [object, ReadonlyArray<number>]> = [
        [{ limit: -1 }, [1, 2, 3, 4, 5]],
        [{ limit: -1, reverse: true }, [5, 4, 3, 2, 1]],
        [{ limit: 2, reverse: true }, [5, 4]],
        [{ limit: -1, since: { offset: 3, epoch } }, [4, 5]],
        [{ limit: 1, since: { offset: 3, epoch } }, [4]],
        [{ limit: -1, since: { offset: 3 } }, [4, 5]],
        [{ limit: -1, since: {} }, [1, 2, 3, 4, 5]],
        [{ limit: -1, since: { offset: 5, epoch } }, []],
        [{ limit: -1, since: { offset: 9, epoch } }, []],
        [{ limit: -1, since: { offset: 3, epoch }, reverse: true }, [2, 1]],
        [{ limit: 1, since: { offset: 3, epoch }, reverse: true }, [2]],
        [{ limit: -1, since: { offset: 1, epoch }, reverse: true }, []]
      ]
      for (const [range, expected] of cases) {
        const answer = yield* ask(range)
        expect([range, offsets(answer)]).toEqual([range, expected])
        expect(answer.result).toMatchObject({ epoch, offset: 5 })
      }
    })
  )

  live("history: a page has at most 1,000 publications, and at most client.reply_max_size bytes", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: { ...namespaces.config, client: { reply_max_size: 64 * 1024 } } })
      const epoch = yield* fill(server, "kept:many", 1001)
      const page = yield* call(server, "history", { channel: "kept:many", limit: -1 })
      expect(offsets(page)).toEqual(Array.from({ length: 1000 }, (_, index) => index + 1))
      expect(page.result).toMatchObject({ epoch, offset: 1001 })
      expect(offsets(yield* call(server, "history", { channel: "kept:many", limit: 1001 }))).toHaveLength(1000)

      for (let index = 0; index < 3; index++) {
        yield* server.publisher.publish("kept:large", "x".repeat(30 * 1024))
      }
      const large = yield* call(server, "history", { channel: "kept:large", limit: -1 })
      expect([offsets(large), large.result.offset]).toEqual([[1, 2], 3])
    })
  )

  live("history: data comes back as it went in", () =>
    Effect.gen(function* () {
      const server = yield* Server.start(namespaces)
      const data = ['{"n": 1e400,"n":12345678901234567890}', '"\\u0061"', "-0", "[ ]", "null"]
      for (const text of data) yield* call(server, "publish", `{"channel":"kept:a","data":${text}}`)
      const { body } = yield* post(server, "history", '{"channel":"kept:a","limit":-1}')
      const publications = data.map((text, index) => `{"data":${text},"offset":${index + 1}}`)
      expect(body.slice(0, body.indexOf(',"epoch":'))).toBe(`{"result":{"publications":[${publications.join(",")}]`)

      const plain = yield* Socket.open(`${server.ws}/channels/kept:b`)
      plain.send("just text")
      yield* plain.count(1)
      const told = yield* call(server, "history", { channel: "kept:b", limit: -1 })
      expect(told.result.publications).toEqual([
        { data: "just text", offset: 1, info: { user: "", client: expect.stringMatching(/^[0-9a-f-]{36}$/) } }
      ])
    })
  )

  live("history: another epoch 112, no history 108, unknown namespace 102, no channel name 107", () =>
    Effect.gen(function* () {
      const server = yield* Server.start(namespaces)
      yield* fill(server, "kept:a", 3)
      const known = 'no namespace "nowhere"; known: kept, fast'
      const since = { offset: 1, epoch: "another" }
      for (const [body, error] of [
        [
          { channel: "kept:a", limit: -1, since },
          { code: 112, message: "unrecoverable position" }
        ],
        [
          { channel: "kept:a", limit: -1, since, reverse: true },
          { code: 112, message: "unrecoverable position" }
        ],
        [
          { channel: "kept:a", since },
          { code: 112, message: "unrecoverable position" }
        ],
        [
          { channel: "fast:a", limit: -1 },
          { code: 108, message: "the channel has no history" }
        ],
        [
          { channel: "lobby", limit: -1 },
          { code: 108, message: "the channel has no history" }
        ],
        [
          { channel: "nowhere:a", limit: -1 },
          { code: 102, message: known }
        ],
        [{ channel: "" }, { code: 107, message: expect.any(String) }],
        [{ channel: null }, { code: 107, message: expect.any(String) }],
        [{}, { code: 107, message: expect.any(String) }],
        [{ channel: "kept:a\n" }, { code: 107, message: expect.any(String) }]
      ] as const) {
        expect([body, yield* call(server, "history", body)]).toEqual([body, { error }])
      }
      for (const body of [
        "{",
        '{"channel":1}',
        '{"channel":"kept:a","limit":"1"}',
        '{"channel":"kept:a","limit":1.5}',
        '{"channel":"kept:a","since":{"offset":-1}}',
        '{"channel":"kept:a","since":5}',
        '{"channel":"kept:a","reverse":1}'
      ]) {
        expect([body, (yield* post(server, "history", body)).status]).toEqual([body, 400])
      }
    })
  )

  live("history_remove: the publications are gone, epoch and offset go on", () =>
    Effect.gen(function* () {
      const server = yield* Server.start(namespaces)
      const epoch = yield* fill(server, "kept:a", 3)
      yield* fill(server, "kept:b", 1)
      const removed = yield* post(server, "history_remove", '{"channel":"kept:a"}')
      expect([removed.status, removed.body]).toEqual([200, '{"result":{}}'])
      const ask = (channel: string) => call(server, "history", { channel, limit: -1 })
      expect(yield* ask("kept:a")).toEqual({ result: { publications: [], epoch, offset: 3 } })
      expect(offsets(yield* ask("kept:b"))).toEqual([1])
      expect(yield* call(server, "publish", { channel: "kept:a", data: 4 })).toEqual({ result: { epoch, offset: 4 } })
      expect(yield* ask("kept:a")).toEqual({ result: { epoch, offset: 4, publications: [{ data: 4, offset: 4 }] } })
      // One that was never there has nothing to remove.
      expect(yield* call(server, "history_remove", { channel: "kept:new" })).toEqual({ result: {} })
    })
  )

  live("history_remove: no history 108, unknown namespace 102, no channel name 107", () =>
    Effect.gen(function* () {
      const server = yield* Server.start(namespaces)
      for (const [channel, code] of [
        ["fast:a", 108],
        ["nowhere:a", 102],
        ["", 107]
      ] as const) {
        expect([channel, yield* call(server, "history_remove", { channel })]).toMatchObject([
          channel,
          { error: { code } }
        ])
      }
      for (const body of ["{", '{"channel":1}']) {
        expect([body, (yield* post(server, "history_remove", body)).status]).toEqual([body, 400])
      }
    })
  )
})
