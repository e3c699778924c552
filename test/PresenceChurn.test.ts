/** Many clients that come and go at random: in the end presence is the truth, and what was told of it was. */
import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as Child from "./support/child.ts"
import { comes, presenceKeys, reads, refreshed, sample, type Shown, startOn } from "./support/clusterPresence.ts"
import * as Http from "./support/http.ts"
import { live } from "./support/it.ts"
import type * as Program from "./support/program.ts"
import * as Redis from "./support/redis.ts"
import type * as Socket from "./support/socket.ts"
import { KEY } from "./support/tokens.ts"
import { eventually, type NeverHappened } from "./support/wait.ts"

const SEED = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 31))

interface Truth extends Child.Message {
  readonly figures: Readonly<Record<string, number>>
  readonly trouble: Readonly<Record<string, number>>
  readonly present: ReadonlyArray<
    Shown & { readonly channels: ReadonlyArray<{ readonly channel: string; readonly chan_info?: unknown }> }
  >
}

/** Who is in a channel in truth, as presence has to show it. */
const truthOf = (channel: string, present: Truth["present"]) => {
  const list = Object.fromEntries(
    present.flatMap(({ channels, ...shown }) =>
      channels
        .filter((one) => one.channel === channel)
        .map(({ chan_info }) => [shown.client, { ...shown, ...(chan_info === undefined ? {} : { chan_info }) }])
    )
  )
  const users = new Set(Object.values(list).map(({ user }) => user))
  return { list, stats: { clients: Object.keys(list).length, users: users.size } }
}

const churnOf = (urls: ReadonlyArray<string>, plan: object) =>
  Child.start("./churn-clients.mjs", {
    urls: urls.map((url) => `${url}/connection/websocket`),
    key: KEY,
    seed: SEED,
    ...plan
  })

/** Waits until all instances together have so many connections. */
const connectionsAre = (instances: ReadonlyArray<Program.Program>, count: number, where: string) =>
  eventually(
    Effect.map(
      Effect.forEach(instances, ({ http }) => Http.metrics(http)),
      (all) => all.reduce((sum, metrics) => sum + (metrics['fanfare_connections{kind="protocol"}'] ?? 0), 0)
    ),
    (open) => open === count,
    `${count} connections; ${where}`
  )

/** Lets it go on until there has been much of it, and presence has been refreshed meanwhile. */
const passes = (churn: Child.Child, rounds: Effect.Effect<void, NeverHappened>) =>
  Effect.raceFirst(Effect.zipRight(rounds, churn.says("enough", "60 seconds")), churn.ends)

describe("500 clients that come and go on three instances, a part of them the same users", () => {
  const CHANNELS = Array.from({ length: 8 }, (_, index) => `room:${index}`)
  const CLIENTS = 500
  const LEAST = { connects: 700, subscribes: 1500, unsubscribes: 700, closes: 100, cuts: 100, inFlight: 40 }

  live(
    `presence is the truth in the end, on every instance, and nothing is left of it after that (SEED=${SEED})`,
    () =>
      Effect.gen(function* () {
        const redis = yield* Redis.start()
        // Of two the rounds of refreshing are in it; what the third leaves behind does not expire here.
        const instances = yield* Effect.forEach(["2s", "3s", "60s"], (interval) => startOn(redis, interval))
        const readers = yield* Effect.forEach(instances, reads)
        const residents = yield* Effect.forEach(instances, (one) => comes(one, "resident", CHANNELS))
        const churn = yield* churnOf(
          instances.map(({ ws }) => ws),
          { channels: CHANNELS, count: CLIENTS, users: 60, ramp: 2000, pause: 2500, isProper: false, least: LEAST }
        )

        // Meanwhile those who stay are in it, on every instance.
        let samples = 0
        const watch = yield* Effect.suspend(() => {
          const channel = CHANNELS[samples % CHANNELS.length] ?? ""
          const reader = readers[samples++ % readers.length]
          return reader === undefined
            ? Effect.void
            : Effect.map(reader.list(channel), (list) => {
                expect(
                  residents.filter(({ id }) => list[id] === undefined).map(({ id }) => [samples, channel, id])
                ).toEqual([])
              })
        }).pipe(Effect.repeat(Schedule.spaced("100 millis")), Effect.fork)
        // The third refreshes nothing here.
        const refreshing = residents.slice(0, 2).map(({ id }) => id)
        const rounds = refreshed(redis, "room:0", refreshing, 6)
        yield* Effect.raceFirst(passes(churn, rounds), Effect.zipRight(Fiber.join(watch), Effect.never))
        yield* Fiber.interrupt(watch)
        churn.send({ type: "stop" })
        const { figures, present, trouble } = yield* churn.says<Truth>("truth", "60 seconds")
        const where = `seed ${SEED}: ${JSON.stringify(figures)}`

        expect([where, trouble]).toEqual([where, {}])
        expect(samples).toBeGreaterThan(20)

        const everybody = [
          ...present,
          ...residents.map(({ id, user }) => ({
            client: id,
            user,
            channels: CHANNELS.map((channel) => ({ channel }))
          }))
        ]
        const truth = CHANNELS.map((channel) => truthOf(channel, everybody))
        const found = ({ list, stats }: (typeof readers)[number]) =>
          Effect.forEach(CHANNELS, (channel) => Effect.all({ list: list(channel), stats: stats(channel) }))
        // Each instance has noticed who has gone: then it has taken them out, too.
        yield* connectionsAre(instances, everybody.length + readers.length, where)
        for (const reader of readers) expect([where, yield* found(reader)]).toEqual([where, truth])
        // And so it stays, over a round of refreshing.
        yield* sample(
          () =>
            Effect.map(Effect.forEach(readers, found, { concurrency: "unbounded" }), (all) => {
              for (const one of all) expect([where, one]).toEqual([where, truth])
              return false
            }),
          3500
        )

        churn.send({ type: "leave" })
        const gone = yield* churn.says<Truth>("gone", "60 seconds")
        expect([where, gone.trouble]).toEqual([where, {}])
        yield* connectionsAre(instances, residents.length + readers.length, where)
        for (const { ask } of residents) {
          for (const channel of CHANNELS) yield* ask("unsubscribe", { channel })
        }
        expect([where, yield* presenceKeys(redis)]).toEqual([where, []])
        // A refresh that came too late on a busy machine is made good by the next one; there is no other trouble.
        const complaints = instances
          .flatMap((instance) => instance.output().split("\n"))
          .filter(
            (line) => / (ERROR|WARN) /.test(line) && !/presence is not refreshed in \d+ calls: .*Timeout/.test(line)
          )
        expect([where, complaints]).toEqual([where, []])
      }),
    150_000
  )
})

describe("50 clients that come and go, and all leave properly", () => {
  const CHANNELS = Array.from({ length: 4 }, (_, index) => `room:${index}`)

  interface News {
    readonly kind: "join" | "leave"
    readonly channel: string
    readonly info: Shown
  }

  /** Joins and leaves that a socket got, in their order. */
  const newsOf = (socket: Socket.Socket): ReadonlyArray<News> =>
    socket.received
      .flatMap((frame) => frame.split("\n"))
      .map((line) => JSON.parse(line).push)
      .flatMap((push): ReadonlyArray<News> => {
        if (push?.join !== undefined) return [{ kind: "join", channel: push.channel, info: push.join.info }]
        if (push?.leave !== undefined) return [{ kind: "leave", channel: push.channel, info: push.leave.info }]
        return []
      })

  live(`an observer hears one leave for each join, behind it, and what it has heard is presence (SEED=${SEED})`, () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const instances = yield* Effect.all([startOn(redis, "1s"), startOn(redis, "1s")])
      const readers = yield* Effect.forEach(instances, reads)
      const observers = yield* Effect.forEach(instances, (one) => comes(one, "observer"))
      for (const { ask } of observers) {
        for (const channel of CHANNELS) yield* ask("subscribe", { channel, join_leave: true })
      }
      const isObserver = (id: string): boolean => observers.some((observer) => observer.id === id)
      const heardBy = ({ socket }: (typeof observers)[number]) =>
        newsOf(socket).filter(({ info }) => !isObserver(info.client))

      const churn = yield* churnOf(
        instances.map(({ ws }) => ws),
        {
          channels: CHANNELS,
          count: 50,
          users: 12,
          ramp: 300,
          pause: 150,
          isProper: true,
          least: { connects: 100, subscribes: 200 }
        }
      )
      const watching = observers.map(({ id }) => id)
      yield* passes(churn, refreshed(redis, "room:0", watching, 3))
      churn.send({ type: "stop" })
      const { figures, present, trouble } = yield* churn.says<Truth>("truth", "60 seconds")
      const where = `seed ${SEED}: ${JSON.stringify(figures)}`
      expect([where, trouble]).toEqual([where, {}])

      /** What an observer holds of a channel after all that it has heard; who leaves is who has come. */
      const pictureOf = (observer: (typeof observers)[number], channel: string) => {
        const picture: Record<string, Shown> = {}
        const wrong: Array<News> = []
        for (const one of heardBy(observer)) {
          if (one.channel !== channel) continue
          const there = picture[one.info.client]
          if (one.kind === "join") {
            if (there !== undefined) wrong.push(one)
            picture[one.info.client] = one.info
          } else {
            if (JSON.stringify(there) !== JSON.stringify(one.info)) wrong.push(one)
            delete picture[one.info.client]
          }
        }
        return { picture, wrong }
      }

      const joins = (observer: (typeof observers)[number]) => heardBy(observer).filter(({ kind }) => kind === "join")
      for (const observer of observers) {
        yield* eventually(
          Effect.sync(() => joins(observer).length),
          (count) => count >= (figures["subscribes"] ?? 0),
          `a join for each subscription; ${where}`
        )
        for (const channel of CHANNELS) {
          const { list } = truthOf(channel, present)
          yield* eventually(
            Effect.sync(() => pictureOf(observer, channel)),
            ({ picture }) => Object.keys(picture).length === Object.keys(list).length,
            `the picture of ${channel}; ${where}`
          )
          expect([where, pictureOf(observer, channel)]).toEqual([where, { picture: list, wrong: [] }])
          for (const reader of readers) {
            const found = Object.entries(yield* reader.list(channel)).filter(([id]) => !isObserver(id))
            expect([where, Object.fromEntries(found)]).toEqual([where, list])
          }
        }
        expect([where, joins(observer).length]).toEqual([where, figures["subscribes"]])
      }

      churn.send({ type: "leave" })
      const gone = yield* churn.says<Truth>("gone", "60 seconds")
      expect([where, gone.trouble]).toEqual([where, {}])
      for (const observer of observers) {
        yield* eventually(
          Effect.sync(() => heardBy(observer).length),
          (count) => count >= 2 * (figures["subscribes"] ?? 0),
          `a leave for each join; ${where}`
        )
        for (const channel of CHANNELS) {
          expect([where, pictureOf(observer, channel)]).toEqual([where, { picture: {}, wrong: [] }])
        }
        // None too many either: what is published comes behind all of it.
        for (const channel of CHANNELS) yield* observer.ask("publish", { channel, data: `end of ${observer.id}` })
        for (const channel of CHANNELS) yield* observer.socket.gets(`"channel":"${channel}","pub":`)
        const all = heardBy(observer)
        expect([where, all.length]).toEqual([where, 2 * (figures["subscribes"] ?? 0)])
      }
    })
  )
})
