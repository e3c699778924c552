/** Who takes part in a chaos run: subscribers of every kind, publishers, presence watchers; and their processes. */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Child from "../support/child.ts"
import type { NeverHappened } from "../support/wait.ts"
import type { Event, Promised, Published, Subscriber } from "./checker/history.ts"

/** A subscriber, and how it connects. */
interface Member {
  readonly client: string
  readonly kind: "sdk" | "plain" | "plain lossy" | "watcher"
  readonly promised: Promised
  readonly channels: ReadonlyArray<string>
}

interface Publisher {
  readonly client: string
  readonly over: "http" | "sdk"
  /** Publications a second. */
  readonly rate: number
}

const numbered = (prefix: string, count: number): ReadonlyArray<string> =>
  Array.from({ length: count }, (_, index) => `${prefix}${index}`)

/** With history and recovery, with history and positions, without history, and with presence. */
const KEPT = numbered("kept:", 6)
const EXACT = numbered("exact:", 2)
const BARE = numbered("bare:", 2)
const ROOMS = numbered("room:", 2)

export const CHANNELS = [...KEPT, ...EXACT, ...BARE, ...ROOMS]

/** The nodes' configuration of them. */
const OPEN = {
  allow_subscribe_for_client: true,
  allow_subscribe_for_anonymous: true,
  allow_publish_for_client: true,
  allow_publish_for_anonymous: true
}
const HISTORY = { history_size: 10_000, history_ttl: "30m" }
export const NAMESPACES = [
  { name: "kept", ...OPEN, ...HISTORY, force_recovery: true },
  { name: "exact", ...OPEN, ...HISTORY, force_positioning: true },
  { name: "bare", ...OPEN },
  {
    name: "room",
    ...OPEN,
    presence: true,
    join_leave: true,
    force_push_join_leave: true,
    allow_presence_for_subscriber: true,
    allow_presence_for_anonymous: true
  }
]

/** Of ten subscribers, what each is. */
const MIX = ["kept", "kept", "kept", "room", "kept", "plain", "plain", "exact", "bare", "plain lossy"] as const

const member = (index: number): Member => {
  const client = `c${index}`
  const of = (all: ReadonlyArray<string>): string => all[Math.floor(index / MIX.length) % all.length] as string
  switch (MIX[index % MIX.length]) {
    case "plain":
      return { client, kind: "plain", promised: "plain", channels: [of(index % 4 === 0 ? EXACT : KEPT)] }
    case "exact":
      return { client, kind: "sdk", promised: "positioned", channels: [of(EXACT)] }
    case "bare":
      return { client, kind: "sdk", promised: "lossy", channels: [of(BARE)] }
    case "plain lossy":
      return { client, kind: "plain lossy", promised: "lossy", channels: [of(BARE)] }
    case "room":
      return { client, kind: "sdk", promised: "recoverable", channels: [of(ROOMS), of(KEPT)] }
    default:
      return { client, kind: "sdk", promised: "recoverable", channels: [of(KEPT)] }
  }
}

const watchers = ROOMS.map((channel, index): Member => ({
  client: `watcher${index}`,
  kind: "watcher",
  promised: "lossy",
  channels: [channel]
}))

const publishers = (process: number, rate: number): ReadonlyArray<Publisher> =>
  (["http", "http", "sdk", "sdk"] as const).map((over, index) => ({
    client: `${over}${process}${index}`,
    over,
    rate: rate / 4
  }))

export interface Plan {
  readonly seed: number
  readonly clients: number
  readonly processes: number
  /** Publications a second, of all publishers. */
  readonly rate: number
  /** Of the proxy before the nodes. */
  readonly port: number
  readonly apiKey: string
  /** Milliseconds: when the nodes ping, how much later that may come, and how long a publisher tries again. */
  readonly timing: { readonly pingInterval: number; readonly pingDelay: number; readonly patience: number }
}

/** Somebody who is in a channel. */
export interface Present {
  readonly channel: string
  readonly client: string
}

/** What a process of the cast has recorded. */
export interface Recorded {
  readonly published: ReadonlyArray<Published>
  readonly subscribers: ReadonlyArray<Subscriber>
  /** What should not have been, how often. */
  readonly trouble: Readonly<Record<string, number>>
  readonly figures: Readonly<Record<string, number>>
}

interface Log extends Child.Message, Subscriber {}

interface Publications extends Child.Message, Pick<Recorded, "published"> {}

interface Reported extends Child.Message, Omit<Recorded, "published" | "subscribers"> {}

/** The processes of the cast. */
export interface Cast {
  /** How many connections of it nodes have while all is well. */
  readonly connections: number
  readonly subscriptions: number
  /** Everybody has been subscribed once. */
  readonly subscribed: Effect.Effect<void, NeverHappened>
  /** Its publishers begin. */
  readonly publish: Effect.Effect<void>
  /** They publish no more, and know what has become of what they have published. */
  readonly stop: Effect.Effect<void, NeverHappened>
  /** From now on it waits for a publication in each channel, by id; what this returns completes once everybody has got theirs. */
  readonly expect: (
    last: ReadonlyMap<string, string>,
    limit: Duration.DurationInput
  ) => Effect.Effect<Effect.Effect<void, NeverHappened>>
  /** Who is in which channel with presence now. */
  readonly present: Effect.Effect<ReadonlyArray<Present>, NeverHappened>
  readonly report: Effect.Effect<Recorded, NeverHappened>
  /** Everybody leaves. */
  readonly leave: Effect.Effect<void, NeverHappened>
  /** Stops one of its processes, and lets it go on. */
  readonly freeze: (process: number) => Effect.Effect<void>
  readonly thaw: Effect.Effect<void>
  /** Fails when one of them has ended by itself. */
  readonly ends: Effect.Effect<never, NeverHappened>
}

const LIMIT = "60 seconds"

const eventsOf = (logs: ReadonlyArray<Log>): ReadonlyArray<Subscriber> => {
  const whole = new Map<string, Subscriber & { readonly events: Array<Event> }>()
  for (const { channel, client, events, promised } of logs) {
    const key = `${client} ${channel}`
    const known = whole.get(key) ?? { client, channel, promised, events: [] }
    whole.set(key, known)
    for (const event of events) known.events.push(event)
  }
  return Array.from(whole.values())
}

/** Starts the processes; they end with the scope. */
export const start = (plan: Plan): Effect.Effect<Cast, never, Scope.Scope> =>
  Effect.gen(function* () {
    const members = [...Array.from({ length: plan.clients }, (_, index) => member(index)), ...watchers]
    const of = (process: number): ReadonlyArray<Member> =>
      members.filter((_, index) => index % plan.processes === process)
    const children = yield* Effect.forEach(
      Array.from({ length: plan.processes }, (_, index) => index),
      (process) =>
        Child.start("../faults/clients.mjs", {
          ...plan,
          seed: plan.seed + process,
          channels: CHANNELS,
          members: of(process),
          publishers: publishers(process, plan.rate / plan.processes)
        })
    )
    const tell = (type: string, rest: Record<string, unknown> = {}): Effect.Effect<void> =>
      Effect.sync(() => {
        for (const child of children) child.send({ type, ...rest })
      })
    const all = <M extends Child.Message>(type: M["type"]) =>
      Effect.forEach(children, (child) => child.says<M>(type, LIMIT), { concurrency: "unbounded" })
    const sdkPublishers = plan.processes * publishers(0, 0).filter(({ over }) => over === "sdk").length

    return {
      connections: members.length + sdkPublishers,
      subscriptions: members.reduce((sum, { channels }) => sum + channels.length, 0),
      subscribed: Effect.asVoid(all("subscribed")),
      publish: tell("publish"),
      stop: Effect.zipRight(tell("stop"), Effect.asVoid(all("stopped"))),
      expect: (last, limit) =>
        Effect.suspend(() => {
          const before = children.map((child) => child.said())
          const done = Effect.forEach(children, (child, index) => child.says("done", limit, before[index]), {
            concurrency: "unbounded",
            discard: true
          })
          return Effect.as(tell("expect", { last: Array.from(last) }), done)
        }),
      present: Effect.suspend(() => {
        const before = children.map((child) => child.said())
        const asked = Effect.forEach(children, (child, index) =>
          child.says<Child.Message & { readonly present: ReadonlyArray<Present> }>("present", LIMIT, before[index])
        )
        return Effect.zipRight(
          tell("present"),
          Effect.map(asked, (answers) => answers.flatMap(({ present }) => present))
        )
      }),
      report: Effect.gen(function* () {
        yield* tell("report")
        const reported = yield* all<Reported>("reported")
        const sums = (records: ReadonlyArray<Readonly<Record<string, number>>>): Record<string, number> => {
          const total: Record<string, number> = {}
          for (const [name, count] of records.flatMap(Object.entries)) total[name] = (total[name] ?? 0) + count
          return total
        }
        return {
          published: children.flatMap((child) =>
            child.all<Publications>("published").flatMap(({ published }) => published)
          ),
          subscribers: eventsOf(children.flatMap((child) => child.all<Log>("log"))),
          trouble: sums(reported.map(({ trouble }) => trouble)),
          figures: sums(reported.map(({ figures }) => figures))
        }
      }),
      leave: Effect.zipRight(tell("leave"), Effect.asVoid(all("left"))),
      freeze: (process) => Effect.sync(() => children[process % children.length]?.signal("SIGSTOP")),
      thaw: Effect.sync(() => {
        for (const child of children) child.signal("SIGCONT")
      }),
      ends: Effect.zipRight(
        Effect.forEach(children, ({ ends }) => ends, { concurrency: "unbounded" }),
        Effect.never
      )
    }
  })
