// Installs what tests and the gate need beyond `npm ci`, once, and only when asked for.
import { execFileSync } from "node:child_process"
import { accessSync, constants, existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { delimiter, join } from "node:path"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("..", import.meta.url))
const tools = join(root, "tools")

const run = (command, args, options = {}) =>
  execFileSync(command, args, { stdio: ["ignore", "ignore", "inherit"], ...options })

/** Installs what a folder's package.json names, unless it is there. */
const installIn = (folder, isThere, what) => {
  if (isThere()) return
  process.stderr.write(`installing ${what}\n`)
  run("npm", ["ci", "--prefix", folder, "--no-audit", "--no-fund"])
}

/** Has the packages of test/frameworks/package.json installed, in the versions that it names. */
export const frameworks = () => {
  const folder = join(root, "test", "frameworks")
  const lock = (path) => (existsSync(path) ? readFileSync(path, "utf8") : "")
  const wanted = JSON.parse(lock(join(folder, "package-lock.json"))).packages
  // What npm has installed last; `npm ci` writes it when it is done.
  const installed = () => JSON.parse(lock(join(folder, "node_modules", ".package-lock.json")) || "{}").packages ?? {}
  const isThere = () =>
    Object.keys(wanted[""].devDependencies).every((name) => {
      const path = `node_modules/${name}`
      return installed()[path]?.version === wanted[path].version
    })
  installIn(folder, isThere, "the frameworks of the tests")
}

/** The path of a program of tools/package.json. */
export const tool = (name) => {
  const path = join(tools, "node_modules", ".bin", name)
  installIn(tools, () => existsSync(path), `${name} and the other tools`)
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

/** Where on PATH a program is. */
export const onPath = (name) =>
  (process.env.PATH ?? "")
    .split(delimiter)
    .map((folder) => join(folder, name))
    .find(isProgram)

let updated = false

const APT = { env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" } }

const install = (debian) => run("apt-get", ["install", "-y", "-qq", "--no-install-recommends", debian], APT)

/** Where a package is unpacked that would start a service if it were installed. */
const unpacked = (debian) => join(tools, "debian", debian)

const unpack = (debian) => {
  const folder = unpacked(debian)
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  // Root's own folders may be closed to the user as whom apt would fetch.
  run("apt-get", ["download", "-qq", "-o", "APT::Sandbox::User=root", debian], { ...APT, cwd: folder })
  for (const file of readdirSync(folder)) {
    run("dpkg", ["-x", file, "."], { cwd: folder })
    rmSync(join(folder, file))
  }
}

/**
 * The path of a program of the system: from a variable, if there is one, from PATH, or as root
 * from a Debian package; with `isService`, one that is only unpacked.
 */
export const program = (variable, name, debian, isService = false) => {
  const named = variable && process.env[variable]
  if (named !== undefined && named !== "") {
    if (isProgram(named)) return named
    throw new Error(`${variable}=${named} is not a program`)
  }
  // Services stand in folders that are on root's PATH alone.
  const beside = ["/usr/sbin", ...["bin", "sbin"].map((folder) => join(unpacked(debian), "usr", folder))]
  const find = () => onPath(name) ?? beside.map((folder) => join(folder, name)).find(isProgram)
  const found = find()
  if (found !== undefined) return found
  const hint = `the tests need ${name}: install it (Debian: apt-get install ${debian})${variable ? `, or set ${variable} to its path` : ""}`
  if (process.getuid?.() !== 0 || onPath("apt-get") === undefined) throw new Error(hint)
  process.stderr.write(`installing ${debian}\n`)
  if (!updated) run("apt-get", ["update", "-qq"], APT)
  updated = true
  if (isService) unpack(debian)
  else install(debian)
  const installed = find()
  if (installed === undefined) throw new Error(hint)
  return installed
}
