// Compiles src to dist, and copies the files that are not TypeScript.
import { execFileSync } from "node:child_process"
import { cpSync, renameSync, rmSync } from "node:fs"
import { fileURLToPath } from "node:url"

const root = new URL("..", import.meta.url)
const path = (relative) => fileURLToPath(new URL(relative, root))

// Built beside and then swapped: whoever starts dist/main.js finds a whole one.
const fresh = path("dist.new")
rmSync(fresh, { recursive: true, force: true })
execFileSync(
  process.execPath,
  [path("node_modules/typescript/bin/tsc"), "-p", path("tsconfig.build.json"), "--outDir", fresh],
  { stdio: "inherit" }
)
cpSync(path("src/http/page.html"), path("dist.new/http/page.html"))
rmSync(path("dist"), { recursive: true, force: true })
renameSync(fresh, path("dist"))
