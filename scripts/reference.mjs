// npm run test:reference: plays the cases of test/reference to Fanfare and to the reference server, and compares the
// differences with test/reference/differences.json.
// With --write: lists the differences that there are (a new one without its reason, which then is to be added), and
// writes what npm test expects, test/reference/expectations.json, and the table of docs/reference-differences.md.
import { spawnSync } from "node:child_process"
import { existsSync } from "node:fs"
import { homedir } from "node:os"
import { delimiter, join } from "node:path"
import { fileURLToPath } from "node:url"
import { onPath, tool } from "./tools.mjs"

const root = fileURLToPath(new URL("..", import.meta.url))

const NAME = "centrifugo"

/** Where `go install` puts programs. */
const goFolders = () => [
  ...(process.env.GOBIN ? [process.env.GOBIN] : []),
  ...(process.env.GOPATH ?? join(homedir(), "go")).split(delimiter).map((folder) => join(folder, "bin"))
]

const find = () => {
  const named = process.env.CENTRIFUGO_BIN
  if (named) return existsSync(named) ? named : undefined
  return (
    onPath(NAME) ??
    goFolders()
      .map((folder) => join(folder, NAME))
      .find((path) => existsSync(path))
  )
}

const MISSING = `the reference server is not installed: ${NAME} is not in CENTRIFUGO_BIN, nor on PATH, nor in ${goFolders().join(" or ")}
with Go (https://go.dev), this installs it there, in some minutes: go install github.com/centrifugal/centrifugo/v6@latest
`

const isWriting = process.argv.includes("--write")
const unknown = process.argv.slice(2).find((argument) => argument !== "--write")
const binary = find()

if (unknown !== undefined) {
  process.stderr.write(`${unknown}: only --write is known\n`)
  process.exitCode = 2
} else if (binary === undefined) {
  process.stderr.write(MISSING)
  process.exitCode = 1
} else {
  const { status } = spawnSync(
    process.execPath,
    ["node_modules/vitest/vitest.mjs", "run", "--config", "vitest.reference.config.ts"],
    {
      cwd: root,
      stdio: "inherit",
      env: {
        ...process.env,
        CENTRIFUGO_BIN: binary,
        FANFARE_REFERENCE: isWriting ? "write" : "compare"
      }
    }
  )
  if (isWriting) spawnSync(tool("oxfmt"), ["docs/reference-differences.md"], { cwd: root, stdio: "inherit" })
  process.exitCode = status ?? 1
}
