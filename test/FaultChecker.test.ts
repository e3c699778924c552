import { describe, expect, it } from "@effect/vitest"
import { check } from "./faults/checker/check.ts"
import type { Event, Fault, History, Kind, Position, Published, Subscriber } from "./faults/checker/history.ts"
import { print } from "./faults/checker/print.ts"

const KEPT = "kept:room"
const OTHER = "kept:other"
const BARE = "bare:room"

// ── A history in which everything happens that may happen ────────────────────

/**
 * Redis is restarted empty at 50,000; before and after that a publication comes
 * each second. Numbers 1 to 9 are in epoch `A` at their number, 11 to 19 in `B`
 * at their number less ten.
 */
const RESTART: Fault = {
  kind: "redis-empty",
  from: 50_000,
  to: 51_500,
  explains: ["unrecovered", "2500", "3010"],
  losesData: true,
  drops: true
}

const SLOW: Fault = {
  kind: "client-throttle",
  from: 18_900,
  to: 22_000,
  explains: ["2500", "3008"],
  losesData: false,
  drops: true
}

const placeOf = (number: number) => (number < 10 ? { epoch: "A", offset: number } : { epoch: "B", offset: number - 10 })

/** When a number is sent. */
const timeOf = (number: number): number => number * 1000 + (number < 10 ? 10_000 : 50_000)

const NUMBERS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 18, 19]

const published = (channel: string): ReadonlyArray<Published> =>
  NUMBERS.map((number) => ({
    id: `${channel} ${number}`,
    channel,
    at: timeOf(number),
    outcome: {
      type: "acknowledged",
      at: timeOf(number) + 20,
      // The client protocol's reply has no position.
      ...(channel === KEPT && number % 2 === 0 ? { position: placeOf(number) } : {})
    },
    sent: { connection: "publisher", number }
  }))

const got = (channel: string, number: number, hasOffset = true): Event => ({
  type: "received",
  at: timeOf(number) + 10,
  id: `${channel} ${number}`,
  ...(hasOffset ? { offset: placeOf(number).offset } : {})
})

const all = (channel: string, from: number, to: number, hasOffset = true): ReadonlyArray<Event> =>
  NUMBERS.filter((number) => from <= number && number <= to).map((number) => got(channel, number, hasOffset))

const cutOff = (at: number, code = 1): Event => ({ type: "interrupted", at, code })

const subscribed = (at: number, number: number | undefined, recovered?: boolean): Event => ({
  type: "subscribed",
  at,
  ...(number === undefined ? {} : { position: placeOf(number) }),
  ...(recovered === undefined ? {} : { recovered })
})

/** Cut off and recovered, then slow and recovered, then told that the stream is lost. */
const recoverable = (client: string, channel: string): Subscriber => ({
  client,
  channel,
  promised: "recoverable",
  events: [
    { ...subscribed(1000, undefined), position: { epoch: "A", offset: 0 } } as Event,
    ...all(channel, 1, 3),
    cutOff(13_500),
    subscribed(16_500, 3, true),
    // The replay comes with the reply.
    ...all(channel, 4, 6).map((event) => ({ ...event, at: Math.max(event.at, 16_501) })),
    ...all(channel, 7, 9),
    cutOff(21_000, 2500),
    subscribed(21_100, 9, true),
    cutOff(52_000, 2500),
    { type: "subscribed", at: 52_100, position: { epoch: "B", offset: 0 }, recovered: false },
    ...all(channel, 11, 19)
  ]
})

const positioned = (client: string): Subscriber => ({
  client,
  channel: KEPT,
  promised: "positioned",
  events: [
    subscribed(11_500, 1),
    ...all(KEPT, 2, 4),
    cutOff(14_900),
    // It has missed the sixth, and knows that it may have.
    subscribed(16_500, 6),
    ...all(KEPT, 7, 9),
    cutOff(52_000, 2500),
    { type: "subscribed", at: 52_100, position: { epoch: "B", offset: 0 } },
    ...all(KEPT, 11, 19)
  ]
})

const plain = (client: string): Subscriber => ({
  client,
  channel: KEPT,
  promised: "plain",
  events: [
    subscribed(11_500, undefined),
    ...all(KEPT, 2, 8, false),
    cutOff(18_500, 1006),
    subscribed(18_800, undefined),
    got(KEPT, 9, false),
    cutOff(21_000, 3008),
    subscribed(21_200, undefined),
    cutOff(52_000, 3010),
    subscribed(52_200, undefined),
    ...all(KEPT, 11, 19, false)
  ]
})

/** It lacks what came while it was slow, and while Redis was away. */
const lossy = (client: string, ...dropped: ReadonlyArray<number>): Subscriber => ({
  client,
  channel: BARE,
  promised: "lossy",
  events: [
    subscribed(1000, undefined),
    ...NUMBERS.filter((number) => !dropped.includes(number)).map((number) => got(BARE, number, false))
  ]
})

const clean: History = {
  published: [
    ...published(KEPT),
    ...published(OTHER),
    ...published(BARE),
    // One timed out and came nevertheless, between two others; one did not.
    { id: "late", channel: OTHER, at: timeOf(19) + 1, outcome: { type: "unknown", at: timeOf(19) + 1001 } },
    { id: "never", channel: OTHER, at: timeOf(19) + 2, outcome: { type: "unknown", at: timeOf(19) + 1002 } },
    { id: "refused", channel: OTHER, at: timeOf(19) + 3, outcome: { type: "refused", at: timeOf(19) + 10 } }
  ],
  subscribers: [
    recoverable("r1", KEPT),
    recoverable("r2", KEPT),
    positioned("p1"),
    plain("w1"),
    plain("w2"),
    {
      ...recoverable("r1", OTHER),
      events: [
        ...recoverable("r1", OTHER).events,
        { type: "received", at: timeOf(19) + 20, id: "late", offset: 10 } as const
      ]
    },
    lossy("l1", 9, 11),
    lossy("l2")
  ],
  faults: [SLOW, RESTART],
  last: new Map([
    [KEPT, `${KEPT} 19`],
    [OTHER, `${OTHER} 19`],
    [BARE, `${BARE} 19`]
  ])
}

// ── Planting ─────────────────────────────────────────────────────────────────

/** The history with the log of one subscription changed. */
const plant = (
  client: string,
  channel: string,
  change: (events: ReadonlyArray<Event>) => ReadonlyArray<Event>,
  history: History = clean
): History => ({
  ...history,
  subscribers: history.subscribers.map((one) =>
    one.client === client && one.channel === channel ? { ...one, events: change(one.events) } : one
  )
})

const isOf =
  (number: number, channel = KEPT) =>
  (event: Event): boolean =>
    event.type === "received" && event.id === `${channel} ${number}`

const without =
  (number: number, channel = KEPT) =>
  (events: ReadonlyArray<Event>) =>
    events.filter((event) => !isOf(number, channel)(event))

/** With another event behind one that was received. */
const behind =
  (number: number, event: Event, channel = KEPT) =>
  (events: ReadonlyArray<Event>) =>
    events.flatMap((one) => (isOf(number, channel)(one) ? [one, event] : [one]))

/** Two that were received change places, whole or without their offsets. */
const swap =
  (one: number, other: number, keepsOffsets: boolean, channel = KEPT) =>
  (events: ReadonlyArray<Event>) => {
    const first = events.find(isOf(one, channel)) as Event & { type: "received" }
    const second = events.find(isOf(other, channel)) as Event & { type: "received" }
    const inPlaceOf = (place: typeof first, event: typeof first): Event => ({
      ...event,
      at: place.at,
      ...(keepsOffsets && place.offset !== undefined ? { offset: place.offset } : {})
    })
    return events.map((event) =>
      event === first ? inPlaceOf(first, second) : event === second ? inPlaceOf(second, first) : event
    )
  }

const kindsOf = (history: History): ReadonlyArray<Kind> => Array.from(new Set(check(history).map(({ kind }) => kind)))

/** What is found, and of whom. */
const found = (history: History) =>
  check(history).map(({ channel, client, kind, message }) => ({ kind, client, channel, message }))

describe("the history checker", () => {
  it("finds nothing in a history with every signal that a fault explains", () => {
    expect(found(clean)).toEqual([])
  })

  it("finds a gap, of a subscription with positions", () => {
    expect(found(plant("r1", KEPT, without(5)))).toEqual([
      { kind: "gap", client: "r1", channel: KEPT, message: "offset 5 is missing" },
      {
        kind: "lost",
        client: "r1",
        channel: KEPT,
        message: `${KEPT} 5 was acknowledged, and never came; ${KEPT} 6 did`
      }
    ])
    expect(kindsOf(plant("p1", KEPT, without(8)))).toEqual(["gap", "lost"])
  })

  it("finds a recovery that does not go on where the subscription was", () => {
    const at = (position: Position) => (events: ReadonlyArray<Event>) =>
      events.map((event) => (event.type === "subscribed" && event.at === 16_500 ? { ...event, position } : event))
    // Behind the replay, as well as before it.
    expect(found(plant("r1", KEPT, at(placeOf(6))))).toEqual([])
    expect(kindsOf(plant("r1", KEPT, at(placeOf(2))))).toEqual(["gap"])
    expect(kindsOf(plant("r1", KEPT, at({ epoch: "another", offset: 3 })))).toEqual(["gap"])
    expect(kindsOf(plant("r1", KEPT, (events) => at(placeOf(6))(without(4)(events))))).toEqual(["gap", "lost"])
  })

  it("finds a gap of a plain socket, which has no positions of its own", () => {
    const history = plant("w1", KEPT, without(5))
    // By the positions that others have seen, also where its publisher is not known to have been told anything.
    expect(kindsOf(history)).toEqual(["gap", "lost"])
    const unknown = history.published.map((one): Published =>
      one.id === `${KEPT} 5` ? { ...one, outcome: { type: "unknown", at: one.at + 1000 } } : one
    )
    expect(found({ ...history, published: unknown })).toEqual([
      { kind: "gap", client: "w1", channel: KEPT, message: "offset 5 is missing" }
    ])
  })

  it("finds what a plain socket lacks at the beginning of its connection", () => {
    expect(kindsOf(plant("w2", KEPT, without(2)))).toEqual(["lost"])
  })

  it("finds a duplicate: of a subscription with positions, of a plain socket, in a channel without history", () => {
    expect(found(plant("r2", KEPT, behind(7, got(KEPT, 7))))).toEqual([
      { kind: "duplicate", client: "r2", channel: KEPT, message: `${KEPT} 7 once more` }
    ])
    expect(kindsOf(plant("w1", KEPT, behind(7, got(KEPT, 6, false))))).toEqual(["duplicate"])
    expect(kindsOf(plant("l2", BARE, behind(7, got(BARE, 7, false), BARE)))).toEqual(["duplicate"])
  })

  it("permits that a Redis that was emptied publishes once more what it is asked for under the same key", () => {
    const again = { type: "received", at: 51_500, id: `${BARE} 9` } as const
    const waited = clean.published.map((one): Published =>
      one.id === `${BARE} 9` ? { ...one, at: 49_500, outcome: { type: "acknowledged", at: 51_600 } } : one
    )
    const twice = (events: ReadonlyArray<Event>): ReadonlyArray<Event> =>
      behind(
        9,
        again,
        BARE
      )(events).map((event) => (isOf(9, BARE)(event) && event.at < 50_000 ? { ...event, at: 49_600 } : event))
    expect(found(plant("l2", BARE, twice, { ...clean, published: waited }))).toEqual([])
  })

  it("finds a swap: of a subscription with positions, of a plain socket, in a channel without history", () => {
    expect(kindsOf(plant("r1", KEPT, swap(7, 8, false)))).toEqual(["order"])
    expect(kindsOf(plant("w1", KEPT, swap(14, 15, false)))).toEqual(["order"])
    expect(kindsOf(plant("l1", BARE, swap(14, 15, false, BARE), clean))).toEqual(["order"])
  })

  it("finds a swap in a channel without history of publications that were under way together", () => {
    const together = clean.published.map((one): Published =>
      [`${BARE} 14`, `${BARE} 15`].includes(one.id)
        ? { id: one.id, channel: one.channel, at: timeOf(14), outcome: { type: "acknowledged", at: timeOf(15) + 20 } }
        : one
    )
    const history = { ...clean, published: together }
    expect(found(history)).toEqual([])
    expect(kindsOf(plant("l1", BARE, swap(14, 15, false, BARE), history))).toEqual(["order"])
  })

  it("finds that a connection's publications are not in the order in which it has sent them", () => {
    const pipelined = clean.published.map((one): Published =>
      [14, 15].some((number) => one.id === `${KEPT} ${number}`)
        ? {
            id: one.id,
            channel: one.channel,
            at: timeOf(14),
            outcome: { type: "acknowledged", at: timeOf(15) + 20 },
            sent: { connection: "publisher", number: one.id === `${KEPT} 14` ? 15 : 14 }
          }
        : one
    )
    expect(new Set(check({ ...clean, published: pipelined }).map(({ kind }) => kind))).toEqual(new Set(["order"]))
  })

  it("finds an invention", () => {
    const invented = { type: "received", at: timeOf(19) + 50, id: "nobody's", offset: 10 } as const
    expect(found(plant("r1", KEPT, (events) => [...events, invented]))).toEqual([
      { kind: "invention", client: "r1", channel: KEPT, message: "nobody's was never sent" }
    ])
  })

  it("finds a publication in the wrong channel", () => {
    const stray = { type: "received", at: timeOf(19) + 50, id: `${OTHER} 19`, offset: 10 } as const
    expect(found(plant("r1", KEPT, (events) => [...events, stray]))).toEqual([
      { kind: "wrong channel", client: "r1", channel: KEPT, message: `${OTHER} 19 was sent to ${OTHER}` }
    ])
  })

  it("finds that something was delivered that was refused", () => {
    const refused = { type: "received", at: timeOf(19) + 50, id: "refused", offset: 11 } as const
    expect(kindsOf(plant("r1", OTHER, (events) => [...events, refused]))).toEqual(["refused but delivered"])
  })

  it("finds that one that was acknowledged is lost, for all, without a hole in the offsets", () => {
    const closeUp = (events: ReadonlyArray<Event>): ReadonlyArray<Event> =>
      without(15)(events).map((event) =>
        event.type === "received" && event.offset !== undefined && event.at > timeOf(15)
          ? { ...event, offset: event.offset - 1 }
          : event
      )
    const history = {
      ...clean,
      // Their publisher was not told their positions.
      published: clean.published.map((one): Published =>
        one.channel === KEPT && one.at > timeOf(11)
          ? { ...one, outcome: { type: "acknowledged", at: one.outcome.at } }
          : one
      ),
      subscribers: clean.subscribers.map((one) =>
        one.channel === KEPT ? { ...one, events: closeUp(one.events) } : one
      )
    }
    expect(kindsOf(history)).toEqual(["lost"])
    expect(check(history).map(({ client }) => client)).toEqual(["r1", "r2", "p1", "w1", "w2"])
  })

  it("finds a drop in a channel without history that no fault explains", () => {
    expect(kindsOf(plant("l2", BARE, without(16, BARE)))).toEqual(["lost"])
  })

  it("finds each needless signal", () => {
    const [slow, restart] = clean.faults
    const signals = (history: History): ReadonlyArray<string> =>
      check(history).map(({ client, message }) => `${client} ${message.split(",")[0]}`)
    const inKept = (history: History): History => ({
      ...history,
      subscribers: history.subscribers.filter(({ channel }) => channel === KEPT)
    })
    expect(signals(inKept({ ...clean, faults: [restart as Fault] }))).toEqual([
      "r1 2500",
      "r2 2500",
      "w1 3008",
      "w2 3008"
    ])
    expect(signals(inKept({ ...clean, faults: [slow as Fault] }))).toEqual([
      "r1 2500",
      "r1 unrecovered",
      "r2 2500",
      "r2 unrecovered",
      "p1 2500",
      "w1 3010",
      "w2 3010"
    ])
  })

  it("finds a second signal needless where the fault was over, and its subscriber told", () => {
    const twice = (events: ReadonlyArray<Event>): ReadonlyArray<Event> => [
      ...events,
      cutOff(timeOf(19) + 100, 2500),
      subscribed(timeOf(19) + 200, 19, true)
    ]
    expect(kindsOf(plant("r1", KEPT, twice))).toEqual(["needless signal"])
  })

  it("finds who is not live at the end", () => {
    expect(found(plant("w1", KEPT, (events) => [...events, cutOff(timeOf(19) + 100, 1006)]))).toEqual([
      { kind: "not live", client: "w1", channel: KEPT, message: "not subscribed since 1006" }
    ])
    expect(kindsOf(plant("r1", KEPT, () => []))).toEqual(["not live"])
  })

  it("finds who is not up to date at the end", () => {
    expect(found(plant("l1", BARE, without(19, BARE)))).toEqual([
      { kind: "not up to date", client: "l1", channel: BARE, message: `${BARE} 19, the last one, never came` }
    ])
    expect(kindsOf(plant("r2", KEPT, without(19)))).toEqual(["not up to date"])
  })

  it("finds the same publication at different positions", () => {
    const swapped = plant("r2", KEPT, swap(14, 15, true))
    expect(kindsOf(swapped)).toContain("position")
    const answered = clean.published.map((one): Published =>
      one.id === `${KEPT} 14`
        ? { ...one, outcome: { type: "acknowledged", at: one.outcome.at, position: { epoch: "B", offset: 40 } } }
        : one
    )
    expect(kindsOf({ ...clean, published: answered })).toContain("position")
  })

  it("prints the seed, and the last events of the client and of its channel", () => {
    const history = plant("r1", KEPT, without(5))
    const text = print(history, check(history), 4711)
    expect(text).toContain("2 violations, seed 4711: 1 × gap, 1 × lost")
    expect(text).toContain(`gap: r1 (recoverable) in ${KEPT}`)
    expect(text).toContain(`13500.0 interrupted: 1`)
    expect(text).toContain(`15000.0 ${KEPT} 5 sent`)
  })
})
