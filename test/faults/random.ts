/** Numbers that a seed repeats (Mulberry32). */

export interface Random {
  /** From 0 up to 1. */
  readonly next: () => number
  /** An integer from 0 up to a bound. */
  readonly below: (bound: number) => number
  /** From one number up to another. */
  readonly between: (least: number, most: number) => number
  /** One of several. */
  readonly pick: <A>(all: ReadonlyArray<A>) => A
}

export const random = (seed: number): Random => {
  let state = seed >>> 0
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  const below = (bound: number): number => Math.floor(next() * bound)
  return {
    next,
    below,
    between: (least, most) => least + next() * (most - least),
    pick: <A>(all: ReadonlyArray<A>): A => all[below(all.length)] as A
  }
}
