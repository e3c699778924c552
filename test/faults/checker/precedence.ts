/**
 * What must come before what, whoever receives it. A publication that was
 * acknowledged before another one was sent is before it; so is, of two that
 * were acknowledged, the one that was sent first on the same connection. What
 * must come before and may not be missing has to have come.
 */
import type { Published, Violation } from "./history.ts"
import type { Segment } from "./segments.ts"

/** Clocks of different processes are read at different moments, in milliseconds. */
const MARGIN = 1

/** Publications of one channel that were acknowledged, by the time of that. */
export const acknowledged = (published: Iterable<Published>): ReadonlyArray<Published> =>
  Array.from(published)
    .filter(({ outcome }) => outcome.type === "acknowledged")
    .toSorted((one, other) => one.outcome.at - other.outcome.at)

/** Publications that a segment lacks, of those that it must have, or has in another order. */
export const precedence = (
  segment: Segment,
  known: ReadonlyMap<string, Published>,
  inOrder: ReadonlyArray<Published>,
  mustCome: (publication: Published) => boolean
): ReadonlyArray<Violation> => {
  const { client, channel } = segment.subscriber
  const { received } = segment
  const violations: Array<Violation> = []
  const indices = new Map<string, number>()
  received.forEach(({ id }, index) => {
    if (!indices.has(id)) indices.set(id, index)
  })

  let next = 0
  /** All that was acknowledged before `time` has to have come by `index`. */
  const hasCome = (time: number, index: number, at: number, before: string): void => {
    for (; next < inOrder.length; next++) {
      const one = inOrder[next] as Published
      if (one.outcome.at + MARGIN >= time) return
      const found = indices.get(one.id)
      if (found !== undefined && found > index) {
        violations.push({ kind: "order", channel, client, at, message: `${before} before ${one.id}` })
      } else if (found === undefined && one.at > segment.from && mustCome(one)) {
        violations.push({
          kind: "lost",
          channel,
          client,
          at,
          message: `${one.id} was acknowledged, and never came; ${before} did`
        })
      }
    }
  }

  let newest = 0
  const numbers = new Map<string, { readonly number: number; readonly id: string }>()
  received.forEach(({ at, id }, index) => {
    const publication = known.get(id)
    // What comes twice is another violation.
    if (publication === undefined || indices.get(id) !== index) return
    newest = Math.max(newest, publication.at)
    hasCome(newest, index, at, id)
    if (publication.sent === undefined || publication.outcome.type !== "acknowledged") return
    const { connection, number } = publication.sent
    const before = numbers.get(connection)
    if (before !== undefined && before.number > number) {
      violations.push({
        kind: "order",
        channel,
        client,
        at,
        message: `${before.id} before ${id}, which was sent before it on connection ${connection}`
      })
    }
    if (before === undefined || before.number < number) numbers.set(connection, { number, id })
  })
  return violations
}
