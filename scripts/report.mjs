// What the last run of the tests found: the end-to-end tests by runtime, side by side, what failed, and then everything
// in one line. Arguments: what else is to be told.
import { existsSync, readFileSync } from "node:fs"
import { basename } from "node:path"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("..", import.meta.url))

const read = (name) => {
  const path = `${root}reports/${name}.json`
  return existsSync(path) ? JSON.parse(readFileSync(path, "utf8")) : undefined
}

const count = (results) => {
  const statuses = results.flatMap(({ assertionResults }) => assertionResults.map(({ status }) => status))
  const passed = statuses.filter((status) => status === "passed").length
  return { tests: statuses.length, passed, failed: statuses.length - passed }
}

const RUNS = ["test", "deno", "node24", "chaos"]
const reports = RUNS.map((name) => [name, read(name)])
const ran = reports.flatMap(([name, report]) => (report === undefined ? [] : [[name, report]]))

const ends = new Set((read("deno") ?? read("node24"))?.testResults.map(({ name }) => basename(name)) ?? [])
const NAMES = { test: `Node ${process.versions.node}`, node24: "Node 24", deno: "Deno", chaos: "chaos" }
for (const [name, { testResults }] of ran) {
  if (name === "chaos") continue
  const { failed, passed, tests } = count(testResults.filter((file) => ends.has(basename(file.name))))
  process.stdout.write(`end-to-end, ${NAMES[name].padEnd(14)} ${tests} tests, ${passed} passed, ${failed} failed\n`)
}

const failures = ({ testResults }) =>
  testResults.flatMap(({ assertionResults, message, name, status }) => {
    const tests = assertionResults.filter((test) => test.status === "failed")
    const texts = tests.map(({ failureMessages, fullName }) => `${fullName}\n${failureMessages.join("\n")}`)
    return (status === "failed" && tests.length === 0 ? [message] : texts).map((text) => `${basename(name)}: ${text}`)
  })

for (const [name, report] of ran) {
  for (const failure of failures(report)) process.stdout.write(`FAILED under ${NAMES[name]}: ${failure}\n`)
}

for (const line of process.argv.slice(2)) process.stdout.write(`${line}\n`)

let passed = 0
let failed = reports.length - ran.length
for (const [, report] of ran) {
  const { numFailedTests = 0, numFailedTestSuites = 0, numPassedTests = 0, success } = report
  passed += numPassedTests
  failed += numFailedTests || (success ? 0 : Math.max(1, numFailedTestSuites))
}
process.stdout.write(`${passed} passed, ${failed} failed\n`)
process.exitCode = failed === 0 && passed > 0 ? 0 : 1
