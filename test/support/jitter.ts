/**
 * Jitter: stock clients behind a round-robin proxy in front of two instances
 * with a Redis, their sockets cut again and again while messages flow. Each of
 * them must get every message, in order, once.
 *
 * Every client is subscribed before the first message, so each must get all of
 * them. Each is cut exactly `cutsPerClient` times, at random moments: while it
 * is idle, while a message is on its way, while it connects or recovers. The
 * messages are numbered; each is published through one of the instances, and
 * under its idempotency key through the other one where the first did not
 * answer, so that its number is its offset in the stream.
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { type Message, start } from "./child.ts"
import * as Http from "./http.ts"
import * as Program from "./program.ts"
import * as Redis from "./redis.ts"

export interface Plan {
  readonly clients: number
  readonly cutsPerClient: number
  readonly messagesPerSecond: number
  /** How long the cuts take, about; messages flow all the time. */
  readonly seconds: number
  /** How many processes the clients live in. */
  readonly processes: number
  /** Of the random order, moments and kinds of the cuts; how far the clients are at a cut differs from run to run. */
  readonly seed: number
}

const CHANNEL = "jitter:numbers"

const API_KEY = "jitter"

const ENVIRONMENT = {
  FANFARE_HTTP_API_KEY: API_KEY,
  // A replay may be as long as the history: what is tested is that it is whole.
  FANFARE_CLIENT_RECOVERY_MAX_PUBLICATION_LIMIT: "10000",
  FANFARE_CHANNEL_NAMESPACES: JSON.stringify([
    {
      name: "jitter",
      history_size: 10_000,
      history_ttl: "10m",
      force_recovery: true,
      allow_subscribe_for_client: true,
      allow_subscribe_for_anonymous: true
    }
  ])
}

/** In milliseconds. The defaults, 500 and 20,000, would leave clients of 20 cuts offline for most of the test. */
const RECONNECT = { minReconnectDelay: 50, maxReconnectDelay: 500 }

/** A subscription that was lost, and came back. Times are of the shared clock. */
interface Recovery {
  readonly lost: number
  /** When `connect` and `subscribe` were sent; not there where only the subscription was lost. */
  readonly open?: number
  readonly at: number
  /** How many publications came with it. */
  readonly replayed: number
}

/** What one client has seen. */
interface Seen {
  readonly id: number
  /** How many different messages. */
  readonly received: number
  readonly duplicates: number
  readonly outOfOrder: number
  /** Messages whose number is not their offset. */
  readonly misplaced: number
  readonly unrecovered: number
  readonly recoveries: ReadonlyArray<Recovery>
  /** What the SDK told of beyond cut sockets, and how often. */
  readonly trouble: Readonly<Record<string, number>>
}

interface Percentiles {
  readonly p50: number
  readonly p99: number
  readonly max: number
}

export interface Result {
  readonly plan: Plan
  readonly cuts: number
  readonly published: Published
  /** Different messages that clients have got, over all clients. */
  readonly delivered: number
  readonly duplicates: number
  readonly outOfOrder: number
  readonly misplaced: number
  readonly unrecovered: number
  readonly recoveries: number
  readonly replayed: number
  /** Milliseconds from `subscribe` to the reply with what was missed. */
  readonly replay: Percentiles
  /** Milliseconds from the cut to the same, with the SDK's delay before it connects again. */
  readonly outage: Percentiles
  readonly trouble: Readonly<Record<string, number>>
  /** Counters of both instances that are not zero and tell of trouble or recovery. */
  readonly counters: Readonly<Record<string, number>>
}

// ── Processes ──────────────────────────────────────────────────────────────

/** The proxy listens. */
interface Listening extends Message {
  readonly port: number
}

/** The proxy has cut everybody as often as it was to. */
interface Cuts extends Message {
  readonly cuts: ReadonlyArray<readonly [client: number, at: number]>
}

/** The clients tell what they have seen. */
interface Report extends Message {
  readonly seen: ReadonlyArray<Seen>
}

/** For all answers of a process that do not take as long as the plan says. */
const LIMIT = "60 seconds"

// ── The traffic ────────────────────────────────────────────────────────────

interface Published {
  readonly messages: number
  /** Seconds that it took. */
  readonly seconds: number
  /** Publishes that were tried again. */
  readonly retried: number
}

/** Publishes 1, 2, 3 …, one after another, at the pace of the plan, until `isOver`, and one more. */
const publishAll = (
  { messagesPerSecond }: Plan,
  origins: ReadonlyArray<string>,
  isOver: () => boolean
): Effect.Effect<Published, Error> =>
  Effect.gen(function* () {
    const begun = performance.now()
    let number = 0
    let attempts = 0
    const publish = Effect.suspend(() =>
      Http.send(`${origins[attempts++ % origins.length]}/api/publish`, {
        method: "POST",
        headers: { "X-API-Key": API_KEY },
        body: JSON.stringify({ channel: CHANNEL, data: number, idempotency_key: String(number) })
      })
    ).pipe(
      Effect.flatMap(({ body, status }) => {
        const offset = /"offset":(\d+)/.exec(body)?.[1]
        return offset === undefined
          ? Effect.fail(new Error(`publish: ${status} ${body}`))
          : Effect.succeed(Number(offset))
      }),
      Effect.retry({ times: 50, schedule: Schedule.spaced("100 millis") })
    )
    for (let isLast = false; !isLast;) {
      const due = begun + (1000 * number) / messagesPerSecond
      yield* Effect.sleep(Math.max(0, due - performance.now()))
      isLast = isOver()
      number++
      const offset = yield* publish
      if (offset !== number) yield* Effect.fail(new Error(`message ${number} has offset ${offset}`))
    }
    return { messages: number, seconds: (performance.now() - begun) / 1000, retried: attempts - number }
  })

// ── The figures ────────────────────────────────────────────────────────────

const percentiles = (values: ReadonlyArray<number>): Percentiles => {
  const sorted = values.toSorted((one, other) => one - other)
  const at = (part: number): number => sorted[Math.max(0, Math.ceil(part * sorted.length) - 1)] ?? Number.NaN
  return { p50: at(0.5), p99: at(0.99), max: at(1) }
}

/** From the first cut that a recovery has mended to its end. */
const outages = ({ id, recoveries }: Seen, cuts: Cuts["cuts"]): ReadonlyArray<number> => {
  const own = cuts.filter(([client]) => client === id).map(([, at]) => at)
  return recoveries.map(({ at, lost }, index) => {
    const since = recoveries[index - 1]?.at ?? 0
    return at - Math.min(lost, own.find((cut) => cut > since && cut < at) ?? lost)
  })
}

const sum = <A>(items: ReadonlyArray<A>, value: (item: A) => number): number =>
  items.reduce((total, item) => total + value(item), 0)

const tally = (counts: ReadonlyArray<Readonly<Record<string, number>>>): Record<string, number> => {
  const total: Record<string, number> = {}
  for (const [name, count] of counts.flatMap(Object.entries)) total[name] = (total[name] ?? 0) + count
  return total
}

const COUNTERS = /^fanfare_(recoveries|insufficient|dropped|holes|healed|gaps|disconnects|refused|broker_link_losses)/

const countersOf = (origins: ReadonlyArray<string>) =>
  Effect.map(Effect.forEach(origins, Http.metrics), (all) =>
    Object.fromEntries(Object.entries(tally(all)).filter(([name, value]) => value !== 0 && COUNTERS.test(name)))
  )

/** Runs the scenario. */
export const run = (plan: Plan): Effect.Effect<Result, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const redis = yield* Redis.start()
    const instances = yield* Effect.replicateEffect(Program.start({ env: { ...ENVIRONMENT, REDIS_URL: redis.url } }), 2)
    const origins = instances.map(({ http }) => http)
    const proxy = yield* start("./jitter-proxy.mjs", { ...plan, ports: instances.map(({ port }) => port) })
    const { port } = yield* proxy.says<Listening>("listening", LIMIT)

    const url = `ws://127.0.0.1:${port}/connection/websocket`
    const each = Math.ceil(plan.clients / plan.processes)
    const groups = yield* Effect.forEach(
      Array.from({ length: plan.processes }, (_, index) => index * each),
      (first) => {
        const count = Math.min(each, plan.clients - first)
        return start("./jitter-clients.mjs", { url, channel: CHANNEL, first, count, ...RECONNECT })
      }
    )
    const scenario = Effect.gen(function* () {
      const tell = (message: Message & Record<string, unknown>): void => {
        for (const group of groups) group.send(message)
      }
      const allSay = <M extends Message>(type: M["type"]) =>
        Effect.forEach(groups, (group) => group.says<M>(type, LIMIT))

      yield* allSay("subscribed")
      proxy.send({ type: "begin" })
      let isOver = false
      const cutting = Effect.tap(proxy.says<Cuts>("cut", `${4 * plan.seconds} seconds`), () => {
        isOver = true
      })
      const publishing = publishAll(plan, origins, () => isOver)
      const [{ cuts }, published] = yield* Effect.all([cutting, publishing], { concurrency: "unbounded" })
      tell({ type: "expect", last: published.messages })
      // Who has not got the last one by then shows in the figures.
      const late = yield* Effect.either(allSay("done"))
      tell({ type: "report" })
      const seen = (yield* allSay<Report>("report")).flatMap((report) => report.seen)
      return { cuts, published, seen, late: late._tag === "Left" ? [late.left.message] : [] }
    })
    const crashes = Effect.forEach([proxy, ...groups], ({ ends }) => ends, { concurrency: "unbounded" })
    const { cuts, late, published, seen } = yield* Effect.raceFirst(scenario, Effect.zipRight(crashes, Effect.never))
    const counters = yield* countersOf(origins)

    const recoveries = seen.flatMap((one) => one.recoveries)
    return {
      plan,
      cuts: cuts.length,
      published,
      delivered: sum(seen, ({ received }) => received),
      duplicates: sum(seen, ({ duplicates }) => duplicates),
      outOfOrder: sum(seen, ({ outOfOrder }) => outOfOrder),
      misplaced: sum(seen, ({ misplaced }) => misplaced),
      unrecovered: sum(seen, ({ unrecovered }) => unrecovered),
      recoveries: recoveries.length,
      replayed: sum(recoveries, ({ replayed }) => replayed),
      replay: percentiles(recoveries.flatMap(({ at, open }) => (open === undefined ? [] : [at - open]))),
      outage: percentiles(seen.flatMap((one) => outages(one, cuts))),
      trouble: tally([...seen.map(({ trouble }) => trouble), ...late.map((what) => ({ [what]: 1 }))]),
      counters
    }
  })

/** What must not be: empty where each client got every message, in order, once. */
export const violations = ({ plan, ...result }: Result): ReadonlyArray<string> => {
  const expected: ReadonlyArray<readonly [name: string, value: number, expected: number]> = [
    ["delivered", result.delivered, plan.clients * result.published.messages],
    ["out of order", result.outOfOrder, 0],
    ["duplicates", result.duplicates, 0],
    ["misplaced", result.misplaced, 0],
    ["unrecovered", result.unrecovered, 0],
    ["unrecovered, as the instances say", result.counters['fanfare_recoveries_total{result="unrecovered"}'] ?? 0, 0],
    ["cuts", result.cuts, plan.clients * plan.cutsPerClient]
  ]
  return expected
    .filter(([, value, right]) => value !== right)
    .map(([name, value, right]) => `${name}: ${value}, not ${right}`)
}

const milliseconds = ({ p50, p99, max }: Percentiles): string =>
  `p50 ${p50.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms, max ${max.toFixed(1)} ms`

/** The figures, for people. */
export const summary = ({ plan, ...result }: Result): string => {
  const { messages, retried, seconds } = result.published
  const expected = plan.clients * messages
  const percent = (100 * result.delivered) / expected
  return [
    `jitter: ${plan.clients} clients, ${result.cuts} cuts, ${messages} messages: delivered ${percent === 100 ? "100" : percent.toFixed(4)} %, out of order ${result.outOfOrder}, duplicates ${result.duplicates}, unrecovered ${result.unrecovered}, replay ${milliseconds(result.replay)}`,
    `  seed ${plan.seed}; ${(messages / seconds).toFixed(1)} messages/s for ${seconds.toFixed(1)} s, ${retried} publishes tried again; ${result.delivered} of ${expected} deliveries; ${result.recoveries} recoveries replayed ${result.replayed}; outage ${milliseconds(result.outage)}`,
    `  clients: ${JSON.stringify(result.trouble)}; instances: ${JSON.stringify(result.counters)}`,
    ""
  ].join("\n")
}

/** Runs the scenario, prints its figures and returns what must not be. `JITTER_SEED` sets the seed. */
export const check = (plan: Omit<Plan, "seed">): Effect.Effect<ReadonlyArray<string>, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const seed = Number(process.env["JITTER_SEED"] ?? Math.floor(Math.random() * 2 ** 32))
    process.stdout.write(`jitter: seed ${seed}\n`)
    const result = yield* run({ ...plan, seed })
    process.stdout.write(summary(result))
    return violations(result)
  })
