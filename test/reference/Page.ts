/** docs/reference-differences.md: its table is made of the list. */
import { readFileSync, writeFileSync } from "node:fs"
import type { Known, List } from "./Differences.ts"

const FILE = new URL("../../docs/reference-differences.md", import.meta.url)

const LONGEST = 160

/** What was answered, short, as the text of a cell. */
const cell = (lines: ReadonlyArray<string>): string => {
  const [first] = lines
  if (first === undefined) return "nothing"
  const text = first.replace(/^(a|b|c|api) (reply )?/, "").replace(/"id":\d+,|,"id":\d+/, "")
  const short = text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text
  return `\`${short.replaceAll("|", "\\|")}\``
}

const row = (reason: string, among: ReadonlyArray<Known>): string => {
  const [example] = among
  const shown = example === undefined ? ["", "", ""] : [example.case, cell(example.theirs), cell(example.ours)]
  return `| ${[reason, String(among.length), ...shown.map((text, at) => (at === 0 ? text.replaceAll("|", "\\|") : text))].join(" | ")} |`
}

const table = ({ differences, reasons }: List): string =>
  [
    "| what differs, and why | cases | for example | there | here |",
    "| --- | --- | --- | --- | --- |",
    ...Object.entries(reasons).map(([name, reason]) =>
      row(
        reason,
        differences.filter(({ because }) => because.includes(name))
      )
    )
  ].join("\n")

/** The page with the table of a list. */
export const updated = (page: string, list: List): string =>
  page.replace(
    /(<!-- differences -->)[\s\S]*?(<!-- \/differences -->)/,
    (_, open: string, close: string) => `${open}\n\n${table(list)}\n\n${close}`
  )

export const read = (): string => readFileSync(FILE, "utf8")

export const write = (list: List): void => writeFileSync(FILE, updated(read(), list))
