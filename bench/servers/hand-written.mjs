// The server that everybody writes: a Map of rooms, a `send` for each client, Redis between instances.
import { Redis } from "ioredis"
import { WebSocketServer } from "ws"

const port = Number(process.env.PORT)
const publisher = new Redis(process.env.REDIS_URL)
const subscriber = new Redis(process.env.REDIS_URL)
const rooms = new Map()

const join = async (client, name) => {
  let room = rooms.get(name)
  if (room === undefined) {
    room = { sockets: new Set(), subscribed: subscriber.subscribe(name) }
    rooms.set(name, room)
  }
  room.sockets.add(client.socket)
  client.rooms.add(name)
  await room.subscribed
  client.socket.send(JSON.stringify({ type: "joined", room: name }))
}

const leave = (client) => {
  for (const name of client.rooms) {
    const { sockets } = rooms.get(name)
    sockets.delete(client.socket)
    if (sockets.size === 0) {
      rooms.delete(name)
      subscriber.unsubscribe(name)
    }
  }
}

subscriber.on("message", (name, data) => {
  const text = JSON.stringify({ type: "message", room: name, data })
  for (const socket of rooms.get(name)?.sockets ?? []) socket.send(text)
})

await Promise.all([publisher.ping(), subscriber.ping()])

const server = new WebSocketServer({ host: "127.0.0.1", port })

server.on("connection", (socket) => {
  const client = { socket, rooms: new Set() }
  socket.on("message", (bytes) => {
    const message = JSON.parse(bytes)
    if (message.type === "join") join(client, message.room)
    else if (message.type === "publish") publisher.publish(message.room, message.data)
  })
  socket.on("close", () => leave(client))
  // A client that resets its connection must not end the process; `close` follows.
  socket.on("error", () => {})
})

server.on("listening", () => process.stdout.write(`listening on http://127.0.0.1:${port}\n`))
