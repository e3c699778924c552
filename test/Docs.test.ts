import { describe, expect, it } from "@effect/vitest"
import { readFileSync } from "node:fs"
import { version } from "../src/version.ts"

const read = (path: string): string => readFileSync(new URL(`../${path}`, import.meta.url), "utf8")

describe("documentation", () => {
  it("docs/configuration.md lists every option as it is declared", async () => {
    // Built by `npm test`; a variable, since the script has no types.
    const script = "../scripts/config-table.mjs"
    const { updated } = (await import(script)) as { readonly updated: (text: string) => string }
    const squeeze = (text: string): string => text.replace(/ +/g, " ").replace(/-{3,}/g, "---")
    const text = read("docs/configuration.md")
    expect(squeeze(updated(text))).toBe(squeeze(text))
    expect(text).toContain("`FANFARE_CLIENT_QUEUE_MAX_FRAMES`")
  })

  it("version is package.json's", () => {
    expect((JSON.parse(read("package.json")) as { readonly version: string }).version).toBe(version)
  })
})
