/**
 * A subscriber's log, cut into segments: the stretches in which nothing may be
 * missing. One of a `recoverable` subscription goes on through every recovery
 * and ends with the signal that something is lost; that of any other one ends
 * with the subscription.
 */
import type { Event, Position, Signal, Subscriber } from "./history.ts"

export interface Received {
  readonly at: number
  readonly id: string
  readonly offset?: number
}

export interface Segment {
  readonly subscriber: Subscriber
  /** From when on it gets everything. */
  readonly from: number
  /** Where it begins, where it has positions. */
  readonly position: Position | undefined
  readonly received: Array<Received>
  /** Whether the run ended in it, and it was subscribed then. */
  isOpen: boolean
}

/** A signal, and since when its subscriber had been without one. */
export interface Signalled {
  readonly signal: Signal
  readonly since: number
  readonly at: number
}

/** A recovery that does not go on where the subscriber was. */
export interface Misplaced {
  readonly at: number
  readonly expected: Position
  readonly found: Position | undefined
}

export interface Cut {
  readonly segments: ReadonlyArray<Segment>
  readonly signals: ReadonlyArray<Signalled>
  readonly misplaced: ReadonlyArray<Misplaced>
  /** What it got while it was not subscribed. */
  readonly stray: ReadonlyArray<Received>
  readonly isLive: boolean
}

const SIGNALS: ReadonlyMap<number, Signal> = new Map([
  [2500, "2500"],
  [3008, "3008"],
  [3010, "3010"]
])

/** Where a subscriber is after all that it has received in a segment. */
const positionAfter = ({ position, received }: Segment): Position | undefined =>
  position && { epoch: position.epoch, offset: Math.max(position.offset, received.at(-1)?.offset ?? 0) }

/** Whether a recovery to a position goes on behind another one: it is that one, or the end of the replay. */
const continues = (found: Position | undefined, from: Position): boolean =>
  found !== undefined && found.epoch === from.epoch && found.offset >= from.offset

export const cut = (subscriber: Subscriber): Cut => {
  const segments: Array<Segment> = []
  const signals: Array<Signalled> = []
  const misplaced: Array<Misplaced> = []
  const stray: Array<Received> = []
  const isRecoverable = subscriber.promised === "recoverable"
  let current: Segment | undefined
  let subscribedAt = 0
  let isSubscribed = false

  const begin = (event: Event & { type: "subscribed" }): void => {
    current = { subscriber, from: event.at, position: event.position, received: [], isOpen: false }
    segments.push(current)
  }

  for (const event of subscriber.events) {
    switch (event.type) {
      case "subscribed": {
        isSubscribed = true
        subscribedAt = event.at
        if (!isRecoverable || current === undefined) {
          begin(event)
        } else if (event.recovered === true) {
          const expected = positionAfter(current)
          if (expected !== undefined && !continues(event.position, expected)) {
            misplaced.push({ at: event.at, expected, found: event.position })
          }
        } else {
          signals.push({ signal: "unrecovered", since: current.from, at: event.at })
          begin(event)
        }
        break
      }
      case "received": {
        if (current === undefined || !isSubscribed) stray.push(event)
        else current.received.push(event)
        break
      }
      case "interrupted": {
        const signal = SIGNALS.get(event.code)
        if (signal !== undefined && isSubscribed) signals.push({ signal, since: subscribedAt, at: event.at })
        isSubscribed = false
        break
      }
    }
  }
  if (current !== undefined && isSubscribed) current.isOpen = true
  return { segments, signals, misplaced, stray, isLive: isSubscribed }
}
