// Runs a program of tools/package.json: node scripts/tool.mjs NAME [ARGUMENT…]
import { spawnSync } from "node:child_process"
import { tool } from "./tools.mjs"

const [name, ...args] = process.argv.slice(2)
process.exitCode = spawnSync(tool(name), args, { stdio: "inherit" }).status ?? 1
