// What of the peers is installed, and in which version.
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

const bench = fileURLToPath(new URL("../..", import.meta.url))
const root = fileURLToPath(new URL("../../..", import.meta.url))

/** The folder of a package that bench/package.json or the repository's own asks for; undefined without it. */
export const folder = (name) =>
  [bench, root]
    .map((parent) => join(parent, "node_modules", name))
    .find((path) => existsSync(join(path, "package.json")))

/** The version of a package as it is installed. */
export const version = (name) => {
  const path = folder(name)
  return path === undefined ? "(not installed)" : JSON.parse(readFileSync(join(path, "package.json"), "utf8")).version
}

/** Why what needs these packages cannot run; undefined if all are there. */
export const missing = (...names) => {
  const absent = names.filter((name) => folder(name) === undefined)
  return absent.length === 0 ? undefined : `${absent.join(", ")}: not installed; run npm ci --prefix bench`
}

/** The path of a program of bench/servers. */
const program = (name) => join(bench, "servers", name)

export const redisUrl = (port) => `redis://127.0.0.1:${port}`

/** How an instance of a program of bench/servers is started. */
export const start =
  (runtime, name) =>
  ({ port, redisPort }) => ({
    command: [runtime, program(name)],
    env: { PORT: String(port), REDIS_URL: redisUrl(redisPort) }
  })

/**
 * The command of a server that does not itself print that it takes clients: announced once `path` is answered with
 * 200. The shell becomes the server, so that what is measured and ended is its process.
 */
export const announced = (command, port, path) => {
  const script = '"$0" "$1" "$$" "$2" "$3" & shift 3; exec "$@"'
  return ["sh", "-c", script, process.execPath, program("announce.mjs"), String(port), path, ...command]
}

/** The version of this repository. */
export const ownVersion = () => JSON.parse(readFileSync(join(root, "package.json"), "utf8")).version

/** The path of a file of this repository. */
export const own = (path) => join(root, path)
