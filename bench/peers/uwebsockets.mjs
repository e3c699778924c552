import { spawnSync } from "node:child_process"
import { join } from "node:path"
import { jsonRooms } from "./internal/json-rooms.mjs"
import { folder, start, version } from "./internal/installed.mjs"

// npm has no package of uWebSockets.js itself. These republish it; the first whose binary loads is taken. The newer
// one needs glibc 2.38. Of the older one only the binary: its own entry falls back on ws without an error.
const binary = `uws_${process.platform}_${process.arch}_${process.versions.modules}.node`
const REPUBLICATIONS = [
  { name: "@btc-vision/uwebsockets.js", file: binary },
  { name: "@trufflesuite/uws-js-unofficial", file: join("binaries", binary) }
]

// In a process of its own: it has an event loop, and may end the process.
const loads = (path) => spawnSync(process.execPath, ["-e", `require(${JSON.stringify(path)})`]).status === 0

let found

const find = () => {
  found ??= REPUBLICATIONS.filter(({ name }) => folder(name) !== undefined)
    .map(({ name, file }) => ({ name, path: join(folder(name), file) }))
    .find(({ path }) => loads(path))
  return found
}

export default {
  ...jsonRooms,
  name: "uWebSockets.js",
  get about() {
    const { name } = find() ?? {}
    return name === undefined
      ? "uWebSockets.js"
      : `uWebSockets.js as ${name} ${version(name)} republishes it, its topics, ioredis ${version("ioredis")}`
  },
  hasPackages: true,
  unavailable: () => {
    if (REPUBLICATIONS.every(({ name }) => folder(name) === undefined))
      return "not installed; run npm ci --prefix bench"
    return find() === undefined
      ? `npm has no binary of uWebSockets.js that loads here (Node's ABI ${process.versions.modules})`
      : undefined
  },
  server: (instance) => {
    const { command, env } = start(process.execPath, "uwebsockets.mjs")(instance)
    return { command, env: { ...env, UWEBSOCKETS_BINARY: find().path } }
  }
}
