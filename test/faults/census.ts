/** What must be left of a run: while everybody is there, once they have left, and once the nodes have ended. */
import * as Effect from "effect/Effect"
import * as Http from "../support/http.ts"
import { eventually } from "../support/wait.ts"
import type { Cast, Present } from "./cast.ts"
import type { World } from "./inflict.ts"
import type { Node } from "./node.ts"

/** What is not as it must be, once it has had time to become so. */
const becomes = (look: Effect.Effect<ReadonlyArray<string>, unknown>): Effect.Effect<ReadonlyArray<string>> => {
  let last: ReadonlyArray<string> = []
  return Effect.catchAll(
    eventually(
      Effect.map(look, (found) => {
        last = found
        return found
      }),
      (found) => found.length === 0,
      "nothing is left",
      "15 seconds"
    ),
    (error) => Effect.succeed(last.length > 0 ? last : [String(error)])
  )
}

const httpOf = (node: Node): string => node.program()?.http ?? ""

/** A gauge of a node, over all its labels. */
const sum = (samples: Readonly<Record<string, number>>, name: string): number =>
  Object.entries(samples)
    .filter(([key]) => key === name || key.startsWith(`${name}{`))
    .reduce((total, [, value]) => total + value, 0)

const figures = (nodes: ReadonlyArray<Node>, names: ReadonlyArray<string>) =>
  Effect.map(
    Effect.forEach(nodes, (node) => Http.metrics(httpOf(node))),
    (all) => names.map((name) => all.reduce((total, samples) => total + sum(samples, name), 0))
  )

const differ = (what: string, found: unknown, right: unknown): ReadonlyArray<string> =>
  JSON.stringify(found) === JSON.stringify(right)
    ? []
    : [`${what}: ${JSON.stringify(found)}, not ${JSON.stringify(right)}`]

/** Each client of the cast has one connection, and its subscriptions; no others are there. */
export const everybody = ({ nodes }: World, { connections, subscriptions }: Cast) =>
  becomes(
    Effect.map(figures(nodes, ["fanfare_connections", "fanfare_subscriptions"]), (found) =>
      differ("connections and subscriptions", found, [connections, subscriptions])
    )
  )

/** Presence on every node is who is there. */
export const presence = ({ nodes }: World, apiKey: string, truth: ReadonlyArray<Present>) => {
  const channels = Array.from(new Set(truth.map(({ channel }) => channel))).toSorted()
  const right = channels.map((channel) => truth.filter((one) => one.channel === channel).map(({ client }) => client))
  const ask = (node: Node, channel: string) =>
    Effect.map(
      Http.send(`${httpOf(node)}/api/presence`, {
        method: "POST",
        headers: { "x-api-key": apiKey },
        body: JSON.stringify({ channel })
      }),
      ({ body }) => Object.keys(JSON.parse(body).result?.presence ?? {}).toSorted()
    )
  const differences = (found: ReadonlyArray<string>, expected: ReadonlyArray<string>, where: string) => [
    ...expected.filter((client) => !found.includes(client)).map((client) => `presence of ${where} lacks ${client}`),
    ...found.filter((client) => !expected.includes(client)).map((client) => `presence of ${where} has ${client}`)
  ]
  return becomes(
    Effect.map(
      Effect.forEach(nodes, (node) => Effect.forEach(channels, (channel) => ask(node, channel))),
      (all) =>
        all.flatMap((found, node) =>
          found.flatMap((clients, index) =>
            differences(clients, right[index] ?? [], `${channels[index]} on ${nodes[node]?.name}`)
          )
        )
    )
  )
}

const linksOf = ({ redis }: World): Effect.Effect<number, unknown> =>
  Effect.map(
    redis.primary().use((client) => client.client("LIST")),
    (list) =>
      String(list)
        .split("\n")
        .filter((line) => line.includes(" name=fanfare-")).length
  )

/** What a node holds by itself: to be asked for before anybody comes. */
export const baseline = (node: Node): Effect.Effect<Readonly<Record<string, number>>, unknown> =>
  node.program()?.census ?? Effect.succeed({})

/** Nobody is there any more, and nothing is left of them. */
export const nobody = (world: World, baselines: ReadonlyMap<string, Readonly<Record<string, number>>>) =>
  Effect.gen(function* () {
    const { nodes, redis } = world
    const primary = redis.primary()
    const gauges = ["fanfare_connections", "fanfare_subscriptions", "fanfare_channels", "fanfare_mailbox_bytes"]
    const ofNodes = yield* becomes(
      Effect.map(figures(nodes, gauges), (found) => differ(gauges.join(), found, [0, 0, 0, 0]))
    )
    const ofRedis = yield* becomes(
      Effect.gen(function* () {
        const topics = yield* primary.use((client) => client.pubsub("CHANNELS", "*:pub:*"))
        const present = yield* primary.use((client) => client.keys("*:presence*"))
        return [
          ...differ("topics in Redis", topics, []),
          ...differ("presence in Redis", present, []),
          ...differ("connections to Redis", yield* linksOf(world), 2 * nodes.length)
        ]
      })
    )
    const ofProcesses = yield* Effect.forEach(nodes, (node) =>
      becomes(
        Effect.map(baseline(node), (now) =>
          Object.entries(now)
            .filter(([name, count]) => count > (baselines.get(node.runtime)?.[name] ?? 0))
            .map(
              ([name, count]) => `${node.name} holds ${count} ${name}, ${baselines.get(node.runtime)?.[name]} before`
            )
        )
      )
    )
    return [...ofNodes, ...ofRedis, ...ofProcesses.flat()]
  })

/** The nodes have ended: they are gone from Redis, and what they have left there expires. */
export const afterwards = (world: World) =>
  becomes(
    Effect.gen(function* () {
      const lasting = yield* world.redis.primary().use(async (client) => {
        const keys = await client.keys("*")
        const times = await Promise.all(keys.map((key) => client.pttl(key)))
        return keys.filter((_, index) => times[index] === -1)
      })
      return [
        ...differ("keys that never expire", lasting, []),
        ...differ("connections to Redis", yield* linksOf(world), 0)
      ]
    })
  )
