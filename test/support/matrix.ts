/** The tests behind the tables of docs/embedding.md: a row each, and no row without one. */
import { expect, it } from "@effect/vitest"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { readFileSync } from "node:fs"
import { basename } from "node:path"
import { fileURLToPath } from "node:url"
import { live } from "./it.ts"

/** A row: what Fanfare was tried with, what was tried, and the file of the test. */
export interface Row {
  readonly subject: string
  readonly tried: string
  readonly file: string
}

const ROW = /^\| (?<subject>[^|]+?) +\| (?<tried>[^|]+?) +\| [^|]+ +\| \[[^\]]+\]\(\.\.\/test\/(?<file>[^)]+)\) +\|$/gm

/** The rows of the tables. */
export const rows = (): ReadonlyArray<Row> =>
  Array.from(
    readFileSync(new URL("../../docs/embedding.md", import.meta.url), "utf8").matchAll(ROW),
    ({ groups }) => groups as unknown as Row
  )

const nameOf = ({ subject, tried }: Omit<Row, "file">): string => `${subject}: ${tried}`

/** The rows of a test file, which gives its `import.meta.url`. */
export const make = (url: string) => {
  const file = basename(fileURLToPath(url))
  const declared: Array<string> = []
  return {
    /** Declares the test of a row. */
    row: <E>(subject: string, tried: string, test: () => Effect.Effect<void, E, Scope.Scope>): void => {
      declared.push(nameOf({ subject, tried }))
      live(nameOf({ subject, tried }), test)
    },
    /** Declares the test that the documentation has these rows, and no others of this file. */
    isDocumented: (): void =>
      it(`docs/embedding.md has a row for each test of ${file}, and a test for each row`, () => {
        const documented = rows().filter((row) => row.file === file)
        expect(documented.map(nameOf).toSorted()).toEqual(declared.toSorted())
      })
  }
}
