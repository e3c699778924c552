/** Whether a segment has every publication of its stream, once and in order: by offsets, its own or those that others have seen. */
import type { Kind, Violation } from "./history.ts"
import type { Positions } from "./positions.ts"
import type { Received, Segment } from "./segments.ts"

/** Something received, and its place in the stream where that is known. */
interface Placed {
  readonly received: Received
  readonly offset: number | undefined
}

/** The epoch of a plain socket's segment: the one in which most of what it received has a place. */
const epochOf = (received: ReadonlyArray<Received>, positions: Positions): string | undefined => {
  const counts = new Map<string, number>()
  for (const { id } of received) {
    for (const epoch of positions.of(id).keys()) counts.set(epoch, (counts.get(epoch) ?? 0) + 1)
  }
  return Array.from(counts).reduce<readonly [string | undefined, number]>(
    (most, [epoch, count]) => (count > most[1] ? [epoch, count] : most),
    [undefined, 0]
  )[0]
}

const place = ({ position, received }: Segment, positions: Positions): ReadonlyArray<Placed> => {
  if (position !== undefined) return received.map((one) => ({ received: one, offset: one.offset }))
  const epoch = epochOf(received, positions)
  if (epoch === undefined) return []
  return received.map((one) => ({ received: one, offset: positions.of(one.id).get(epoch) }))
}

/** The publications of a stream that a segment skips, has twice or in another order. */
export const contiguity = (segment: Segment, positions: Positions): ReadonlyArray<Violation> => {
  const { client, channel } = segment.subscriber
  const violations: Array<Violation> = []
  const found = (kind: Kind, at: number, message: string): void => {
    violations.push({ kind, channel, client, at, message })
  }
  /** Skipped, and when that was seen. */
  const missing = new Map<number, number>()
  const seen = new Set<string>()
  let last = segment.position?.offset
  for (const { offset, received } of place(segment, positions)) {
    if (seen.has(received.id)) {
      found("duplicate", received.at, `${received.id} once more`)
      continue
    }
    seen.add(received.id)
    // Nobody else has seen it: it is what comes next.
    const next: number | undefined = offset ?? (last === undefined ? undefined : last + 1)
    if (next === undefined) continue
    if (missing.delete(next)) {
      found("order", received.at, `${received.id} (offset ${next}) after offset ${last}`)
      continue
    }
    if (last !== undefined && next <= last) {
      found("duplicate", received.at, `${received.id} at offset ${next}, after offset ${last}`)
      continue
    }
    if (last !== undefined) for (let skipped = last + 1; skipped < next; skipped++) missing.set(skipped, received.at)
    last = next
  }
  for (const [offset, at] of missing) found("gap", at, `offset ${offset} is missing`)
  return violations
}
