// npm test [-- VITEST ARGUMENT…]: builds, finds the programs that tests need, runs every test.
// With --unless-passed: nothing, if every test has passed on these very files.
import { spawnSync } from "node:child_process"
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { fingerprint } from "./fingerprint.mjs"
import { program, tool } from "./tools.mjs"

const root = fileURLToPath(new URL("..", import.meta.url))

const need = () => {
  try {
    return {
      REDIS_SERVER_BIN: program("REDIS_SERVER_BIN", "redis-server", "redis-server"),
      CHROMIUM_BIN: program("CHROMIUM_BIN", "chromium", "chromium"),
      PROMTOOL_BIN: program("PROMTOOL_BIN", "promtool", "prometheus", true),
      DENO_BIN: tool("deno")
    }
  } catch (error) {
    process.stderr.write(`${error.message}\n`)
    return process.exit(1)
  }
}

const run = (command, args, env) => spawnSync(command, args, { cwd: root, stdio: "inherit", env }).status ?? 1

const PASSED = `${root}reports/passed`
const args = process.argv.slice(2)
const files = fingerprint()

if (args[0] === "--unless-passed" && files && existsSync(PASSED) && readFileSync(PASSED, "utf8") === files) {
  process.stdout.write("every test has passed on these files\n")
  process.exit(0)
}

const more = args.filter((argument) => argument !== "--unless-passed")
rmSync(PASSED, { force: true })
const env = { ...process.env, ...need() }
process.exitCode =
  run(process.execPath, ["scripts/build.mjs"], env) ||
  run(process.execPath, ["node_modules/vitest/vitest.mjs", "run", ...more], env)
// A part of the tests says nothing about the rest, nor does a run in which files changed.
if (process.exitCode === 0 && more.length === 0 && files && files === fingerprint()) writeFileSync(PASSED, files)
