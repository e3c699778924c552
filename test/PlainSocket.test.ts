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
