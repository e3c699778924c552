import { describe, expect, it } from "@effect/vitest"
import * as Either from "effect/Either"
import { execFileSync } from "node:child_process"
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import * as ServerConfig from "../src/ServerConfig.ts"

const ROOT = fileURLToPath(new URL("..", import.meta.url))

interface Example {
  readonly file: string
  readonly code: string
  /** The line before it. */
  readonly before: string
}

const FENCE = /([^\n]*)\n+```(\w+)\n([\s\S]*?)\n```/g

/** The examples in a language. */
const examples = (language: string, ...files: ReadonlyArray<string>): ReadonlyArray<Example> =>
  files.flatMap((file) =>
    Array.from(readFileSync(`${ROOT}docs/${file}`, "utf8").matchAll(FENCE), ([, before = "", name, code = ""]) => ({
      file,
      code,
      before,
      name
    })).filter(({ name }) => name === language)
  )

const FOREIGN = "<!-- Centrifugo's own -->"

describe("examples in the documentation", () => {
  const configurations = examples(
    "json",
    "configuration.md",
    "history.md",
    "permissions.md",
    "coming-from-socket-io.md",
    "coming-from-centrifugo.md"
  )

  it("are found", () => {
    expect(configurations.filter(({ before }) => before === FOREIGN).length).toBe(1)
    expect(configurations.filter(({ before }) => before !== FOREIGN).length).toBeGreaterThanOrEqual(5)
  })

  it.each(configurations.filter(({ before }) => before !== FOREIGN))(
    "$file: the configuration loads without warnings",
    ({ code }) => {
      const loaded = ServerConfig.load(JSON.parse(code) as ServerConfig.Input)
      expect(Either.getOrThrow(loaded).warnings).toEqual([])
    }
  )

  it("in TypeScript have the types that they use", () => {
    const folder = `${ROOT}reports/docs-examples`
    rmSync(folder, { recursive: true, force: true })
    mkdirSync(folder, { recursive: true })
    const programs = examples("ts", "coming-from-socket-io.md", "metrics.md")
    expect(programs.length).toBeGreaterThan(0)
    for (const [index, { code }] of programs.entries()) writeFileSync(`${folder}/${index}.ts`, `${code}\nexport {}\n`)
    writeFileSync(
      `${folder}/tsconfig.json`,
      JSON.stringify({
        extends: "../../tsconfig.json",
        compilerOptions: { paths: { fanfare: ["../../src/index.ts"] } },
        include: ["*.ts"]
      })
    )
    // What it finds it prints, and then fails.
    execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", "--project", folder], {
      cwd: ROOT,
      stdio: ["ignore", "inherit", "inherit"]
    })
  }, 120_000)
})
