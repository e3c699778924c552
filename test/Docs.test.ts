import { describe, expect, it } from "@effect/vitest"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { version } from "../src/version.ts"
import * as Matrix from "./support/matrix.ts"

const read = (path: string): string => readFileSync(new URL(`../${path}`, import.meta.url), "utf8")

/** A link within the repository. */
const LINK = /\]\((?!https?:)([^)]+)\)/g

/** The anchors of a page's headings, as they are made of their text. */
const anchors = (page: string): ReadonlyArray<string> =>
  Array.from(page.matchAll(/^#+ (.*)$/gm), ([, title = ""]) =>
    title
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-")
  )

const isThere = ({ hash, pathname }: URL): boolean =>
  existsSync(pathname) && (hash === "" || anchors(readFileSync(pathname, "utf8")).includes(hash.slice(1)))

describe("documentation", () => {
  // Built by `npm test`.
  it.each([
    ["configuration", "config-table", "`FANFARE_CLIENT_QUEUE_MAX_FRAMES`"],
    ["protocol", "protocol-tables", "`client.expired_close_delay`"]
  ])("docs/%s.md has its tables as they are declared", async (name, script, cell) => {
    const { updated } = (await import(`../scripts/${script}.mjs`)) as { readonly updated: (text: string) => string }
    const squeeze = (text: string): string => text.replace(/ +/g, " ").replace(/-{3,}/g, "---")
    const text = read(`docs/${name}.md`)
    expect(squeeze(updated(text))).toBe(squeeze(text))
    expect(text).toContain(cell)
  })

  it("docs/embedding.md has tests for all rows of its tables, in files that compare themselves with them", () => {
    const files = new Set(Matrix.rows().map(({ file }) => file))
    expect(Array.from(files)).toContain("Frameworks.test.ts")
    for (const file of files)
      expect([file, read(`test/${file}`)]).toEqual([file, expect.stringMatching(/^isDocumented\(\)$/m)])
    // No table of it has rows that are not read.
    const cells = Array.from(read("docs/embedding.md").matchAll(/^\| .*\.test\.ts.* \|$/gm))
    expect(Matrix.rows().length).toBe(cells.length)
  })

  it("links to what is there", () => {
    const pages = readdirSync(new URL("../docs", import.meta.url)).filter((name) => name.endsWith(".md"))
    const broken = ["README.md", ...pages.map((name) => `docs/${name}`)].flatMap((file) =>
      Array.from(read(file).matchAll(LINK), ([, link = ""]) => link)
        .filter((link) => !isThere(new URL(link, new URL(`../${file}`, import.meta.url))))
        .map((link) => `${file}: ${link}`)
    )
    expect(broken).toEqual([])
  })

  it("version is package.json's", () => {
    expect((JSON.parse(read("package.json")) as { readonly version: string }).version).toBe(version)
  })
})
