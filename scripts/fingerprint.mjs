// What the tests depend on, as one text: the Node release and every file that git tracks or would.
import { spawnSync } from "node:child_process"
import { createHash } from "node:crypto"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("..", import.meta.url))

/** `undefined` outside of a git checkout. */
export const fingerprint = () => {
  const listed = spawnSync("git", ["ls-files", "-z", "-co", "--exclude-standard"], { cwd: root, encoding: "utf8" })
  if (listed.status !== 0) return undefined
  const hash = createHash("sha256").update(process.version)
  for (const file of listed.stdout
    .split("\0")
    .filter((name) => name !== "")
    .toSorted()) {
    let content = ""
    try {
      content = readFileSync(`${root}${file}`)
    } catch {
      // Deleted, and not committed yet.
    }
    hash.update(`\0${file}\0`).update(content)
  }
  return hash.digest("hex")
}
