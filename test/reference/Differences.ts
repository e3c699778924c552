/** The differences between the two servers: `differences.json` lists each with its reason. */
import { readFileSync, writeFileSync } from "node:fs"
import type { Transcript } from "./Transcript.ts"

/** How the answers to one case differ: the lines that the other server has not. */
export interface Difference {
  readonly case: string
  readonly theirs: Transcript
  readonly ours: Transcript
}

/** A difference that is known. */
export interface Known extends Difference {
  /** Names of reasons; one that `--write` has found has none. */
  readonly because: ReadonlyArray<string>
}

export interface List {
  /** In sentences, by name. */
  readonly reasons: Readonly<Record<string, string>>
  readonly differences: ReadonlyArray<Known>
}

const without = (lines: Transcript, others: Transcript): Transcript => {
  const left = Array.from(others)
  return lines.filter((line) => {
    const at = left.indexOf(line)
    if (at >= 0) left.splice(at, 1)
    return at < 0
  })
}

/** How two answers to a case differ; `undefined`: they do not. */
export const between = (name: string, theirs: Transcript, ours: Transcript): Difference | undefined => {
  if (theirs.join("\n") === ours.join("\n")) return undefined
  const difference = { case: name, theirs: without(theirs, ours), ours: without(ours, theirs) }
  // The same lines in another order.
  return difference.theirs.length + difference.ours.length === 0 ? { case: name, theirs, ours } : difference
}

/** How all answers differ, by case. */
export const all = (
  theirs: ReadonlyMap<string, Transcript>,
  ours: ReadonlyMap<string, Transcript>
): ReadonlyArray<Difference> =>
  Array.from(ours, ([name, answers]) => between(name, theirs.get(name) ?? [], answers)).filter(
    (one) => one !== undefined
  )

const isSame = (one: Difference, other: Difference): boolean =>
  one.theirs.join("\n") === other.theirs.join("\n") && one.ours.join("\n") === other.ours.join("\n")

/** What is wrong with a list beside the differences that there are, a line each. */
export const problems = (list: List, found: ReadonlyArray<Difference>): ReadonlyArray<string> => {
  const known = new Map(list.differences.map((one) => [one.case, one]))
  const there = new Map(found.map((one) => [one.case, one]))
  const used = new Set(list.differences.flatMap(({ because }) => because))
  const show = ({ ours, theirs }: Difference): string =>
    [...theirs.map((line) => `  there: ${line}`), ...ours.map((line) => `  here:  ${line}`)].join("\n")
  return [
    ...found.flatMap((one) => {
      const listed = known.get(one.case)
      if (listed === undefined) return [`not listed: ${one.case}\n${show(one)}`]
      return isSame(listed, one) ? [] : [`listed otherwise: ${one.case}\n${show(one)}`]
    }),
    ...list.differences.flatMap((one) => [
      ...(there.has(one.case) ? [] : [`listed, and there is none any more: ${one.case}`]),
      ...(one.because.length === 0 ? [`without a reason: ${one.case}\n${show(one)}`] : []),
      ...one.because
        .filter((name) => !Object.hasOwn(list.reasons, name))
        .map((name) => `no reason is called "${name}": ${one.case}`)
    ]),
    ...Object.keys(list.reasons)
      .filter((name) => !used.has(name))
      .map((name) => `a reason of nothing: ${name}`)
  ]
}

/** The list with the differences that there are. Reasons stay with what has not changed; nothing is given one. */
export const updated = (list: List, found: ReadonlyArray<Difference>): List => {
  const known = new Map(list.differences.map((one) => [one.case, one]))
  const differences = found.map((one) => {
    const listed = known.get(one.case)
    return { ...one, because: listed !== undefined && isSame(listed, one) ? listed.because : [] }
  })
  return { ...list, differences }
}

const LIST = new URL("differences.json", import.meta.url)
const EXPECTATIONS = new URL("expectations.json", import.meta.url)

/** What Fanfare answers, by case. */
export type Expectations = Readonly<Record<string, Transcript>>

export const list = (): List => JSON.parse(readFileSync(LIST, "utf8")) as List

export const expectations = (): Expectations => JSON.parse(readFileSync(EXPECTATIONS, "utf8")) as Expectations

/** A line each. */
const lines = (values: ReadonlyArray<string>): string => values.join(",\n")

const members = (value: object): string =>
  lines(Object.entries(value).map(([name, member]) => `${JSON.stringify(name)}: ${JSON.stringify(member)}`))

export const writeList = ({ differences, reasons }: List): void =>
  writeFileSync(
    LIST,
    `{\n"reasons": {\n${members(reasons)}\n},\n"differences": [\n${lines(differences.map((one) => JSON.stringify(one)))}\n]\n}\n`
  )

export const writeExpectations = (value: Expectations): void => writeFileSync(EXPECTATIONS, `{\n${members(value)}\n}\n`)
