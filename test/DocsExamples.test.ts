import { describe, expect, it } from "@effect/vitest"
import * as Either from "effect/Either"
import { execFileSync } from "node:child_process"
import { mkdirSync, rmSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import * as ServerConfig from "../src/ServerConfig.ts"
import * as Fences from "./support/fences.ts"

const ROOT = fileURLToPath(new URL("..", import.meta.url))

/** Answers of the server API: ServerApiDocs.test.ts holds them against a server; and a line of the log. */
const isOutput = ({ code, file }: Fences.Block): boolean =>
  (file === "docs/server-api.md" && /^\{ "result"|^\{\n? *"(result|replies)"/.test(code)) ||
  (file === "docs/logs-and-traces.md" && code.includes('"level": "info"'))

describe("examples in the documentation", () => {
  const json = Fences.blocks.filter(({ language }) => language === "json")
  const configurations = json.filter((block) => !Fences.isForeign(block) && !isOutput(block))

  it("are found", () => {
    expect(json.filter(Fences.isForeign).length).toBe(1)
    expect(json.filter(isOutput).length).toBeGreaterThanOrEqual(13)
    expect(configurations.length).toBeGreaterThanOrEqual(7)
  })

  it.each(configurations)("$file: the configuration loads without warnings", ({ code }) => {
    const loaded = ServerConfig.load(JSON.parse(code) as ServerConfig.Input)
    expect(Either.getOrThrow(loaded).warnings).toEqual([])
  })

  it("in TypeScript have the types that they use", () => {
    const folder = `${ROOT}reports/docs-examples`
    rmSync(folder, { recursive: true, force: true })
    mkdirSync(folder, { recursive: true })
    const programs = Fences.blocks.filter(({ language }) => language === "ts")
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
