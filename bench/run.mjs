// npm run bench [-- OPTION…]: Fanfare beside its peers, two instances each, on loopback; docs/benchmarks.md says how.
//
//   --quick           one short round of the servers that need nothing but npm: less than two minutes
//   --check           exit code 1 where a bound is missed, or could not be measured
//   --rounds N        5
//   --seconds S       length of a measurement, 6
//   --scenarios A,B   S1, S4 (all sizes of it) …; all
//   --peers A,B       file names of bench/peers; all that run here
//   --out FOLDER      for bench.json, bench.md and bench.svg; reports
import { execFileSync } from "node:child_process"
import { existsSync, mkdirSync, writeFileSync } from "node:fs"
import { cpus, totalmem } from "node:os"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { isPinned, killAll } from "./harness/process.mjs"
import { peers as known, recovering } from "./peers/index.mjs"
import { judge } from "./report/expectations.mjs"
import { svg } from "./report/plot.mjs"
import { markdown } from "./report/table.mjs"
import { scenarios as all } from "./scenarios/index.mjs"

const { values: options } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    check: { type: "boolean", default: false },
    rounds: { type: "string" },
    seconds: { type: "string" },
    scenarios: { type: "string" },
    peers: { type: "string" },
    out: { type: "string", default: fileURLToPath(new URL("../reports", import.meta.url)) }
  }
})

const fail = (message) => {
  process.stderr.write(`bench: ${message}\n`)
  process.exit(2)
}

const number = (name, quick, full) => {
  const value = Number(options[name] ?? (options.quick ? quick : full))
  return Number.isFinite(value) && value > 0 ? value : fail(`--${name}: expected a number above 0`)
}

const choose = (name, from, quick) => {
  const ids = options[name]?.split(",") ?? (options.quick ? quick : from.map(({ id }) => id))
  // "S4" is all sizes of S4.
  const isMeant = (id) => (one) => one.id === id || one.id.startsWith(`${id} `)
  const there = Array.from(new Set(from.map(({ id }) => id.split(" ")[0])))
  const unknown = ids.find((id) => !from.some(isMeant(id)))
  if (unknown !== undefined) fail(`--${name}: no "${unknown}"; there are ${there.join(", ")}`)
  return from.filter((one) => ids.some((id) => isMeant(id)(one)))
}

const QUICK_SCENARIOS = ["S1", "S2", "S3 16", "S5", "start"]
const QUICK_PEERS = ["fanfare", "batched", "hand-written", "socket-io"]

/** Milliseconds that a run may take, its servers' start included. */
const LONGEST_RUN = 180_000

const rounds = number("rounds", 1, 5)
const seconds = number("seconds", 1.5, 6)
const scenarios = choose("scenarios", all, QUICK_SCENARIOS)
const chosen = choose("peers", known, QUICK_PEERS)

// Some peers have packages of their own, which the product must not depend on.
const own = fileURLToPath(new URL(".", import.meta.url))
if (chosen.some(({ hasPackages }) => hasPackages) && !existsSync(`${own}node_modules`)) {
  process.stderr.write("installing the peers\n")
  execFileSync("npm", ["ci", "--prefix", own, "--no-audit", "--no-fund"], { stdio: ["ignore", "ignore", "inherit"] })
}

const refused = chosen.map((peer) => ({ ...peer, why: peer.unavailable() }))
const unavailable = refused.filter(({ why }) => why !== undefined).map(({ id, name, why }) => ({ id, name, why }))
const peers = chosen.filter((peer) => peer.unavailable() === undefined)

/**
 * In turns: a round is every scenario, a scenario every server, each round beginning with another one. The first of a
 * scenario measures with a load generator that has what the scenario before it left behind.
 */
const turns = Array.from({ length: rounds }, (_, index) =>
  scenarios.flatMap((scenario) => {
    const taking = peers.filter(({ id }) => scenario.peers === undefined || scenario.peers.includes(id))
    const first = index % taking.length
    return [...taking.slice(first), ...taking.slice(0, first)].map((peer) => ({ round: index + 1, scenario, peer }))
  })
).flat()

const began = performance.now()
const runs = []
for (const { peer, round, scenario } of turns) {
  const gone = (performance.now() - began) / 1000
  const left =
    runs.length === 0 ? "" : `, about ${Math.round((gone / runs.length) * (turns.length - runs.length))} s left`
  process.stderr.write(
    `round ${round} of ${rounds}, ${scenario.id}, ${peer.name}: ${runs.length}/${turns.length}${left}\n`
  )
  const subject = scenario.needsRecovery === true ? (recovering[peer.id] ?? peer) : peer
  const run = { round, scenario: scenario.id, peer: peer.id }
  // Without its servers a run ends by itself.
  const tooLong = setTimeout(killAll, LONGEST_RUN)
  try {
    runs.push({ ...run, ...(await scenario.run(subject, { seconds })) })
  } catch (error) {
    runs.push({ ...run, fault: error.message })
  } finally {
    clearTimeout(tooLong)
  }
  const { fault } = runs.at(-1)
  if (fault !== undefined) process.stderr.write(`  refused: ${fault}\n`)
}

const [{ model }] = cpus()
const gigabytes = Math.round(totalmem() / 2 ** 30)
const where = isPinned ? "servers and Redis on core 0, load on core 1" : "cores not pinned"
const result = {
  machine: `${model}, ${cpus().length} cores, ${gigabytes} GB, ${process.platform}, Node ${process.version}; ${where}`,
  rounds,
  seconds,
  scenarios: scenarios.map(({ figures, id, title }) => ({ figures, id, title })),
  peers: peers.map(({ about, id, name }) => ({ about, id, name })),
  unavailable,
  runs
}

mkdirSync(options.out, { recursive: true })
writeFileSync(`${options.out}/bench.json`, `${JSON.stringify(result, null, 1)}\n`)
writeFileSync(`${options.out}/bench.md`, `${markdown(result)}\n`)
writeFileSync(`${options.out}/bench.svg`, svg(result))
process.stdout.write(`${markdown(result)}\n`)

const missed = judge(runs).filter(({ isMet }) => !isMet).length
const faulty = runs.filter(({ fault }) => fault !== undefined).length
process.stderr.write(
  `${Math.round((performance.now() - began) / 1000)} s; ${missed} bounds missed, ${faulty} runs refused; ${options.out}/bench.svg\n`
)
if (options.check && (missed > 0 || faulty > 0)) process.exitCode = 1
