/** What an entry shares with others, in a test that is not about that. */
import type { Shared } from "../../src/Hub/Entry.ts"

export const unbounded = (): Shared => ({
  held: { maxBytes: Infinity, bytes: 0 },
  remembered: { maxBytes: Infinity, bytes: 0 }
})
