/** Violations for people: each with what its client, and its channel, went through last. */
import type { Event, History, Published, Violation } from "./history.ts"

/** Events that are shown of a client and of a channel. */
const SHOWN = 20

/** Violations that are shown in full. */
const IN_FULL = 5

type Line = readonly [at: number, text: string]

const textOf = (event: Event): string => {
  switch (event.type) {
    case "subscribed": {
      const { position, recovered } = event
      const where = position === undefined ? "" : ` at ${position.offset} of ${position.epoch}`
      return `subscribed${where}${recovered === undefined ? "" : `, recovered: ${recovered}`}`
    }
    case "received":
      return `received ${event.id}${event.offset === undefined ? "" : ` at ${event.offset}`}`
    case "interrupted":
      return `interrupted: ${event.code}`
  }
}

const publishedLines = ({ at, id, outcome }: Published): ReadonlyArray<Line> => {
  const where =
    outcome.type === "acknowledged" && outcome.position !== undefined
      ? ` at ${outcome.position.offset} of ${outcome.position.epoch}`
      : ""
  return [
    [at, `${id} sent`],
    [outcome.at, `${id} ${outcome.type}${where}`]
  ]
}

const lastOf = (lines: ReadonlyArray<Line>, at: number): ReadonlyArray<string> =>
  lines
    .filter(([time]) => time <= at)
    .toSorted(([one], [other]) => one - other)
    .slice(-SHOWN)
    .map(([time, text]) => `      ${time.toFixed(1)} ${text}`)

const faultLines = ({ faults }: History): ReadonlyArray<Line> =>
  faults.flatMap(({ from, kind, to }): ReadonlyArray<Line> => [
    [from, `fault ${kind} begins`],
    [to, `fault ${kind} ends`]
  ])

const full = (history: History, { at, channel, client, kind, message }: Violation): string => {
  const own = history.subscribers.find((one) => one.client === client && one.channel === channel)
  const faults = faultLines(history)
  const ofClient = (own?.events ?? []).map((event): Line => [event.at, textOf(event)])
  const ofChannel = history.published.filter((one) => one.channel === channel).flatMap(publishedLines)
  return [
    `  ${kind}: ${client === undefined ? "" : `${client} (${own?.promised}) in `}${channel} at ${at.toFixed(1)}: ${message}`,
    ...(client === undefined ? [] : ["    the client's last events:", ...lastOf([...ofClient, ...faults], at)]),
    "    the channel's last events:",
    ...lastOf([...ofChannel, ...faults], at)
  ].join("\n")
}

const brief = ({ channel, client, kind, message }: Violation): string =>
  `  ${kind}: ${client ?? "everybody"} in ${channel}: ${message}`

/** All violations, the first ones in full; how many there are of each kind. */
export const print = (history: History, violations: ReadonlyArray<Violation>, seed: number): string => {
  const counts = new Map<string, number>()
  for (const { kind } of violations) counts.set(kind, (counts.get(kind) ?? 0) + 1)
  const inOrder = violations.toSorted((one, other) => one.at - other.at)
  return [
    `${violations.length} violations, seed ${seed}: ${Array.from(counts, ([kind, count]) => `${count} × ${kind}`).join(", ")}`,
    ...inOrder.slice(0, IN_FULL).map((one) => full(history, one)),
    ...inOrder.slice(IN_FULL, 50).map(brief)
  ].join("\n")
}
