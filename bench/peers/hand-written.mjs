import { jsonRooms } from "./internal/json-rooms.mjs"
import { start, version } from "./internal/installed.mjs"

export default {
  ...jsonRooms,
  name: "hand-written",
  about: `ws ${version("ws")} and ioredis ${version("ioredis")}, a send for each client of a room`,
  unavailable: () => undefined,
  server: start(process.execPath, "hand-written.mjs")
}
