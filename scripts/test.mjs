// npm test: builds, finds the programs that tests need, runs every test under this Node, and the end-to-end tests under Deno.
// npm test -- VITEST ARGUMENT…: what vitest makes of that, under this Node.
// npm test -- --end-to-end RUNTIME…: the end-to-end tests, under node (this one), node24 or deno.
// npm run test:chaos -- [--seed N] [--minutes M] [--faults A,B]: faults at random, against the promises.
// With --unless-passed: nothing, if every test has passed on these very files.
import { spawnSync } from "node:child_process"
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { fingerprint } from "./fingerprint.mjs"
import { frameworks, program, tool } from "./tools.mjs"

const root = fileURLToPath(new URL("..", import.meta.url))

const need = () => {
  try {
    frameworks()
    // The commands of the README are run as they stand there.
    program(undefined, "curl", "curl")
    return {
      REDIS_SERVER_BIN: program("REDIS_SERVER_BIN", "redis-server", "redis-server"),
      CHROMIUM_BIN: program("CHROMIUM_BIN", "chromium", "chromium"),
      PROMTOOL_BIN: program("PROMTOOL_BIN", "promtool", "prometheus", true),
      NGINX_BIN: program("NGINX_BIN", "nginx", "nginx", true),
      DENO_BIN: tool("deno"),
      NODE_BIN: process.execPath
    }
  } catch (error) {
    process.stderr.write(`${error.message}\n`)
    return process.exit(1)
  }
}

const run = (command, args, env) => spawnSync(command, args, { cwd: root, stdio: "inherit", env }).status ?? 1

const PASSED = `${root}reports/passed`
const VITEST = ["node_modules/vitest/vitest.mjs", "run"]

const RUNTIMES = {
  node: () => [process.execPath],
  node24: () => [tool("node")],
  deno: () => [tool("deno"), "run", "--allow-all"]
}

/** Runs tests under a runtime; its report is `reports/{name}.json`. */
const test = (runtime, name, env, args = []) => {
  const [command, ...before] = RUNTIMES[runtime]()
  return run(command, [...before, ...VITEST, ...args], { ...env, FANFARE_REPORT: `reports/${name}.json` })
}

const endToEnd = (runtime, env) => test(runtime, runtime, { ...env, FANFARE_TESTS: "end-to-end" })

/** The options of a chaos run, as its test reads them; `undefined` where they are others. */
const chaosOptions = (options) => {
  try {
    const { values } = parseArgs({
      args: options,
      options: { seed: { type: "string" }, minutes: { type: "string" }, faults: { type: "string" } }
    })
    const { faults, minutes, seed } = values
    if ([minutes, seed].some((number) => number !== undefined && !(Number(number) >= 0))) return undefined
    return {
      ...(seed === undefined ? {} : { CHAOS_SEED: seed }),
      ...(minutes === undefined ? {} : { CHAOS_MINUTES: minutes }),
      ...(faults === undefined ? {} : { CHAOS_FAULTS: faults })
    }
  } catch {
    return undefined
  }
}

const chaos = (options) => {
  const chosen = chaosOptions(options)
  if (chosen !== undefined) return test("node", "chaos", { ...env, ...chosen }, ["--config", "vitest.chaos.config.ts"])
  process.stderr.write("--seed NUMBER, --minutes NUMBER and --faults NAME,NAME are what there is\n")
  return 2
}

const args = process.argv.slice(2)
const isSuite = args.length === 0 || args[0] === "--unless-passed"
const files = fingerprint()

if (args[0] === "--unless-passed" && files && existsSync(PASSED) && readFileSync(PASSED, "utf8") === files) {
  process.stdout.write("every test has passed on these files\n")
  process.exit(0)
}

if (isSuite) rmSync(PASSED, { force: true })
const env = { ...process.env, ...need() }

const tests = () => {
  if (isSuite) return [test("node", "test", env), endToEnd("deno", env)].find((status) => status !== 0) ?? 0
  if (args[0] === "--chaos") return chaos(args.slice(1))
  if (args[0] !== "--end-to-end") return test("node", "part", env, args)
  const unknown = args.slice(1).find((name) => !Object.hasOwn(RUNTIMES, name))
  if (unknown !== undefined || args.length === 1) {
    process.stderr.write(`--end-to-end RUNTIME…: one of ${Object.keys(RUNTIMES).join(", ")}\n`)
    return 2
  }
  return args.slice(1).reduce((status, runtime) => endToEnd(runtime, env) || status, 0)
}

process.exitCode = run(process.execPath, ["scripts/build.mjs"], env) || tests()
// A part of the tests says nothing about the rest, nor does a run in which files changed.
if (process.exitCode === 0 && isSuite && files && files === fingerprint()) writeFileSync(PASSED, files)
