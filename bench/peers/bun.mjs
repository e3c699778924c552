import { spawnSync } from "node:child_process"
import { join } from "node:path"
import { jsonRooms } from "./internal/json-rooms.mjs"
import { folder, missing, start, version } from "./internal/installed.mjs"

// The package with the binary, not the one named `bun`, which moves it about in an install script that may be off.
const name = `@oven/bun-${process.platform}-${process.arch === "arm64" ? "aarch64" : process.arch}`
const bun = () => join(folder(name), "bin", "bun")

export default {
  ...jsonRooms,
  name: "Bun",
  get about() {
    return `Bun ${version(name)}, its own WebSocket server, topics and Redis client`
  },
  hasPackages: true,
  unavailable: () => {
    const absent = missing(name)
    if (absent !== undefined) return absent
    const { status, error, stderr } = spawnSync(bun(), ["--version"], { encoding: "utf8" })
    return status === 0 ? undefined : `Bun does not run here: ${error?.message ?? stderr.trim()}`
  },
  server: (instance) => start(bun(), "bun.mjs")(instance)
}
