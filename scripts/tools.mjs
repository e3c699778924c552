// Installs what tests and the gate need beyond `npm ci`, once, and only when asked for.
import { execFileSync } from "node:child_process"
import { accessSync, constants, existsSync } from "node:fs"
import { delimiter, join } from "node:path"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("..", import.meta.url))
const tools = join(root, "tools")

const run = (command, args, options = {}) =>
  execFileSync(command, args, { stdio: ["ignore", "ignore", "inherit"], ...options })

/** The path of a program of tools/package.json. */
export const tool = (name) => {
  const path = join(tools, "node_modules", ".bin", name)
  if (!existsSync(path)) {
    process.stderr.write(`installing ${name} and the other tools\n`)
    run("npm", ["ci", "--prefix", tools, "--no-audit", "--no-fund"])
  }
  return path
}

const isProgram = (path) => {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

const onPath = (name) =>
  (process.env.PATH ?? "")
    .split(delimiter)
    .map((folder) => join(folder, name))
    .find(isProgram)

let updated = false

/** The path of a program of the system: from a variable, from PATH, or installed as root from a Debian package. */
export const program = (variable, name, debian) => {
  const named = process.env[variable]
  if (named !== undefined && named !== "") {
    if (isProgram(named)) return named
    throw new Error(`${variable}=${named} is not a program`)
  }
  const found = onPath(name)
  if (found !== undefined) return found
  const hint = `the tests need ${name}: install it (Debian: apt-get install ${debian}), or set ${variable} to its path`
  if (process.getuid?.() !== 0 || onPath("apt-get") === undefined) throw new Error(hint)
  process.stderr.write(`installing ${debian}\n`)
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" }
  if (!updated) run("apt-get", ["update", "-qq"], { env })
  updated = true
  run("apt-get", ["install", "-y", "-qq", "--no-install-recommends", debian], { env })
  const installed = onPath(name)
  if (installed === undefined) throw new Error(hint)
  return installed
}
