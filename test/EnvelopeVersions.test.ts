/** Instances of neighbouring versions share a Redis during a rolling upgrade: what each publishes the other one reads. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as FastCheck from "effect/FastCheck"
import * as Envelope from "../src/Broker/Envelope.ts"
import type { Publication } from "../src/protocol/Publication.ts"
import * as Old from "./fixtures/envelope-v1.ts"
import { ENVELOPES, SPLICED } from "./fixtures/envelopes-v1.ts"
import { raw } from "./support/history.ts"
import { live } from "./support/it.ts"
import { Reader } from "./support/reader.ts"
import { info, publication } from "./support/publications.ts"
import * as Redis from "./support/redis.ts"
import * as Socket from "./support/socket.ts"
import { token } from "./support/tokens.ts"
import { pushes, startOn } from "./support/versions.ts"
import { Watched } from "./support/wait.ts"

const news: FastCheck.Arbitrary<Publication> = FastCheck.record({
  kind: FastCheck.constantFrom("join", "leave"),
  data: FastCheck.constant(""),
  json: FastCheck.constant(true),
  info
})

describe("an envelope between version 1 and this one", () => {
  it.each([...ENVELOPES, SPLICED])("that was recorded is read: $text", ({ text, publication }) => {
    expect(Envelope.decode(text)).toEqual(Either.right(publication))
    // The copy of the old codec is one.
    expect(Old.decode(text)).toEqual(Either.right(publication))
  })

  it.each(ENVELOPES)("that was recorded is what this version writes: $text", ({ text, publication }) => {
    expect(Envelope.encode(publication)).toBe(text)
  })

  it.prop("is read by the old one as this one wrote it", [publication], ([publication]) => {
    expect(Old.decode(Envelope.encode(publication))).toEqual(Either.right(publication))
  })

  it.prop("is read by this one as the old one wrote it", [publication], ([publication]) => {
    expect(Envelope.decode(Old.encode(publication))).toEqual(Either.right(publication))
  })

  it.prop("of a join or a leave is refused by the old one, not taken for a publication", [news], ([one]) => {
    expect(Old.decode(Envelope.encode(one))).toEqual(Either.left("version 2 is newer than 1"))
    expect(Envelope.decode(Envelope.encode(one))).toEqual(Either.right(one))
  })
})

/** An instance of version 1 by hand: what it hears of channels, read with its own codec. */
const oldInstance = (redis: Redis.Redis, channels: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const ears = yield* Redis.client(redis)
    const hands = yield* Redis.client(redis)
    const watched = new Watched()
    const heard: Array<readonly [channel: string, Either.Either<Publication, string>]> = []
    ears.on("message", (topic: string, payload: string) => {
      heard.push([topic.slice("fanfare:pub:".length), Old.decode(payload)])
      watched.changed()
    })
    yield* Effect.promise(() => ears.subscribe(...channels.map((channel) => `fanfare:pub:${channel}`)))
    return {
      heard,
      hears: (count: number) =>
        watched.until(
          () => heard.length >= count,
          () => `the old instance hears ${count}; it has heard ${heard.length}`
        ),
      publish: (channel: string, envelope: string) =>
        Effect.promise(() => hands.publish(`fanfare:pub:${channel}`, envelope)),
      /** What its script does in a channel with history. */
      append: (channel: string, publication: Publication) =>
        Effect.promise(async () => {
          const [meta, stream] = [`fanfare:meta:{${channel}}`, `fanfare:stream:{${channel}}`]
          const [epoch, before] = await hands.hmget(meta, "epoch", "offset")
          const offset = Number(before) + 1
          const envelope = Old.encode(publication)
          const spliced = `{"epoch":"${epoch}","offset":${offset},${envelope.slice(1)}`
          await hands
            .multi()
            .xadd(stream, "MAXLEN", 10, `${offset}-0`, "e", envelope)
            .hset(meta, "offset", offset)
            .publish(`fanfare:pub:${channel}`, spliced)
            .exec()
        }),
      /** The stream of a channel, as it reads it. */
      stream: (channel: string) =>
        Effect.promise(async () => {
          const entries = await hands.xrange(`fanfare:stream:{${channel}}`, "-", "+")
          return entries.map(([id, fields]) => [id, Old.decode(fields[1] ?? "")] as const)
        })
    }
  })

describe("an instance of version 1 and one of this version over one Redis", () => {
  live("publications arrive in both directions; joins, leaves and what is newer are passed over", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const server = yield* startOn(redis)
      const old = yield* oldInstance(redis, ["bare:x", "room:x"])
      const ada = yield* raw(server, { token: token({ sub: "ada", info: { n: 1 } }) })
      yield* ada.ask("subscribe", { channel: "bare:x" })
      const plain = yield* Socket.open(`${server.ws}/channels/bare:x`)

      // From the old one.
      const sent = ENVELOPES.filter(({ publication }) => publication.offset === undefined)
      for (const { text } of sent) yield* old.publish("bare:x", text)
      yield* old.publish("bare:x", '{"v":3,"kind":"survey"}\n{}')
      yield* old.publish("bare:x", Old.encode({ data: '"end"', json: true, tags: { lang: "en" } }))
      yield* plain.gets('"end"')
      expect(plain.received).toEqual([...sent.map(({ publication }) => publication.data), '"end"'])
      yield* ada.socket.gets('"end"')
      expect(pushes(ada.socket, "bare:x")).toEqual(
        [
          { data: 1 },
          { data: "hello" },
          { data: "" },
          { data: { text: "hi" }, info: { client: "0fd5a8b7-0b2c-4a4a-9d59-1c6a2f0e7d11", user: "" } },
          { data: "\n", tags: { "": "", join: "leave" } },
          { data: "end", tags: { lang: "en" } }
        ].map((pub) => ({ channel: "bare:x", pub }))
      )
      expect(server.metrics.dropped.undecodable.value).toBe(1)

      // From the new one.
      // What it has sent itself it hears, too.
      const before = sent.length + 2
      yield* old.hears(before)
      yield* ada.ask("publish", { channel: "bare:x", data: { n: 1 } })
      plain.send("not JSON")
      yield* plain.gets("not JSON")
      yield* server.publisher.publish("bare:x", [2], { tags: { lang: "de" } })
      yield* old.hears(before + 3)
      const info = { client: ada.connected["client"], user: "ada", connInfo: '{"n":1}' }
      expect(old.heard.slice(before).map(([, read]) => Either.getOrThrow(read))).toEqual([
        { data: '{"n":1}', json: true, info },
        { data: "not JSON", json: false, info: { client: expect.any(String), user: "" } },
        { data: "[2]", json: true, tags: { lang: "de" } }
      ])

      // Who is in a channel is news that the old one does not know, and does not show as a publication.
      yield* ada.ask("subscribe", { channel: "room:x", join_leave: true })
      yield* ada.ask("publish", { channel: "room:x", data: "between" })
      yield* ada.ask("unsubscribe", { channel: "room:x" })
      yield* old.hears(before + 6)
      const inRoom = old.heard.filter(([channel]) => channel === "room:x").map(([, read]) => read)
      expect(inRoom).toEqual([
        Either.left("version 2 is newer than 1"),
        Either.right({ data: '"between"', json: true, info }),
        Either.left("version 2 is newer than 1")
      ])
    })
  )

  live("a channel with history is one stream for both", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const server = yield* startOn(redis)
      const old = yield* oldInstance(redis, ["kept:x"])
      const reader = yield* Effect.acquireRelease(
        Effect.sync(() => new Reader("kept:x")),
        (reader) => reader.disconnect
      )
      const { epoch } = yield* reader.connect(server.ws)
      yield* server.publisher.publish("kept:x", "new 1", { tags: { by: "new" } })
      yield* old.append("kept:x", { data: '"old 2"', json: true, tags: { by: "old" } })
      yield* old.append("kept:x", { data: "old 3", json: false, info: { client: "c1", user: "" } })
      yield* server.publisher.publish("kept:x", "new 4")
      yield* reader.until(() => reader.position?.offset === 4, "all four")
      expect([reader.log, reader.violations, reader.ended]).toEqual([["new 1", "old 2", "old 3", "new 4"], [], []])
      expect([server.metrics.holes.value, server.metrics.dropped.undecodable.value]).toEqual([0, 0])

      const written = [
        { data: '"new 1"', json: true, tags: { by: "new" } },
        { data: '"old 2"', json: true, tags: { by: "old" } },
        { data: "old 3", json: false, info: { client: "c1", user: "" } },
        { data: '"new 4"', json: true }
      ]
      yield* old.hears(4)
      expect(old.heard.map(([, read]) => Either.getOrThrow(read))).toEqual(
        written.map((one, index) => ({ ...one, epoch, offset: index + 1 }))
      )
      expect(yield* old.stream("kept:x")).toEqual(written.map((one, index) => [`${index + 1}-0`, Either.right(one)]))

      // Whoever comes back gets both kinds.
      const late = new Reader("kept:x")
      late.position = { epoch, offset: 0 }
      expect((yield* late.connect(server.ws)).recovered).toBe(true)
      expect([late.log, late.violations]).toEqual([["new 1", "old 2", "old 3", "new 4"], []])
      yield* late.disconnect
    })
  )
})
