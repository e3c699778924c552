// uWebSockets.js and its topics. What goes through Redis is the text that clients get: made once.
import { Redis } from "ioredis"
import { createRequire } from "node:module"
import { makeRooms } from "./rooms.mjs"

const { App } = createRequire(import.meta.url)(process.env.UWEBSOCKETS_BINARY)
const port = Number(process.env.PORT)
const publisher = new Redis(process.env.REDIS_URL, { enableAutoPipelining: true })
const subscriber = new Redis(process.env.REDIS_URL)

const rooms = makeRooms(
  (room) => subscriber.subscribe(room),
  (room) => subscriber.unsubscribe(room)
)

const app = App()

subscriber.on("message", (room, text) => app.publish(room, text))

const join = async (socket, client, room) => {
  client.rooms.add(room)
  socket.subscribe(room)
  await rooms.join(room)
  if (client.open) socket.send(JSON.stringify({ type: "joined", room }))
}

await Promise.all([publisher.ping(), subscriber.ping()])

app.ws("/*", {
  // As much as Bun, which is built on it, allows; by default what is beyond 64 KiB is dropped.
  maxBackpressure: 16 * 1024 * 1024,
  upgrade: (response, request, context) =>
    response.upgrade(
      // Not by the socket itself: it must not be touched once it is closed, and only this tells.
      { client: { open: true, rooms: new Set() } },
      request.getHeader("sec-websocket-key"),
      request.getHeader("sec-websocket-protocol"),
      request.getHeader("sec-websocket-extensions"),
      context
    ),
  message: (socket, bytes) => {
    const { type, room, data } = JSON.parse(Buffer.from(bytes).toString())
    if (type === "join") join(socket, socket.getUserData().client, room)
    else if (type === "publish") publisher.publish(room, JSON.stringify({ type: "message", room, data }))
  },
  close: (socket) => {
    const { client } = socket.getUserData()
    client.open = false
    for (const room of client.rooms) rooms.leave(room)
  }
})

app.listen("127.0.0.1", port, (listening) => {
  if (!listening) throw new Error(`port ${port} is taken`)
  process.stdout.write(`listening on http://127.0.0.1:${port}\n`)
})
