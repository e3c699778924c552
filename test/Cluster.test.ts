import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { createHash } from "node:crypto"
import * as Http from "./support/http.ts"
import { live } from "./support/it.ts"
import { valuesOf } from "./support/metrics.ts"
import * as Program from "./support/program.ts"
import * as Redis from "./support/redis.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"
import * as Subscribers from "./support/subscribers.ts"
import { eventually } from "./support/wait.ts"

const PADDING = ` ${"x".repeat(115)}`

describe("two instances and a Redis", () => {
  live(
    "10,000 messages from 4 publishers on both instances reach 50 subscribers on each, once, all in one order",
    () =>
      Effect.gen(function* () {
        const redis = yield* Redis.start()
        const env = { REDIS_URL: redis.url }
        const a = yield* Program.start({ env })
        const b = yield* Program.start({ env })
        const path = "/channels/public:lobby"
        const urls = [a.ws + path, b.ws + path]
        const subscribers = yield* Subscribers.open(urls, 50, 10_000)
        // The publishers are subscribers too: each message's own order is checked on one of them.
        const order: Array<string> = []
        const publishers = yield* Effect.all([
          Socket.open(urls[0] ?? "", { onText: (text) => order.push(text.slice(0, text.indexOf(" ") + 1)) }),
          ...[urls[1] ?? "", urls[0] ?? "", urls[1] ?? ""].map((url) => Socket.open(url, { onText: () => undefined }))
        ])
        for (const [index, publisher] of publishers.entries()) {
          for (let number = 0; number < 2500; number++) publisher.send(`${index}:${number}${PADDING}`)
        }
        const results = yield* Effect.raceFirst(
          subscribers.done,
          // A publisher that the server closes has not sent everything.
          Effect.raceAll(publishers.map((publisher) => publisher.lost))
        )
        yield* eventually(
          Effect.sync(() => order.length),
          (length) => length >= 10_000,
          "the publisher has everything, too"
        )
        // Exactly once, and each publisher's in the order sent.
        expect(new Set(order).size).toBe(10_000)
        for (const index of publishers.keys()) {
          const own = order.filter((text) => text.startsWith(`${index}:`))
          expect(own).toEqual(Array.from({ length: 2500 }, (_, number) => `${index}:${number} `))
        }
        const hash = createHash("sha1")
        for (const text of order) hash.update(text)
        const digest = hash.digest("hex")
        expect(results.length).toBe(100)
        expect(results.filter(({ count }) => count !== 10_000)).toEqual([])
        expect(results.filter((result) => result.order !== digest)).toEqual([])
        // Nothing more comes after it.
        expect((yield* subscribers.report).filter(({ count }) => count !== 10_000)).toEqual([])
      }),
    120_000
  )
})

describe("a burst larger than a mailbox", () => {
  for (const name of ["memory", "redis"] as const) {
    live(
      `5,000 publications in one go to 200 subscribers that keep up, over ${name}: all delivered, nobody dropped`,
      () =>
        Effect.gen(function* () {
          const config = name === "redis" ? { redis_url: (yield* Redis.start()).url } : {}
          const server = yield* Server.start({ config })
          const subscribers = yield* Subscribers.open([`${server.ws}/channels/public:burst`], 200, 5000)
          const payload = (index: number): string => `${index} ${"x".repeat(128)}`.slice(0, 126)
          yield* Effect.forEach(
            Array.from({ length: 5000 }, (_, index) => payload(index)),
            (data) => server.publisher.publish("public:burst", data),
            // As many at a time as a mailbox holds twice: more of them wait in Redis past their deadline on a slow machine.
            { concurrency: 512, discard: true }
          )
          const results = yield* subscribers.done
          expect(results.length).toBe(200)
          expect(results.filter(({ count, closed }) => count !== 5000 || closed !== undefined)).toEqual([])
          expect(new Set(results.map(({ order }) => order)).size).toBe(1)
          expect(valuesOf(server.metrics.dropped)).toEqual({
            mailbox_full: 0,
            connection_closed: 0,
            undecodable: 0,
            gap: 0
          })
          // The channel has history: nobody was told of a gap either, and none had to be filled.
          expect(valuesOf(server.metrics.insufficient)).toEqual({ overflow: 0, gap: 0 })
          expect(server.metrics.holes.value).toBe(0)
          const figures = Object.entries(yield* Http.metrics(server.http))
          expect(figures.filter(([name, value]) => name.startsWith("fanfare_disconnects_total") && value > 0)).toEqual(
            []
          )
          expect(server.metrics.deliveries.value).toBe(1_000_000)
        }),
      90_000
    )
  }
})
