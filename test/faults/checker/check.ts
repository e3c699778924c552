/**
 * The promises, checked against what a run has recorded: no invention; no
 * duplicate; one order per channel; the same publication at the same position
 * for everyone; every acknowledged publication delivered to every subscriber of
 * that time, or signalled; no signal without a fault that explains it; at the
 * end everybody live and up to date. Pure, and knows nothing of the system but
 * its logs.
 */
import { contiguity } from "./contiguity.ts"
import type { Fault, History, Published, Subscriber, Violation } from "./history.ts"
import { order } from "./order.ts"
import { Positions } from "./positions.ts"
import { acknowledged, precedence } from "./precedence.ts"
import { type Cut, cut, type Segment, type Signalled } from "./segments.ts"

/** For how long after its end a fault explains what happens, in milliseconds. */
export const GRACE = 10_000

const groupBy = <A>(all: Iterable<A>, channelOf: (one: A) => string): ReadonlyMap<string, ReadonlyArray<A>> => {
  const groups = new Map<string, Array<A>>()
  for (const one of all) {
    const group = groups.get(channelOf(one))
    if (group === undefined) groups.set(channelOf(one), [one])
    else group.push(one)
  }
  return groups
}

const overlaps = ({ from, to }: Fault, since: number, until: number): boolean => from <= until && to + GRACE >= since

/** When a fault has no effect any more: others that follow it may keep its effects from showing. */
const settledAfter = (fault: Fault, faults: ReadonlyArray<Fault>): number =>
  faults
    .toSorted((one, other) => one.from - other.from)
    .reduce((end, { from, to }) => (from <= end + GRACE ? Math.max(end, to) : end), fault.to) + GRACE

/**
 * Whether a signal may come of a fault. Who recovers may have been away for
 * long; who is subscribed is told once the fault shows.
 */
const mayExplain = (fault: Fault, faults: ReadonlyArray<Fault>, { at, signal, since }: Signalled): boolean => {
  if (!fault.explains.includes(signal) || fault.from > at) return false
  if (at <= fault.to + GRACE) return true
  return fault.to >= since && (signal === "unrecovered" || at <= settledAfter(fault, faults))
}

/** What was received, and must not have been there at all. */
const inventions = (history: History, known: ReadonlyMap<string, Published>): ReadonlyArray<Violation> =>
  history.subscribers.flatMap(({ channel, client, events }) =>
    events.flatMap((event): ReadonlyArray<Violation> => {
      if (event.type !== "received") return []
      const { at, id } = event
      const publication = known.get(id)
      if (publication === undefined) {
        return [{ kind: "invention", channel, client, at, message: `${id} was never sent` }]
      }
      if (publication.channel !== channel) {
        return [{ kind: "wrong channel", channel, client, at, message: `${id} was sent to ${publication.channel}` }]
      }
      return publication.outcome.type === "refused"
        ? [{ kind: "refused but delivered", channel, client, at, message: `${id} was refused` }]
        : []
    })
  )

/** A subscription, and what its log is cut into. */
interface Examined extends Cut {
  readonly subscriber: Subscriber
}

/** The positions that are known of a channel: those of subscribers, and those that publishers were answered with. */
const positionsOf = (
  channel: string,
  published: ReadonlyArray<Published>,
  segments: ReadonlyArray<Segment>
): Positions => {
  const positions = new Positions(channel)
  for (const { id, outcome } of published) {
    if (outcome.type !== "acknowledged" || outcome.position === undefined) continue
    positions.see(id, outcome.position, "its publisher", outcome.at)
  }
  for (const { position, received, subscriber } of segments) {
    if (position === undefined) continue
    for (const { at, id, offset } of received) {
      if (offset !== undefined) positions.see(id, { epoch: position.epoch, offset }, subscriber.client, at)
    }
  }
  return positions
}

/** At most once, and in order: what came twice, and what was dropped without a reason. */
const lossy = (
  segment: Segment,
  known: ReadonlyMap<string, Published>,
  inOrder: ReadonlyArray<Published>,
  faults: ReadonlyArray<Fault>
): ReadonlyArray<Violation> => {
  const { channel, client } = segment.subscriber
  const seen = new Set<string>()
  const violations: Array<Violation> = []
  for (const { at, id } of segment.received) {
    const sent = known.get(id)?.at ?? at
    // What a Redis that has lost its keys is asked for again, it publishes again.
    const isAgain = faults.some((fault) => fault.losesData && overlaps(fault, sent, at))
    if (seen.has(id) && !isAgain)
      violations.push({ kind: "duplicate", channel, client, at, message: `${id} once more` })
    seen.add(id)
  }
  const mustCome = ({ at, outcome }: Published): boolean =>
    !faults.some((fault) => fault.drops && overlaps(fault, at, outcome.at))
  return [...violations, ...precedence(segment, known, inOrder, mustCome)]
}

const needless = (
  { signals, subscriber: { channel, client } }: Examined,
  faults: ReadonlyArray<Fault>
): ReadonlyArray<Violation> =>
  signals
    .filter((one) => !faults.some((fault) => mayExplain(fault, faults, one)))
    .map(({ at, signal }) => ({
      kind: "needless signal",
      channel,
      client,
      at,
      message: `${signal}, and no fault explains it`
    }))

const unfinished = (
  { isLive, segments, subscriber: { channel, client, events } }: Examined,
  last: Published | undefined
): ReadonlyArray<Violation> => {
  const end = events.at(-1)
  const at = end?.at ?? 0
  if (!isLive) {
    const why = end?.type === "interrupted" ? `not subscribed since ${end.code}` : "never subscribed"
    return [{ kind: "not live", channel, client, at, message: why }]
  }
  const segment = segments.at(-1)
  // Who has come later has nothing to get.
  if (last === undefined || segment === undefined || segment.from > last.outcome.at) return []
  if (segment.received.some(({ id }) => id === last.id)) return []
  return [{ kind: "not up to date", channel, client, at, message: `${last.id}, the last one, never came` }]
}

const checkChannel = (
  channel: string,
  published: ReadonlyArray<Published>,
  examined: ReadonlyArray<Examined>,
  known: ReadonlyMap<string, Published>,
  { faults, last }: History
): ReadonlyArray<Violation> => {
  const inOrder = acknowledged(published)
  const segments = examined.flatMap((one) => one.segments)
  const positions = positionsOf(channel, published, segments)
  const isWhole = ({ subscriber }: Segment): boolean => subscriber.promised !== "lossy"
  return [
    ...positions.violations,
    ...order(
      channel,
      segments.filter((segment) => !isWhole(segment))
    ),
    ...segments.flatMap((segment) =>
      isWhole(segment)
        ? [...contiguity(segment, positions), ...precedence(segment, known, inOrder, () => true)]
        : lossy(segment, known, inOrder, faults)
    ),
    ...examined.flatMap(({ misplaced, stray, subscriber: { client } }): ReadonlyArray<Violation> => [
      ...misplaced.map(({ at, expected, found }) => ({
        kind: "gap" as const,
        channel,
        client,
        at,
        message: `recovered at ${found?.offset} of ${found?.epoch}, was at ${expected.offset} of ${expected.epoch}`
      })),
      ...stray.map(({ at, id }) => ({
        kind: "order" as const,
        channel,
        client,
        at,
        message: `${id} while it was not subscribed`
      }))
    ]),
    ...examined.flatMap((one) => [...needless(one, faults), ...unfinished(one, known.get(last.get(channel) ?? ""))])
  ]
}

/** Everything that must not be in a history; empty where every promise was kept. */
export const check = (history: History): ReadonlyArray<Violation> => {
  const known = new Map(history.published.map((publication) => [publication.id, publication]))
  const published = groupBy(history.published, ({ channel }) => channel)
  const examined = groupBy(
    history.subscribers.map((subscriber): Examined => ({ subscriber, ...cut(subscriber) })),
    ({ subscriber }) => subscriber.channel
  )
  return [
    ...inventions(history, known),
    ...Array.from(examined).flatMap(([channel, ones]) =>
      checkChannel(channel, published.get(channel) ?? [], ones, known, history)
    )
  ]
}
