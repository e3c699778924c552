import { describe, expect } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as Child from "./support/child.ts"
import { OPEN, raw } from "./support/history.ts"
import * as Http from "./support/http.ts"
import { live } from "./support/it.ts"
import * as Program from "./support/program.ts"
import * as Redis from "./support/redis.ts"
import * as Socket from "./support/socket.ts"
import { KEY, token } from "./support/tokens.ts"
import { eventually } from "./support/wait.ts"
import type { Json } from "./support/json.ts"

const NAMESPACES = [{ name: "room", ...OPEN, presence: true, join_leave: true, allow_presence_for_client: true }]

/** Instances in processes of their own, over one Redis. */
const startOn = (redis: Redis.Redis, interval: string) =>
  Program.start({
    env: {
      REDIS_URL: redis.url,
      FANFARE_CHANNEL_NAMESPACES: JSON.stringify(NAMESPACES),
      FANFARE_CLIENT_PRESENCE_UPDATE_INTERVAL: interval,
      FANFARE_CLIENT_TOKEN_HMAC_SECRET_KEY: KEY,
      FANFARE_CLIENT_ALLOW_ANONYMOUS_CONNECT_WITHOUT_TOKEN: "true",
      FANFARE_CLIENT_PING_INTERVAL: "5s"
    }
  })

const credentials = (user: string): object => (user === "" ? {} : { token: token({ sub: user }) })

/** A client that answers pings, and is in channels. */
const comes = (at: Pick<Program.Program, "ws">, user: string, channels: ReadonlyArray<string> = []) =>
  Effect.gen(function* () {
    const client = yield* raw(at, credentials(user))
    client.socket.ws.on("message", (data) => {
      if (String(data).split("\n").includes("{}")) client.socket.send("{}")
    })
    const ask = (method: string, params: object) => Effect.raceFirst(client.ask(method, params), client.socket.lost)
    for (const channel of channels) yield* ask("subscribe", { channel })
    return { ...client, ask, id: String(client.connected["client"]), user }
  })

interface Shown {
  readonly client: string
  readonly user?: string
  readonly conn_info?: unknown
  readonly chan_info?: unknown
}

class Unanswered extends Data.TaggedError("Unanswered")<{ readonly isTemporary: boolean; readonly message: string }> {}

/** What a client that may read presence sees on its instance. */
const reads = (at: Pick<Program.Program, "ws">) =>
  Effect.map(comes(at, "reader"), ({ ask }) => {
    /** Too much to do for the moment is no answer; on a busy machine it is asked again. */
    const succeeded = (reply: Record<string, Json>, method: string) =>
      reply[method] === undefined
        ? Effect.fail(
            new Unanswered({ isTemporary: reply["error"]?.temporary === true, message: JSON.stringify(reply) })
          )
        : Effect.succeed(reply[method] as Record<string, Json>)
    const answered = <A, E>(asked: Effect.Effect<A, E | Unanswered>) =>
      Effect.retry(asked, { while: (error) => error instanceof Unanswered && error.isTemporary, times: 5 })
    return {
      list: (channel: string) =>
        answered(
          Effect.flatMap(ask("presence", { channel }), (reply) =>
            Effect.map(succeeded(reply, "presence"), ({ presence }) => presence as Readonly<Record<string, Shown>>)
          )
        ),
      stats: (channel: string) =>
        answered(
          Effect.flatMap(ask("presence_stats", { channel }), (reply) =>
            Effect.map(succeeded(reply, "presence_stats"), ({ num_clients = 0, num_users = 0 }) => ({
              clients: num_clients as number,
              users: num_users as number
            }))
          )
        )
    }
  })

const presenceKeys = (redis: Redis.Redis) =>
  Effect.map(
    redis.use((client) => client.keys("*")),
    (keys) => keys.filter((key) => key.startsWith("fanfare:presence"))
  )

/** Looks again and again, with milliseconds since it began; ends where `look` says so. */
const sample = <E>(look: (elapsed: number) => Effect.Effect<boolean, E>, limit: number) =>
  Effect.gen(function* () {
    const begun = yield* Clock.currentTimeMillis
    const elapsed = Effect.map(Clock.currentTimeMillis, (now) => now - begun)
    yield* Effect.repeat(
      Effect.gen(function* () {
        const before = yield* elapsed
        return (yield* look(before)) || (yield* elapsed) > limit
      }),
      { until: (isOver) => isOver, schedule: Schedule.spaced("20 millis") }
    )
    return yield* elapsed
  })

const sorted = (ids: Iterable<string>): ReadonlyArray<string> => Array.from(ids).toSorted()

const INTERVAL = 1000

/** What a sample and a timer may take, on a busy machine. */
const MARGIN = 500

describe("the clients of an instance", () => {
  const setting = Effect.gen(function* () {
    const redis = yield* Redis.start()
    const [victim, other] = yield* Effect.all([startOn(redis, "1s"), startOn(redis, "1s")])
    const both = ["room:both", "room:more"]
    const gone = yield* Effect.forEach(["ada", "ada", "bob", "bob", "cleo", "dan", "", ""], (user) =>
      comes(victim, user, [...both, "room:gone"])
    )
    const stay = yield* Effect.forEach(["ada", "bob", "eve", ""], (user) => comes(other, user, both))
    const reader = yield* reads(other)
    const ids = (all: ReadonlyArray<{ readonly id: string }>) => sorted(all.map(({ id }) => id))
    const seen = Effect.map(
      Effect.all({ list: reader.list("room:both"), stats: reader.stats("room:both") }),
      ({ list, stats }) => ({ list: sorted(Object.keys(list)), stats })
    )
    return {
      redis,
      victim,
      reader,
      seen,
      all: { list: ids([...gone, ...stay]), stats: { clients: 12, users: 6 } },
      rest: { list: ids(stay), stats: { clients: 4, users: 4 } }
    }
  })

  live("that is killed are out of presence in twice the interval; everybody else is in it throughout", () =>
    Effect.gen(function* () {
      const { all, reader, redis, rest, seen, victim } = yield* setting
      // Nobody expires while both live.
      const steady = sample(
        () =>
          Effect.map(seen, (now) => {
            expect(now).toEqual(all)
            return false
          }),
        2.5 * INTERVAL
      )
      yield* steady

      victim.signal("SIGKILL")
      const took = yield* sample(
        () =>
          Effect.map(seen, (now) => {
            expect(rest.list.filter((id) => !now.list.includes(id))).toEqual([])
            expect(now.list.filter((id) => !all.list.includes(id))).toEqual([])
            expect(now.stats.clients).toBeGreaterThanOrEqual(rest.stats.clients)
            expect(now.stats.users).toBeGreaterThanOrEqual(rest.stats.users)
            return now.list.length === rest.list.length && now.stats.clients === rest.stats.clients
          }),
        10 * INTERVAL
      )
      expect(took).toBeLessThan(2 * INTERVAL + MARGIN)
      // Those that it had refreshed last were not taken for gone at once.
      expect(took).toBeGreaterThan(INTERVAL - MARGIN)
      expect(yield* victim.exit).toEqual({ code: null, signal: "SIGKILL" })
      yield* sample(
        () =>
          Effect.map(seen, (now) => {
            expect(now).toEqual(rest)
            return false
          }),
        1.5 * INTERVAL
      )
      expect([yield* reader.list("room:gone"), yield* reader.stats("room:gone")]).toEqual([
        {},
        { clients: 0, users: 0 }
      ])
      expect((yield* presenceKeys(redis)).filter((key) => key.includes("room:gone"))).toEqual([])
    })
  )

  live("that is stopped for longer, and goes on, are in presence again within an interval", () =>
    Effect.gen(function* () {
      const { all, rest, seen, victim } = yield* setting
      victim.signal("SIGSTOP")
      yield* eventually(seen, ({ stats }) => stats.clients === rest.stats.clients, "they are out")
      expect(yield* seen).toEqual(rest)
      victim.signal("SIGCONT")
      const took = yield* sample(
        () => Effect.map(seen, ({ stats }) => stats.clients === all.stats.clients),
        10 * INTERVAL
      )
      expect(took).toBeLessThan(INTERVAL + MARGIN)
      expect(yield* seen).toEqual(all)
    })
  )

  live("that is shut down are out of presence when it is gone, and leave nothing behind", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      // An interval that does not come to an end here.
      const [victim, other] = yield* Effect.all([startOn(redis, "25s"), startOn(redis, "25s")])
      yield* Effect.forEach(Array.from({ length: 50 }), (_, index) =>
        comes(victim, index % 2 === 0 ? "" : `user-${index % 10}`, ["room:a", `room:${index % 5}`])
      )
      const one = yield* comes(other, "ada", ["room:a"])
      const reader = yield* reads(other)
      expect(yield* reader.stats("room:a")).toEqual({ clients: 51, users: 7 })
      victim.signal("SIGTERM")
      expect(yield* victim.exit).toEqual({ code: 0, signal: null })
      expect(yield* reader.list("room:a")).toEqual({ [one.id]: { client: one.id, user: "ada" } })
      expect(yield* reader.stats("room:a")).toEqual({ clients: 1, users: 1 })
      expect((yield* presenceKeys(redis)).filter((key) => !key.includes("{room:a}"))).toEqual([])
      yield* one.ask("unsubscribe", { channel: "room:a" })
      expect(yield* presenceKeys(redis)).toEqual([])
    })
  )
})

// ── Churn ────────────────────────────────────────────────────────────────────

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
    present.flatMap(({ channels, user, ...shown }) =>
      channels
        .filter((one) => one.channel === channel)
        .map(({ chan_info }) => [
          shown.client,
          { ...shown, ...(user === "" ? {} : { user }), ...(chan_info === undefined ? {} : { chan_info }) }
        ])
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

/** Lets it go on: the pace of the traffic is the subject. On a slow machine longer, until there has been much. */
const passes = (churn: Child.Child, duration: Duration.DurationInput) =>
  Effect.raceFirst(Effect.zipRight(Effect.sleep(duration), churn.says("enough", "60 seconds")), churn.ends)

describe("500 clients that come and go on three instances for 20 s, a part of them the same users", () => {
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
        yield* Effect.raceFirst(passes(churn, "20 seconds"), Effect.zipRight(Fiber.join(watch), Effect.never))
        yield* Fiber.interrupt(watch)
        churn.send({ type: "stop" })
        const { figures, present, trouble } = yield* churn.says<Truth>("truth", "20 seconds")
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
        const gone = yield* churn.says<Truth>("gone", "20 seconds")
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

describe("50 clients that come and go for 3 s, and all leave properly", () => {
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
      yield* passes(churn, "3 seconds")
      churn.send({ type: "stop" })
      const { figures, present, trouble } = yield* churn.says<Truth>("truth", "20 seconds")
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
      const gone = yield* churn.says<Truth>("gone", "20 seconds")
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
