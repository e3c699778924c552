import { describe, expect, it } from "@effect/vitest"
import { spawnSync } from "node:child_process"
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const ROOT = fileURLToPath(new URL("..", import.meta.url))

/** The lines of each module that the rules of the lint object to, and the rule. */
const lint = (modules: Readonly<Record<string, ReadonlyArray<string>>>): ReadonlyArray<string> => {
  const folder = mkdtempSync(join(tmpdir(), "fanfare-lint-"))
  try {
    copyFileSync(join(ROOT, ".oxlintrc.json"), join(folder, ".oxlintrc.json"))
    for (const [name, lines] of Object.entries(modules)) {
      mkdirSync(dirname(join(folder, name)), { recursive: true })
      writeFileSync(join(folder, name), `${lines.join("\n")}\n`)
    }
    const { stdout } = spawnSync(join(ROOT, "node_modules/.bin/oxlint"), ["--format", "unix"], {
      cwd: folder,
      encoding: "utf8"
    })
    return Array.from(
      stdout.matchAll(/^(\S+?):(\d+):\d+: .*\[Error\/[\w-]+\(([\w-]+)\)\]$/gm),
      ([, file, line, rule]) => `${file}:${line} ${rule}`
    ).toSorted()
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

const READS = [
  'import * as Clock from "effect/Clock"',
  'import * as Effect from "effect/Effect"',
  'import * as Schedule from "effect/Schedule"',
  "export const one = Date.now()",
  "export const two = new Date()",
  "export const three = Clock.currentTimeMillis",
  "export const four = Effect.clock",
  "export const five = (clock: Clock.Clock): number => clock.unsafeCurrentTimeMillis()",
  'export const six = Schedule.upTo(Schedule.forever, "1 second")',
  'export const seven = Schedule.fixed("1 second")'
]

describe("the lint of src", () => {
  it("refuses every way to read the machine's clock, and to measure a duration by it, outside src/internal/clock.ts", () => {
    const refused = (name: string): ReadonlyArray<string> =>
      [
        `${name}:1 no-restricted-imports`,
        `${name}:4 no-restricted-globals`,
        `${name}:5 no-restricted-globals`,
        `${name}:6 no-restricted-properties`,
        `${name}:7 no-restricted-properties`,
        `${name}:8 no-restricted-properties`,
        `${name}:9 no-restricted-properties`,
        `${name}:10 no-restricted-properties`
      ].toSorted()
    for (const name of ["src/Hub.ts", "src/transport/Upgrade.ts", "src/internal/redis.ts", "src/main.ts"]) {
      expect(lint({ [name]: READS })).toEqual(refused(name))
    }
    expect(lint({ "src/internal/clock.ts": READS })).toEqual([])
  })
})
