import { missing, start, version } from "./internal/installed.mjs"

const PING = "2"
const PONG = "3"

export default {
  name: "Socket.IO",
  get about() {
    const adapter = `@socket.io/redis-adapter ${version("@socket.io/redis-adapter")}`
    return `Socket.IO ${version("socket.io")} with ${adapter} over ioredis ${version("ioredis")}, WebSocket transport only`
  },
  hasPackages: true,
  unavailable: () => missing("socket.io", "@socket.io/redis-adapter"),
  server: start(process.execPath, "socket-io.mjs"),
  path: "/socket.io/?EIO=4&transport=websocket",
  greet: () => [],
  // Engine.IO opens (0), then the namespace is connected to (40), then the room is joined and that acknowledged (43).
  hear: (text, room) => {
    if (text.startsWith("0")) return { send: ["40"] }
    if (text.startsWith("40")) return { send: [`420["join","${room}"]`] }
    if (text.startsWith("430")) return { ready: true }
    return text === PING ? { send: [PONG] } : {}
  },
  publish: (room, payload) => `42["publish","${room}","${payload}"]`,
  answer: (text) => (text === PING ? PONG : undefined)
}
