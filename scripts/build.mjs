// Compiles src to dist, and copies the files that are not TypeScript.
import { execFileSync } from "node:child_process"
import { cpSync, rmSync } from "node:fs"
import { fileURLToPath } from "node:url"

const root = new URL("..", import.meta.url)
const path = (relative) => fileURLToPath(new URL(relative, root))

rmSync(path("dist"), { recursive: true, force: true })
execFileSync(process.execPath, [path("node_modules/typescript/bin/tsc"), "-p", path("tsconfig.build.json")], {
  stdio: "inherit"
})
cpSync(path("src/http/page.html"), path("dist/http/page.html"))
