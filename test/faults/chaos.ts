/**
 * A chaos run: nodes under Node and Deno, a pair of Redis processes, proxies
 * between all of them, subscribers and publishers of every kind; and a schedule
 * of faults, which its seed repeats. What comes of it is checked against the
 * promises. What happens at which moment differs from run to run; what is done,
 * when and to whom, does not.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { mkdirSync, writeFileSync } from "node:fs"
import { dirname } from "node:path"
import { fileURLToPath } from "node:url"
import * as Http from "../support/http.ts"
import { eventually } from "../support/wait.ts"
import * as Cast from "./cast.ts"
import * as Census from "./census.ts"
import { check } from "./checker/check.ts"
import type { Fault, History, Outcome, Published } from "./checker/history.ts"
import { print as printViolations } from "./checker/print.ts"
import { inflict, USER, USER_FLAGS, type World } from "./inflict.ts"
import { kindOf, type Name, names } from "./kinds.ts"
import * as Node from "./node.ts"
import * as Proxy from "./proxy.ts"
import * as Redis from "./redis.ts"
import { print as printSchedule, schedule, type Step } from "./schedule.ts"

export interface Plan {
  readonly seed: number
  /** How long faults happen; starting, coming to rest and checking come on top. */
  readonly seconds: number
  readonly clients: number
  /** Publications a second. */
  readonly rate: number
  readonly faults?: ReadonlyArray<Name>
}

export interface Result {
  /** For people. */
  readonly figures: string
  /** What must not be, in words. */
  readonly violations: ReadonlyArray<string>
  readonly history: History
}

const API_KEY = "chaos"

const RUNTIMES: ReadonlyArray<Node.Runtime> = ["node", "deno", "node"]

const ENVIRONMENT = {
  FANFARE_HTTP_API_KEY: API_KEY,
  FANFARE_CHANNEL_NAMESPACES: JSON.stringify(Cast.NAMESPACES),
  FANFARE_WARM_UP: "false",
  // Everything may be recovered, whatever the length of the outage.
  FANFARE_CLIENT_RECOVERY_MAX_PUBLICATION_LIMIT: "10000",
  FANFARE_CLIENT_REPLY_MAX_SIZE: "16777216",
  // What takes long by default is seen within a short run.
  FANFARE_CLIENT_PING_INTERVAL: "2s",
  FANFARE_CLIENT_PONG_TIMEOUT: "1500ms",
  FANFARE_CLIENT_CHANNEL_POSITION_CHECK_DELAY: "1s",
  FANFARE_CLIENT_PRESENCE_UPDATE_INTERVAL: "2s",
  FANFARE_CLIENT_QUEUE_MAX_FRAMES: "64",
  FANFARE_CLIENT_QUEUE_MAX_SIZE: "131072",
  FANFARE_CLIENT_WRITE_TIMEOUT: "3s",
  FANFARE_SHUTDOWN_TIMEOUT: "3s"
}

/**
 * One node never pings: what waits there for something else to happen waits for
 * ever, where a ping would have set it going within moments.
 */
const QUIET = { FANFARE_CLIENT_PING_INTERVAL: "1h" }

/** How often everybody is sent one last publication, and how long that may take. */
const ROUNDS = 5
const ARRIVES_WITHIN = "20 seconds"

/** Twice that is more than a connection is given in one turn of the event loop. */
const LONG = 40_000

const TIMING = { pingInterval: 2000, pingDelay: 3000, patience: 20_000 }

/** As the cast's: milliseconds of a clock that all processes share. */
const clock = (): number => Number(process.hrtime.bigint() / 1000n) / 1000

// ── A publisher of the run's own ─────────────────────────────────────────────

interface Answer {
  readonly result?: { readonly offset?: number; readonly epoch?: string }
}

class Unanswered extends Data.TaggedError("Unanswered") {}

/** Publishes through the nodes until it is acknowledged, and keeps the log of that. */
const publisher = (front: () => number) => {
  const published: Array<Published> = []
  const post = (body: object): Effect.Effect<Answer, unknown> =>
    Effect.flatMap(
      Http.send(`http://127.0.0.1:${front()}/api/publish`, {
        method: "POST",
        headers: { "x-api-key": API_KEY },
        body: JSON.stringify(body)
      }).pipe(Effect.timeout("2500 millis")),
      ({ body, status }) => {
        const answer: Answer = status === 200 ? JSON.parse(body) : {}
        return answer.result === undefined ? Effect.fail(new Unanswered()) : Effect.succeed(answer)
      }
    )
  const publish = (channel: string, id: string, padding = 0): Effect.Effect<void> =>
    Effect.suspend(() => {
      const at = clock()
      const body = { channel, data: { id, pad: "x".repeat(padding) }, idempotency_key: id }
      const again: Effect.Effect<Answer> = Effect.catchAll(post(body), () => Effect.delay(again, "100 millis"))
      const log = (outcome: Outcome) => published.push({ id, channel, at, outcome })
      return again.pipe(
        Effect.timeoutOption("20 seconds"),
        Effect.map((answer) => {
          if (answer._tag === "None") log({ type: "unknown", at: clock() })
          else {
            const { epoch, offset } = answer.value.result ?? {}
            const hasPosition = epoch !== undefined && epoch !== "" && offset !== undefined
            log({ type: "acknowledged", at: clock(), ...(hasPosition ? { position: { epoch, offset } } : {}) })
          }
        })
      )
    })

  /** Publishes all of them in one step, as far as that is possible; none again. */
  const publishTogether = (all: ReadonlyArray<readonly [channel: string, id: string, padding: number]>) =>
    Effect.suspend(() => {
      const at = clock()
      const commands = all.map(([channel, id, padding]) => ({
        publish: { channel, data: { id, pad: "x".repeat(padding) }, idempotency_key: id }
      }))
      const sent = Http.send(`http://127.0.0.1:${front()}/api/batch`, {
        method: "POST",
        headers: { "x-api-key": API_KEY },
        body: JSON.stringify({ commands, parallel: true })
      })
      return Effect.map(sent, ({ body }) => {
        const { replies }: { readonly replies: ReadonlyArray<{ readonly publish?: Answer["result"] }> } =
          JSON.parse(body)
        all.forEach(([channel, id], index) => {
          const type = replies[index]?.publish === undefined ? "unknown" : "acknowledged"
          published.push({ id, channel, at, outcome: { type, at: clock() } })
        })
      })
    })

  return { published, publish, publishTogether }
}

// ── The run ──────────────────────────────────────────────────────────────────

const start = (plan: Plan) =>
  Effect.gen(function* () {
    const redis = yield* Redis.startPair(USER_FLAGS)
    const links = yield* Effect.replicateEffect(
      Proxy.start(() => redis.primary().port),
      RUNTIMES.length
    )
    const nodes = yield* Effect.forEach(RUNTIMES, (runtime, index) =>
      Node.make(
        `node${index}`,
        runtime,
        {
          ...ENVIRONMENT,
          ...(index === 0 ? QUIET : {}),
          REDIS_URL: `redis://${USER.name}:${USER.password}@127.0.0.1:${links[index]?.port}`
        },
        "census-probe.cjs"
      )
    )
    yield* Effect.forEach(nodes, (node) => node.start, { concurrency: "unbounded" })
    let turn = 0
    const front = yield* Proxy.start(() => {
      const running = nodes.flatMap((node) => node.program()?.port ?? [])
      return running[turn++ % running.length]
    })
    const cast = yield* Effect.suspend(() =>
      Effect.zipRight(
        ready(nodes),
        Cast.start({
          seed: plan.seed,
          clients: plan.clients,
          processes: 2,
          rate: plan.rate,
          port: front.port,
          apiKey: API_KEY,
          timing: TIMING
        })
      )
    )
    return { redis, links, nodes, front, cast }
  })

/** Every node says that it is ready. */
const ready = (nodes: ReadonlyArray<Node.Node>) =>
  Effect.forEach(nodes, (node) =>
    eventually(
      Http.send(`${node.program()?.http}/health/ready`).pipe(
        Effect.map(({ status }) => status),
        Effect.orElseSucceed(() => 0)
      ),
      (status) => status === 200,
      `${node.name} is ready`,
      "30 seconds"
    )
  )

/** Does what the schedule says, and records when it was done. */
const storm = (world: World, steps: ReadonlyArray<Step>) =>
  Effect.gen(function* () {
    const faults: Array<Fault> = []
    const begin = clock()
    const once = (step: Step) =>
      Effect.gen(function* () {
        const wait = step.at - (clock() - begin)
        if (wait > 0) yield* Effect.sleep(wait)
        const { dropsNothing, explains, losesData } = kindOf(step.name)
        const from = clock()
        yield* inflict(world, step)
        faults.push({
          kind: step.name,
          from,
          to: clock(),
          explains,
          losesData: losesData === true,
          drops: dropsNothing !== true
        })
      })
    const tracks = ["redis", "nodes", "clients"] as const
    yield* Effect.forEach(
      tracks,
      (track) =>
        Effect.forEach(
          steps.filter(({ name }) => kindOf(name).track === track),
          once,
          { discard: true }
        ),
      { concurrency: "unbounded", discard: true }
    )
    return faults
  })

/** How often there was each. */
const tally = (all: ReadonlyArray<string>): string => {
  const counts = new Map<string, number>()
  for (const one of all) counts.set(one, (counts.get(one) ?? 0) + 1)
  return Array.from(counts, ([name, count]) => `${name} ${count}`)
    .toSorted()
    .join(", ")
}

const figuresOf = (
  plan: Plan,
  { faults, published, subscribers }: History,
  counted: Readonly<Record<string, number>>
): string => {
  const events = subscribers.flatMap((one) => one.events)
  const signals = events.flatMap((event) => {
    if (event.type === "subscribed" && event.recovered === false) return ["unrecovered"]
    if (event.type !== "interrupted" || event.code < 2500) return []
    return [String(event.code)]
  })
  const count = (type: string): number => events.filter((event) => event.type === type).length
  const recovered = events.filter((event) => event.type === "subscribed" && event.recovered === true).length
  const outcomes = tally(published.map(({ outcome }) => outcome.type))
  return [
    `chaos: seed ${plan.seed}, ${plan.seconds} s, ${plan.clients} clients, ${subscribers.length} subscriptions`,
    `  sent ${published.length} (${outcomes}; ${counted["retries"]} retries), delivered ${count("received")}, interrupted ${count("interrupted")}, recovered ${recovered}, presence read ${counted["presences"]} times`,
    `  signalled: ${tally(signals)}`,
    `  ${faults.length} faults: ${tally(faults.map(({ kind }) => kind))}`,
    ""
  ].join("\n")
}

/** Everybody is subscribed again, each node is live, and what has waited has come. */
const rest = ({ front, links, nodes }: World) =>
  Effect.gen(function* () {
    yield* Effect.forEach([front, ...links], (proxy) => proxy.heal)
    yield* ready(nodes)
  })

/**
 * Sends everybody one last publication, several times, with more before it than
 * a connection gets in one turn; returns the last ones, by channel. Who has not
 * got theirs is found by the checker.
 */
const finish = (cast: Cast.Cast, publishTogether: ReturnType<typeof publisher>["publishTogether"]) =>
  Effect.gen(function* () {
    const first = Cast.CHANNELS[0] as string
    for (let round = 1; ; round++) {
      const last = new Map(Cast.CHANNELS.map((channel) => [channel, `last${round}:${channel}`]))
      const done = yield* cast.expect(last, ARRIVES_WITHIN)
      yield* publishTogether([
        [first, `long${round}:1`, LONG],
        [first, `long${round}:2`, LONG],
        ...Array.from(last, ([channel, id]) => [channel, id, 0] as const)
      ])
      const { _tag } = yield* Effect.either(done)
      if (_tag === "Left" || round === ROUNDS) return last
    }
  })

/** Runs a plan; what it has started has ended with the scope. */
export const run = (plan: Plan): Effect.Effect<Result, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const steps = schedule(plan.seed, plan.seconds * 1000, plan.faults ?? names)
    const { cast, front, links, nodes, redis } = yield* start(plan)
    const { publish, published, publishTogether } = publisher(() => front.port)
    let long = 0
    const exits: Array<string> = []
    const ended: World["ended"] = (node, exit) => {
      if (exit?.code !== 0) exits.push(`${node.name} ended with ${JSON.stringify(exit)}`)
    }
    const world: World = {
      redis,
      links,
      nodes,
      front,
      cast,
      ended,
      publishLong: Effect.suspend(() => publish(Cast.CHANNELS[0] as string, `long:${++long}`, 20_000))
    }
    const baselines = new Map<string, Readonly<Record<string, number>>>()
    for (const node of nodes) baselines.set(node.runtime, yield* Census.baseline(node))

    const scenario = Effect.gen(function* () {
      yield* cast.subscribed
      yield* cast.publish
      const faults = yield* storm(world, steps)
      yield* rest(world)
      yield* cast.stop
      const left: Array<string> = [...(yield* Census.everybody(world, cast))]
      const last = yield* finish(cast, publishTogether)
      const truth = yield* cast.present
      left.push(...(yield* Census.presence(world, API_KEY, truth)))
      const recorded = yield* cast.report
      left.push(...Object.entries(recorded.trouble).map(([what, count]) => `${count} × ${what}`))
      yield* cast.leave
      left.push(...(yield* Census.nobody(world, baselines)))
      yield* Effect.forEach(nodes, (node) => Effect.map(node.terminate, (exit) => ended(node, exit)), {
        concurrency: "unbounded"
      })
      left.push(...(yield* Census.afterwards(world)), ...exits)
      for (const node of nodes) {
        left.push(
          ...node
            .output()
            .split("\n")
            .filter((line) => / ERROR /.test(line))
            .map((line) => `${node.name}: ${line}`)
        )
      }
      const history: History = {
        published: [...recorded.published, ...published],
        subscribers: recorded.subscribers,
        faults,
        last
      }
      const violations = check(history)
      return {
        figures: figuresOf(plan, history, recorded.figures),
        history,
        violations: [...(violations.length === 0 ? [] : [printViolations(history, violations, plan.seed)]), ...left]
      }
    })
    const result = yield* Effect.raceFirst(scenario, cast.ends)
    return result
  })

/** The whole history of a run, for who looks into a violation. */
const keep = ({ history }: Result, seed: number): Effect.Effect<string> =>
  Effect.sync(() => {
    const path = fileURLToPath(new URL(`../../reports/chaos-${seed}.json`, import.meta.url))
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, JSON.stringify({ ...history, last: Array.from(history.last) }))
    return path
  })

/** Runs a plan, prints its schedule and figures, and returns what must not be. */
export const verify = (plan: Plan): Effect.Effect<ReadonlyArray<string>, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const steps = schedule(plan.seed, plan.seconds * 1000, plan.faults ?? names)
    process.stdout.write(`chaos: seed ${plan.seed}: ${printSchedule(steps)}\n`)
    const result = yield* run(plan)
    process.stdout.write(result.figures)
    if (result.violations.length > 0) {
      const path = yield* keep(result, plan.seed)
      process.stdout.write(`${result.violations.join("\n")}\nthe whole history: ${path}\n`)
    }
    return result.violations
  })
