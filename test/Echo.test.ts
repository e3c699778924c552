import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { OPEN, raw, READABLE } from "./support/history.ts"
import { live } from "./support/it.ts"
import { valuesOf } from "./support/metrics.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"

const config = {
  channel: {
    namespaces: [
      { name: "bare", ...OPEN, join_leave: true, force_push_join_leave: true },
      { name: "kept", ...OPEN, ...READABLE, history_size: 100, history_ttl: "1m", force_recovery: true }
    ]
  }
}

describe("no echo", () => {
  for (const name of ["bare:1", "kept:1"]) {
    live(`?echo=0 in ${name}: a plain socket gets everything but its own`, () =>
      Effect.gen(function* () {
        const server = yield* Server.start({ config })
        const url = `${server.ws}/channels/${name}`
        const silent = yield* Socket.open(`${url}?echo=0`)
        const loud = yield* Socket.open(`${url}?echo=1`)
        for (let index = 0; index < 50; index++) {
          silent.send(`s${index}`)
          loud.send(`l${index}`)
        }
        yield* loud.count(100)
        yield* silent.count(50)
        yield* server.publisher.publish(name, "end")
        yield* silent.gets("end")
        expect(silent.received).toEqual([...Array.from({ length: 50 }, (_, index) => `l${index}`), '"end"'])
      })
    )
  }

  live("anything else than 0 or 1 is a bad request", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config })
      for (const echo of ["", "2", "false"]) {
        expect((yield* Socket.refusal(`${server.ws}/channels/bare:1?echo=${echo}`)).status).toBe(400)
      }
    })
  )

  live("granted by onSubscribe: a protocol client gets all but its own, its own join included, and recovers", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config, hooks: { onSubscribe: () => Effect.succeed({ echo: false }) } })
      for (const name of ["bare:2", "kept:2"]) {
        const one = yield* raw(server)
        const other = yield* raw(server)
        yield* one.ask("subscribe", { channel: name })
        yield* other.ask("subscribe", { channel: name })
        yield* one.ask("publish", { channel: name, data: "mine" })
        yield* other.ask("publish", { channel: name, data: "theirs" })
        yield* one.socket.gets('"theirs"')
        yield* other.socket.gets('"mine"')
        const got = one.socket.received.join("\n")
        expect(got).not.toContain('"mine"')
        expect(got).not.toContain(`"join":{"info":{"user":"","client":"${one.connected["client"]}"`)
        if (name === "bare:2")
          expect(got).toContain(`"join":{"info":{"user":"","client":"${other.connected["client"]}"`)
      }
      expect(server.metrics.holes.value).toBe(0)
      expect(valuesOf(server.metrics.insufficient)).toEqual({ overflow: 0, gap: 0 })
    })
  )

  live("holds for what is replayed to the connection that has published it, and nothing is missed", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config, hooks: { onSubscribe: () => Effect.succeed({ echo: false }) } })
      const { ask } = yield* raw(server)
      const { subscribe } = yield* ask("subscribe", { channel: "kept:3" })
      yield* ask("unsubscribe", { channel: "kept:3" })
      yield* ask("publish", { channel: "kept:3", data: "mine" })
      yield* server.publisher.publish("kept:3", "theirs")
      const again = yield* ask("subscribe", { channel: "kept:3", recover: true, epoch: subscribe.epoch })
      expect(again["subscribe"]).toMatchObject({ recovered: true, publications: [{ data: "theirs", offset: 2 }] })
      expect(again["subscribe"].offset).toBe(undefined)
      expect(again["subscribe"].publications.length).toBe(1)
    })
  )
})
