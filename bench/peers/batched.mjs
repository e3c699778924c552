import { jsonRooms } from "./internal/json-rooms.mjs"
import { start, version } from "./internal/installed.mjs"

export default {
  ...jsonRooms,
  name: "batched loop",
  about: `ws ${version("ws")} and ioredis ${version("ioredis")}, frames built once and joined per tick, no bounds`,
  unavailable: () => undefined,
  server: start(process.execPath, "batched.mjs")
}
