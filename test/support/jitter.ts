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
import { fork } from "node:child_process"
import { fileURLToPath } from "node:url"
import { clock } from "./clock.ts"
import * as Http from "./http.ts"
import * as Program from "./program.ts"
import { generator } from "./random.ts"
import * as Redis from "./redis.ts"
import * as RoundRobin from "./roundrobin.ts"
import { NeverHappened, Watched } from "./wait.ts"

export interface Plan {
  readonly clients: number
  readonly cutsPerClient: number
  readonly messagesPerSecond: number
  /** How long the cuts take, about; messages flow all the time. */
  readonly seconds: number
  /** How many processes the clients live in. */
  readonly processes: number
  /** Repeats who is cut, in which order and how. */
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
  readonly messages: number
  /** Publishes that were tried again. */
  readonly retried: number
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

// ── The clients ────────────────────────────────────────────────────────────

interface Clients {
  /** Waits until all of them are subscribed. */
  readonly subscribed: Effect.Effect<void, NeverHappened>
  /** Waits until each of them has got the message with the last number. */
  readonly haveGot: (last: number) => Effect.Effect<void, NeverHappened>
  readonly report: Effect.Effect<ReadonlyArray<Seen>, NeverHappened>
}

interface Message {
  readonly type: "subscribed" | "done" | "report"
  readonly seen?: ReadonlyArray<Seen>
}

/** A process of clients; it ends with the scope. */
const startClients = (port: number, first: number, count: number): Effect.Effect<Clients, never, Scope.Scope> =>
  Effect.gen(function* () {
    const watched = new Watched()
    const messages: Array<Message> = []
    let exited = false
    const script = fileURLToPath(new URL("./jitter-clients.mjs", import.meta.url))
    const url = `ws://127.0.0.1:${port}/connection/websocket`
    const plan = JSON.stringify({ url, channel: CHANNEL, first, count, ...RECONNECT })
    const child = yield* Effect.acquireRelease(
      Effect.sync(() => fork(script, [plan], { execArgv: [] })),
      (process) =>
        Effect.zipRight(
          Effect.sync(() => process.kill("SIGKILL")),
          Effect.orDie(watched.until(() => exited, "the clients end"))
        )
    )
    child.on("message", (message: Message) => {
      messages.push(message)
      watched.changed()
    })
    child.on("close", () => {
      exited = true
      watched.changed()
    })
    const next = (type: Message["type"]) =>
      Effect.suspend(() => {
        const found = (): Message | undefined => messages.find((message) => message.type === type)
        return Effect.flatMap(
          watched.until(() => exited || found() !== undefined, `clients say ${type}`, "60 seconds"),
          () => Effect.mapError(Effect.fromNullable(found()), () => new NeverHappened({ message: "the clients ended" }))
        )
      })
    return {
      subscribed: Effect.asVoid(next("subscribed")),
      haveGot: (last) =>
        Effect.suspend(() => {
          child.send({ type: "expect", last })
          return Effect.asVoid(next("done"))
        }),
      report: Effect.suspend(() => {
        child.send({ type: "report" })
        return Effect.map(next("report"), ({ seen }) => seen ?? [])
      })
    }
  })

// ── The traffic and the cuts ───────────────────────────────────────────────

/** Runs `step` again and again, at the moments that `interval` (ms) spaces, until it is done; late ones at once. */
const paced = <E>(interval: () => number, step: Effect.Effect<"more" | "done", E>): Effect.Effect<void, E> =>
  Effect.suspend(() => {
    let due = clock()
    const next: Effect.Effect<"more" | "done", E> = Effect.suspend(() => {
      due += interval()
      return Effect.zipRight(Effect.sleep(Math.max(0, due - clock())), step)
    })
    return Effect.asVoid(Effect.repeat(next, { until: (state) => state === "done" }))
  })

/** Cuts every client so often, in random order, at random moments, in random ways. */
const cutAll = ({ clients, cutsPerClient, seconds, seed }: Plan, proxy: RoundRobin.RoundRobin): Effect.Effect<void> =>
  Effect.suspend(() => {
    const random = generator(seed)
    const below = (bound: number): number => Math.floor(random() * bound)
    const due = Array.from({ length: clients * cutsPerClient }, (_, index) => index % clients)
    const swap = (one: number, other: number): void => {
      const kept = due[one] ?? 0
      due[one] = due[other] ?? 0
      due[other] = kept
    }
    for (let index = due.length - 1; index > 0; index--) swap(index, below(index + 1))
    const mean = (seconds * 1000) / due.length
    return paced(
      () => -Math.log(1 - random()) * mean,
      Effect.sync(() => {
        const kind = RoundRobin.KINDS[below(RoundRobin.KINDS.length)] ?? "reset"
        if (proxy.cut(due.at(-1) ?? 0, kind, random())) due.pop()
        // It is offline: another one, and it later.
        else swap(due.length - 1, below(due.length))
        return due.length === 0 ? "done" : "more"
      })
    )
  })

interface Published {
  readonly messages: number
  readonly retried: number
}

/** Publishes 1, 2, 3 … until `isOver`, and one more. */
const publishAll = (
  { messagesPerSecond }: Plan,
  origins: ReadonlyArray<string>,
  isOver: () => boolean
): Effect.Effect<Published, Error> =>
  Effect.suspend(() => {
    let number = 0
    let attempts = 0
    const attempt = Effect.suspend(() =>
      Http.send(`${origins[attempts++ % origins.length]}/api/publish`, {
        method: "POST",
        headers: { "X-API-Key": API_KEY, "Content-Type": "application/json" },
        body: JSON.stringify({ channel: CHANNEL, data: number, idempotency_key: String(number) })
      })
    ).pipe(
      Effect.flatMap(({ body, status }) => {
        const { result } = (status === 200 ? JSON.parse(body) : {}) as { readonly result?: { readonly offset: number } }
        return result === undefined ? Effect.fail(new Error(`publish: ${status} ${body}`)) : Effect.succeed(result)
      }),
      Effect.retry({ times: 50, schedule: Schedule.spaced("100 millis") })
    )
    const step = Effect.suspend(() => {
      const isLast = isOver()
      number++
      return Effect.flatMap(attempt, ({ offset }) =>
        offset === number
          ? Effect.succeed(isLast ? ("done" as const) : ("more" as const))
          : Effect.fail(new Error(`message ${number} has offset ${offset}`))
      )
    })
    return Effect.map(
      paced(() => 1000 / messagesPerSecond, step),
      () => ({ messages: number, retried: attempts - number })
    )
  })

// ── The figures ────────────────────────────────────────────────────────────

const percentiles = (values: ReadonlyArray<number>): Percentiles => {
  const sorted = values.toSorted((one, other) => one - other)
  const at = (part: number): number => sorted[Math.max(0, Math.ceil(part * sorted.length) - 1)] ?? Number.NaN
  return { p50: at(0.5), p99: at(0.99), max: at(1) }
}

/** From the first cut that a recovery has mended to its end. */
const outages = ({ id, recoveries }: Seen, cuts: ReadonlyArray<RoundRobin.Cut>): ReadonlyArray<number> => {
  const own = cuts.filter(({ client }) => client === id)
  return recoveries.map(({ at, lost }, index) => {
    const since = recoveries[index - 1]?.at ?? 0
    const cut = own.find((one) => one.at > since && one.at < at)?.at ?? lost
    return at - Math.min(cut, lost)
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
    const proxy = yield* RoundRobin.start(instances.map(({ port }) => port))

    const each = Math.ceil(plan.clients / plan.processes)
    const groups = yield* Effect.forEach(
      Array.from({ length: plan.processes }, (_, index) => index * each),
      (first) => startClients(proxy.port, first, Math.min(each, plan.clients - first))
    )
    const all = <A>(what: (group: Clients) => Effect.Effect<A, NeverHappened>) =>
      Effect.forEach(groups, what, { concurrency: "unbounded" })

    yield* all(({ subscribed }) => subscribed)
    let isOver = false
    const cutting = Effect.tap(cutAll(plan, proxy), () => {
      isOver = true
    })
    const [{ messages, retried }] = yield* Effect.all([publishAll(plan, origins, () => isOver), cutting], {
      concurrency: "unbounded"
    })
    // Who has not got the last one by then shows in the figures.
    const late = yield* Effect.either(all(({ haveGot }) => haveGot(messages)))
    const seen = (yield* all(({ report }) => report)).flat()
    const counters = yield* countersOf(origins)

    const recoveries = seen.flatMap((one) => one.recoveries)
    return {
      plan,
      cuts: proxy.cuts.length,
      messages,
      retried,
      delivered: sum(seen, ({ received }) => received),
      duplicates: sum(seen, ({ duplicates }) => duplicates),
      outOfOrder: sum(seen, ({ outOfOrder }) => outOfOrder),
      misplaced: sum(seen, ({ misplaced }) => misplaced),
      unrecovered: sum(seen, ({ unrecovered }) => unrecovered),
      recoveries: recoveries.length,
      replayed: sum(recoveries, ({ replayed }) => replayed),
      replay: percentiles(recoveries.flatMap(({ at, open }) => (open === undefined ? [] : [at - open]))),
      outage: percentiles(seen.flatMap((one) => outages(one, proxy.cuts))),
      trouble: tally([
        ...seen.map(({ trouble }) => trouble),
        ...(late._tag === "Left" ? [{ [late.left.message]: 1 }] : [])
      ]),
      counters
    }
  })

/** What must not be: empty where each client got every message, in order, once. */
export const violations = ({ plan, ...result }: Result): ReadonlyArray<string> => {
  const expected: ReadonlyArray<readonly [name: string, value: number, expected: number]> = [
    ["delivered", result.delivered, plan.clients * result.messages],
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
  const expected = plan.clients * result.messages
  const percent = (100 * result.delivered) / expected
  return [
    `jitter, seed ${plan.seed}: ${plan.clients} clients, ${result.cuts} cuts (${plan.cutsPerClient} each), ${result.messages} messages at ${plan.messagesPerSecond}/s`,
    `delivered ${percent === 100 ? "100" : percent.toFixed(4)} % (${result.delivered} of ${expected}), out of order ${result.outOfOrder}, duplicates ${result.duplicates}, unrecovered ${result.unrecovered}`,
    `${result.recoveries} recoveries of ${result.replayed} messages: replay ${milliseconds(result.replay)}; outage ${milliseconds(result.outage)}`,
    `${result.retried} publishes tried again; clients: ${JSON.stringify(result.trouble)}; instances: ${JSON.stringify(result.counters)}`,
    ""
  ].join("\n")
}

/** Runs the scenario, prints its figures and returns what must not be. `JITTER_SEED` repeats a run's cuts. */
export const check = (plan: Omit<Plan, "seed">): Effect.Effect<ReadonlyArray<string>, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const seed = Number(process.env["JITTER_SEED"] ?? Math.floor(Math.random() * 2 ** 32))
    process.stdout.write(`jitter, seed ${seed}: begins\n`)
    const result = yield* run({ ...plan, seed })
    process.stdout.write(summary(result))
    return violations(result)
  })
