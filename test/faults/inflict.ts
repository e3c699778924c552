/** What a step of the schedule does to the system, and how it is undone. */
import * as Effect from "effect/Effect"
import type { NeverHappened } from "../support/wait.ts"
import type { Cast } from "./cast.ts"
import type { Name } from "./kinds.ts"
import type { Node } from "./node.ts"
import type { Behaviour } from "./pipe.ts"
import type { Direction, Proxy, Selection } from "./proxy.ts"
import type { Failure, Pair } from "./redis.ts"
import type { Step } from "./schedule.ts"

/** The user of Redis that nodes are; what the kit asks for itself it asks as another one. */
export const USER = { name: "app", password: "secret" } as const
const ALL = ["+@all", "allkeys", "allchannels"] as const
export const USER_FLAGS = ["--user", USER.name, "on", `>${USER.password}`, "~*", "&*", "+@all"]

export interface World {
  readonly redis: Pair
  readonly nodes: ReadonlyArray<Node>
  /** From each node to Redis. */
  readonly links: ReadonlyArray<Proxy>
  /** From clients to nodes. */
  readonly front: Proxy
  readonly cast: Pick<Cast, "freeze" | "thaw">
  /** Publishes something so long that it does not fit into what Redis keeps for a connection without counting it. */
  readonly publishLong: Effect.Effect<void>
  /** A node that was told to end has done so. */
  readonly ended: (node: Node, exit: { readonly code: number | null } | undefined) => void
}

const REVOKED = [["-@all"], ["-publish"], ["-eval", "-evalsha"], ["-subscribe"], ["-info"], ["resetchannels"]] as const

/** Bytes, as Redis's own default has it. */
const OUTPUT = 32 * 1024 * 1024

type Act = Effect.Effect<unknown, Failure | NeverHappened>

/** Does something for as long as the step lasts; whatever ends that, it is undone. */
const during = ({ lasts }: Step, act: Act, undo: Act): Act =>
  Effect.ensuring(Effect.zipRight(act, Effect.sleep(lasts)), Effect.orDie(undo))

/** Of a list, and one time in so many all of it. */
const oneOrAll = <A>(all: ReadonlyArray<A>, which: number): ReadonlyArray<A> => {
  const one = all[Math.floor(which * (all.length + 1))]
  return one === undefined ? all : [one]
}

/** Some of the connections: between a twentieth and nearly all. */
const some = ({ share, which }: Step): Selection => {
  const most = 0.05 + share ** 2 * 0.9
  const offset = Math.floor(which * 997)
  return ({ index }) => ((index * 7919 + offset) % 997) / 997 < most
}

const permit = ({ redis }: World, rules: ReadonlyArray<string>): Act =>
  Effect.forEach([redis.primary(), redis.replica()], (one) => one.permit(USER.name, ...rules))

const onLinks = ({ links }: World, step: Step, behaviour: Behaviour, direction?: Direction): Act => {
  const chosen = oneOrAll(links, step.which)
  return during(
    step,
    // Connections that are open now, or later ones too.
    Effect.forEach(chosen, (link) =>
      step.share < 0.5 ? link.behaveAll(behaviour, direction) : link.behave(behaviour, direction)
    ),
    Effect.forEach(chosen, (link) => link.heal)
  )
}

const onClients = ({ front }: World, step: Step, behaviour: Behaviour, direction?: Direction): Act =>
  during(step, front.behave(behaviour, direction, some(step)), front.heal)

const nodeOf = ({ nodes }: World, { which }: Step): Node => nodes[Math.floor(which * nodes.length)] as Node

const acts: Record<Name, (world: World, step: Step) => Act> = {
  "redis-restart": ({ redis }, { lasts, share }) =>
    // With what was there a moment ago, or with an older snapshot.
    Effect.zipRight(
      share < 0.7 ? Effect.zipRight(redis.primary().snapshot, Effect.sleep(300)) : Effect.void,
      redis.primary().restart(lasts)
    ),
  "redis-empty": ({ redis }, { lasts }) => redis.primary().restartEmpty(lasts),
  "redis-flush": ({ redis }) => redis.primary().flushAll,
  "redis-failover": ({ redis }) => redis.failOver,
  "redis-promote": ({ redis }) => redis.promote,
  "redis-freeze": ({ redis }, step) => during(step, redis.primary().freeze, redis.primary().thaw),
  "redis-sleep": ({ redis }, step) => during(step, redis.primary().sleep(step.lasts), Effect.void),
  "redis-pause": ({ redis }, step) =>
    during(step, redis.primary().pauseClients(step.lasts, step.share < 0.5 ? "ALL" : "WRITE"), Effect.void),
  "redis-clients": ({ redis }, { share }) => redis.primary().killClients(share < 0.5 ? "normal" : "pubsub"),
  "redis-acl": (world, step) =>
    during(step, permit(world, REVOKED[Math.floor(step.which * REVOKED.length)] ?? []), permit(world, ALL)),
  "redis-memory": ({ redis }, step) => during(step, redis.primary().limitMemory(1), redis.primary().limitMemory(0)),
  "redis-output": ({ publishLong, redis }, step) =>
    during(
      step,
      Effect.zipRight(redis.primary().limitOutput(1), Effect.forkDaemon(publishLong)),
      redis.primary().limitOutput(OUTPUT)
    ),
  "redis-scripts": ({ redis }) => redis.primary().flushScripts,
  "link-cut": ({ links }, { which }) => Effect.forEach(oneOrAll(links, which), (link) => link.cut()),
  "link-reset": ({ links }, { which }) => Effect.forEach(oneOrAll(links, which), (link) => link.reset()),
  "link-silence": (world, step) => onLinks(world, step, { isSilent: true }),
  "link-oneway": (world, step) => onLinks(world, step, { isSilent: true }, step.share % 0.5 < 0.25 ? "up" : "down"),
  "link-delay": (world, step) => onLinks(world, step, { delay: 20 + step.share * 700 }),
  "link-throttle": (world, step) => onLinks(world, step, { rate: 2000 + step.share * 20_000 }),
  "node-kill": (world, step) => {
    const node = nodeOf(world, step)
    return during(step, node.kill, node.start)
  },
  "node-terminate": (world, step) => {
    const node = nodeOf(world, step)
    const ended = Effect.map(node.terminate, (exit) => world.ended(node, exit))
    return during(step, ended, node.start)
  },
  "node-freeze": (world, step) => {
    const node = nodeOf(world, step)
    return during(step, node.freeze, node.thaw)
  },
  "client-cut": ({ front }, step) => front.cut(some(step)),
  "client-reset": ({ front }, step) => front.reset(some(step)),
  "client-silence": (world, step) => onClients(world, step, { isSilent: true }),
  "client-oneway": (world, step) => onClients(world, step, { isSilent: true }, step.which < 0.5 ? "up" : "down"),
  "client-delay": (world, step) => onClients(world, step, { delay: 50 + step.which * 500 }),
  "client-throttle": (world, step) => onClients(world, step, { rate: 200 + step.which * 2000 }, "down"),
  "client-freeze": ({ cast }, step) => during(step, cast.freeze(Math.floor(step.which * 8)), cast.thaw)
}

/** Does what a step says; completes when it is over, and undone. */
export const inflict = (world: World, step: Step): Act => Effect.suspend(() => acts[step.name](world, step))
