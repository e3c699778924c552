import { readdirSync, readFileSync } from "node:fs"
import { defineConfig } from "vitest/config"

const folder = new URL("test/", import.meta.url)

const files = readdirSync(folder).filter((name) => name.endsWith(".test.ts"))

/** About the package and its documentation, not about a running server. */
const PACKAGE = new Set(["DocsExamples.test.ts", "FreshClone.test.ts", "Package.test.ts", "Snippets.test.ts"])

/** The modules of the tests that start a server, its broker or its Redis. */
const STARTS = /\/(support\/(server|embedded|program|redis|broker)|faults\/(redis|node))\.ts$/

/** What a module of the tests imports of the others, but for types. */
const importsOf = (module: URL): ReadonlyArray<URL> =>
  Array.from(
    readFileSync(module, "utf8").matchAll(/^import (?!type\b)[^"]*"(\.[^"]+\.ts)"/gm),
    ([, path = ""]) => new URL(path, module)
  ).filter(({ href }) => href.startsWith(folder.href))

const starts = (module: URL): boolean => STARTS.test(module.href) || importsOf(module).some(starts)

/** Runs nodes under Node and under Deno itself. */
const MIXED = "Chaos.test.ts"

/** Can start a server or its broker. */
const isEndToEnd = (name: string): boolean => !PACKAGE.has(name) && name !== MIXED && starts(new URL(name, folder))

/** FANFARE_TESTS=end-to-end: the tests that every runtime has to pass. */
const chosen = process.env["FANFARE_TESTS"] === "end-to-end" ? files.filter(isEndToEnd) : files

/** What is measured against the clock, or takes both cores, runs alone. */
const ALONE = new Set([
  "Bench.test.ts",
  MIXED,
  "Deno.test.ts",
  "FreshClone.test.ts",
  "Jitter.test.ts",
  "ServerApiPartial.test.ts",
  "Shutdown.test.ts"
])

const project = (name: string, order: number, isIn: (file: string) => boolean, isParallel: boolean) => ({
  extends: true as const,
  test: {
    name,
    include: chosen.filter(isIn).map((file) => `test/${file}`),
    sequence: { groupOrder: order },
    poolOptions: { forks: { singleFork: !isParallel } }
  }
})

export default defineConfig({
  test: {
    pool: "forks",
    poolOptions: { forks: { minForks: 1, maxForks: 3 } },
    testTimeout: 90_000,
    hookTimeout: 60_000,
    reporters: ["default", ["json", { outputFile: process.env["FANFARE_REPORT"] ?? "reports/test.json" }]],
    projects: [
      project("alone", 0, (file) => ALONE.has(file), false),
      // Most of what they do is waiting.
      project("together", 1, (file) => !ALONE.has(file), true)
    ]
  }
})
