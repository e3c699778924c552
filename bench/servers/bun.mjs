// Bun's own server and topics. What goes through Redis is the text that clients get: made once.
import { RedisClient, serve } from "bun"
import { makeRooms } from "./rooms.mjs"

const port = Number(process.env.PORT)
const publisher = new RedisClient(process.env.REDIS_URL)
const subscriber = new RedisClient(process.env.REDIS_URL)
await Promise.all([publisher.connect(), subscriber.connect()])

const rooms = makeRooms(
  (room) => subscriber.subscribe(room, (text) => server.publish(room, text)),
  (room) => subscriber.unsubscribe(room)
)

const join = async (socket, room) => {
  socket.data.rooms.add(room)
  socket.subscribe(room)
  await rooms.join(room)
  socket.send(JSON.stringify({ type: "joined", room }))
}

const server = serve({
  hostname: "127.0.0.1",
  port,
  fetch: (request, server) =>
    server.upgrade(request, { data: { rooms: new Set() } }) ? undefined : new Response(null, { status: 426 }),
  websocket: {
    message: (socket, text) => {
      const { type, room, data } = JSON.parse(text)
      if (type === "join") join(socket, room)
      else if (type === "publish") publisher.publish(room, JSON.stringify({ type: "message", room, data }))
    },
    close: (socket) => {
      for (const room of socket.data.rooms) rooms.leave(room)
    }
  }
})

process.stdout.write(`listening on http://127.0.0.1:${server.port}\n`)
