/** The package as its users get it: packed, and installed in a folder of its own beside the Effect that it wants. */
import { execFile } from "node:child_process"
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"

export const ROOT = fileURLToPath(new URL("../..", import.meta.url))

/** Runs a command to its end and returns what it printed; rejects with that where it fails. */
export const run = async (cwd: string, command: string, ...args: ReadonlyArray<string>): Promise<string> => {
  try {
    const { stdout } = await promisify(execFile)(command, args, { cwd, maxBuffer: 16 * 1024 * 1024 })
    return stdout
  } catch (error) {
    const { stderr = "", stdout = "" } = error as { readonly stderr?: string; readonly stdout?: string }
    throw new Error(`${command} ${args.join(" ")} failed:\n${stdout}${stderr}`, { cause: error })
  }
}

/** What README.md has npm do to install the tarball, without `npm`; its other line differs by the name of the package. */
const installation = (): string => {
  const text = readFileSync(join(ROOT, "README.md"), "utf8")
  const [, published = "", tarball = ""] = /^npm (i fanfare .*)$[^]*^npm (i \.\/fanfare-\S+\.tgz .*)$/m.exec(text) ?? []
  if (tarball === "" || tarball.replace("./fanfare-0.1.0.tgz", "fanfare") !== published) {
    throw new Error("README.md does not say how to install the library")
  }
  return tarball
}

export interface Installed {
  /** Holds `app`; for the caller to remove. */
  readonly folder: string
  /** An ES module package without files of its own, with the packed library in its `node_modules`. */
  readonly app: string
}

/** Packs `dist` as it is and installs it, with TypeScript and the types of Node. Takes half a minute: once a file. */
export const install = async (): Promise<Installed> => {
  const folder = mkdtempSync(join(tmpdir(), "fanfare-packed-"))
  // Scripts would build `dist` again, while other tests run it.
  await run(folder, "npm", "pack", "--ignore-scripts", "--silent", ROOT)
  const tarball = readdirSync(folder).find((name) => name.endsWith(".tgz")) ?? ""
  const app = join(folder, "app")
  mkdirSync(app)
  writeFileSync(join(app, "package.json"), '{ "private": true, "type": "module" }\n')
  const { devDependencies } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
    devDependencies: Record<string, string>
  }
  const versions = ["@types/node", "typescript"].map((name) => `${name}@${devDependencies[name]}`)
  const quiet = ["--prefer-offline", "--no-audit", "--no-fund", "--ignore-scripts"]
  const line = installation().replace("./fanfare-0.1.0.tgz", join(folder, tarball))
  await run(app, "npm", ...line.split(" "), ...quiet, ...versions)
  return { folder, app }
}
