/** The fenced blocks of the documentation. */
import { readdirSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

const ROOT = fileURLToPath(new URL("../..", import.meta.url))

export interface Block {
  /** From the root: `README.md`, `docs/history.md`. */
  readonly file: string
  /** Of its first line, from 1. */
  readonly line: number
  /** Empty where it names none. */
  readonly language: string
  readonly code: string
  /** The line before it that is not empty. */
  readonly before: string
}

const FENCE = /^```(\w*)\n([\s\S]*?)\n```$/gm

const read = (file: string): ReadonlyArray<Block> => {
  const text = readFileSync(`${ROOT}${file}`, "utf8")
  return Array.from(text.matchAll(FENCE), ({ 1: language = "", 2: code = "", index }) => {
    const above = text.slice(0, index).trimEnd().split("\n")
    return { file, line: text.slice(0, index).split("\n").length, language, code, before: above.at(-1) ?? "" }
  })
}

const pages = (folder: string): ReadonlyArray<string> =>
  readdirSync(`${ROOT}${folder}`)
    .filter((name) => name.endsWith(".md"))
    .map((name) => `${folder}/${name}`)

/** README.md and what is in the folder docs. */
export const files: ReadonlyArray<string> = ["README.md", ...pages("docs"), ...pages("docs/decisions")]

export const blocks: ReadonlyArray<Block> = files.flatMap(read)

/** Whether a block shows what another product takes. */
export const isForeign = ({ before }: Block): boolean => /^<!-- \S+'s own -->$/.test(before)

/** The commands of a block for a shell, one a line, without their comments. */
export const commands = ({ code }: Block): ReadonlyArray<string> =>
  code
    .replaceAll("\\\n", " ")
    .split("\n")
    .map((line) => line.replace(/\s+#.*$/, "").trim())
    .filter((line) => line !== "")
