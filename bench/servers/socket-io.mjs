// Socket.IO with its Redis adapter.
import { createAdapter } from "@socket.io/redis-adapter"
import { Redis } from "ioredis"
import { createServer } from "node:http"
import { Server } from "socket.io"

const port = Number(process.env.PORT)
const publisher = new Redis(process.env.REDIS_URL)
const subscriber = new Redis(process.env.REDIS_URL)
const server = createServer()
const io = new Server(server, {
  transports: ["websocket"],
  serveClient: false,
  adapter: createAdapter(publisher, subscriber)
})

io.on("connection", (socket) => {
  socket.on("join", async (room, joined) => {
    await socket.join(room)
    joined()
  })
  socket.on("publish", (room, data) => io.to(room).emit("message", data))
})

// The adapter has subscribed already; Redis answers in order.
await Promise.all([publisher.ping(), subscriber.ping()])

server.listen(port, "127.0.0.1", () => process.stdout.write(`listening on http://127.0.0.1:${port}\n`))
