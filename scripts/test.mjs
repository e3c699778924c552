// npm test [-- VITEST ARGUMENT…]: builds, finds the programs that tests need, runs every test.
import { spawnSync } from "node:child_process"
import { fileURLToPath } from "node:url"
import { program, tool } from "./tools.mjs"

const root = fileURLToPath(new URL("..", import.meta.url))

const need = () => {
  try {
    return {
      REDIS_SERVER_BIN: program("REDIS_SERVER_BIN", "redis-server", "redis-server"),
      CHROMIUM_BIN: program("CHROMIUM_BIN", "chromium", "chromium"),
      DENO_BIN: tool("deno")
    }
  } catch (error) {
    process.stderr.write(`${error.message}\n`)
    return process.exit(1)
  }
}

const run = (command, args, env) => spawnSync(command, args, { cwd: root, stdio: "inherit", env }).status ?? 1

const env = { ...process.env, ...need() }
process.exitCode =
  run(process.execPath, ["scripts/build.mjs"], env) ||
  run(process.execPath, ["node_modules/vitest/vitest.mjs", "run", ...process.argv.slice(2)], env)
