/** Whether all subscribers of a channel without history can have seen parts of one order. */
import type { Violation } from "./history.ts"
import type { Segment } from "./segments.ts"

/** A publication that must come before itself, if everybody is right; `undefined`: there is an order. */
const contradiction = (after: ReadonlyMap<string, ReadonlySet<string>>): string | undefined => {
  const before = new Map<string, number>()
  for (const next of after.values()) for (const id of next) before.set(id, (before.get(id) ?? 0) + 1)
  const free = Array.from(after.keys()).filter((id) => !before.has(id))
  for (let id = free.pop(); id !== undefined; id = free.pop()) {
    for (const next of after.get(id) ?? []) {
      const left = (before.get(next) ?? 0) - 1
      before.set(next, left)
      if (left === 0) free.push(next)
    }
  }
  return Array.from(before).find(([, left]) => left > 0)?.[0]
}

/** Whether segments of one channel contradict each other. */
export const order = (channel: string, segments: ReadonlyArray<Segment>): ReadonlyArray<Violation> => {
  const after = new Map<string, Set<string>>()
  for (const { received } of segments) {
    // What came twice is another violation, or none.
    const ids = Array.from(new Set(received.map(({ id }) => id)))
    ids.forEach((id, index) => {
      const next = ids[index + 1]
      const known = after.get(id) ?? new Set()
      after.set(id, known)
      if (next !== undefined) known.add(next)
    })
  }
  const id = contradiction(after)
  if (id === undefined) return []
  const at = segments.flatMap(({ received }) => received).find((one) => one.id === id)?.at ?? 0
  return [{ kind: "order", channel, at, message: `subscribers have seen different orders, ${id} among them` }]
}
