import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { live } from "./support/it.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"

describe("plain socket", () => {
  live("carries every text frame, byte for byte, to every socket of the channel, the sender included", () =>
    Effect.gen(function* () {
      const server = yield* Server.start()
      const one = yield* Socket.open(`${server.ws}/channels/public:lobby`)
      const other = yield* Socket.open(`${server.ws}/channels/public%3Alobby`)
      const stranger = yield* Socket.open(`${server.ws}/channels/public:elsewhere`)
      const texts = ["hello", '{ "n": 1e400,\r\n "n": 12345678901234567890 }', "ünïcödé 🎺", ""]
      for (const text of texts) one.send(text)
      yield* one.count(texts.length)
      yield* other.count(texts.length)
      expect(one.received).toEqual(texts)
      expect(other.received).toEqual(texts)
      stranger.send("end")
      yield* stranger.count(1)
      expect(stranger.received).toEqual(["end"])
    })
  )

  live("?history=N: first the last N publications, in order, then what is published", () =>
    Effect.gen(function* () {
      const server = yield* Server.start()
      const url = `${server.ws}/channels/public:lobby`
      const early = yield* Socket.open(`${url}?history=10`)
      for (const text of ["1", "two", '{"n": 1e400}']) early.send(text)
      yield* early.count(3)
      const cases: ReadonlyArray<readonly [number, ReadonlyArray<string>]> = [
        [0, []],
        [2, ["two", '{"n": 1e400}']],
        [300, ["1", "two", '{"n": 1e400}']]
      ]
      const sockets = yield* Effect.forEach(cases, ([last]) => Socket.open(`${url}?history=${last}`))
      const without = yield* Socket.open(url)
      early.send("end")
      yield* Effect.all([early, without, ...sockets].map((socket) => socket.gets("end")))
      expect(early.received).toEqual(["1", "two", '{"n": 1e400}', "end"])
      expect(without.received).toEqual(["end"])
      expect(sockets.map(({ received }) => received)).toEqual(cases.map(([, texts]) => [...texts, "end"]))
    })
  )

  live("publishes what a client sent right before it left", () =>
    Effect.gen(function* () {
      const server = yield* Server.start()
      const reader = yield* Socket.open(`${server.ws}/channels/public:lobby`)
      const writer = yield* Socket.open(`${server.ws}/channels/public:lobby`)
      for (let index = 0; index < 200; index++) writer.send(String(index))
      writer.ws.close()
      yield* reader.count(200)
      expect(reader.received).toEqual(Array.from({ length: 200 }, (_, index) => String(index)))
    })
  )
})
