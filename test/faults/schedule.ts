/** Which fault happens when, for how long and to whom: a value that a seed repeats. */
import { kindOf, type Name, names } from "./kinds.ts"
import { type Random, random } from "./random.ts"

export interface Step {
  readonly name: Name
  /** Milliseconds from the begin. */
  readonly at: number
  /** Milliseconds. */
  readonly lasts: number
  /** From 0 up to 1 each: which of what there is, and how much of it. */
  readonly which: number
  readonly share: number
}

const TRACKS = ["redis", "nodes", "clients"] as const

/** Milliseconds between two faults of a track: a node has to come back first. */
const GAPS = { redis: [300, 2500], nodes: [2000, 6000], clients: [200, 1500] } as const

/** After so long there is calm, so that what is told late, or for no reason, can be seen. */
const STORM = 30_000
const CALM = 14_000

/** Nobody recovers across a new epoch: most faults leave it as it is, so that there is something to recover. */
const OFTEN = 3

/** In random order, none much more often than the others. */
const shuffled = (all: ReadonlyArray<Name>, chance: Random): Array<Name> => {
  const bag = all.flatMap((name) => Array.from({ length: kindOf(name).losesData === true ? 1 : OFTEN }, () => name))
  for (let index = bag.length - 1; index > 0; index--) {
    const other = chance.below(index + 1)
    const kept = bag[index] as Name
    bag[index] = bag[other] as Name
    bag[other] = kept
  }
  return bag
}

/** The faults of so many milliseconds, in their order; every one of them is over by then. */
export const schedule = (seed: number, length: number, chosen: ReadonlyArray<Name> = names): ReadonlyArray<Step> => {
  const steps = TRACKS.flatMap((track, index): ReadonlyArray<Step> => {
    const chance = random(seed * TRACKS.length + index)
    const own = chosen.filter((name) => kindOf(name).track === track)
    const [least, most] = GAPS[track]
    const found: Array<Step> = []
    let bag: Array<Name> = []
    let at = 0
    while (own.length > 0) {
      at += chance.between(least, most)
      if (at % (STORM + CALM) > STORM) at = Math.ceil(at / (STORM + CALM)) * (STORM + CALM)
      if (bag.length === 0) bag = shuffled(own, chance)
      const name = bag.pop() as Name
      const lasts = chance.between(...kindOf(name).lasts)
      const step = { name, at: Math.round(at), lasts: Math.round(lasts), which: chance.next(), share: chance.next() }
      if (step.at + step.lasts > length) break
      found.push(step)
      at += lasts
    }
    return found
  })
  return steps.toSorted((one, other) => one.at - other.at)
}

/** For people. */
export const print = (steps: ReadonlyArray<Step>): string =>
  steps.map(({ at, lasts, name }) => `${(at / 1000).toFixed(1)} ${name}${lasts === 0 ? "" : ` ${lasts} ms`}`).join(", ")
