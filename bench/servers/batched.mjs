// As fast as plain Node code goes: a message's frame is built once, by the instance that it was published to, and goes
// through Redis as it is; all frames that a tick brings to a room are joined once, and each connection gets them in
// one write on its bare socket. It has no bounds: what a slow client does not take piles up in memory.
import { Redis } from "ioredis"
import { createServer } from "node:http"
import { WebSocketServer } from "ws"

const port = Number(process.env.PORT)
const publisher = new Redis(process.env.REDIS_URL, { enableAutoPipelining: true })
const subscriber = new Redis(process.env.REDIS_URL)
const rooms = new Map()

/** A text frame that is final and not masked. */
const frame = (text) => {
  const length = Buffer.byteLength(text)
  const head = length < 126 ? 2 : length < 65536 ? 4 : 10
  const bytes = Buffer.allocUnsafe(head + length)
  bytes[0] = 0x81
  if (head === 2) bytes[1] = length
  else if (head === 4) bytes.writeUInt16BE(length, 2)
  else bytes.writeBigUInt64BE(BigInt(length), 2)
  if (head > 2) bytes[1] = head === 4 ? 126 : 127
  bytes.write(text, head)
  return bytes
}

const join = async (connection, name) => {
  let room = rooms.get(name)
  if (room === undefined) {
    room = { connections: new Set(), frames: [], subscribed: subscriber.subscribe(name) }
    rooms.set(name, room)
  }
  room.connections.add(connection)
  connection.rooms.add(name)
  await room.subscribed
  connection.socket.write(frame(JSON.stringify({ type: "joined", room: name })))
}

const leave = (connection) => {
  for (const name of connection.rooms) {
    const { connections } = rooms.get(name)
    connections.delete(connection)
    if (connections.size === 0) {
      rooms.delete(name)
      subscriber.unsubscribe(name)
    }
  }
}

let busy = []

const flush = () => {
  const written = busy
  busy = []
  const waiting = []
  for (const room of written) {
    const bytes = room.frames.length === 1 ? room.frames[0] : Buffer.concat(room.frames)
    room.frames = []
    for (const connection of room.connections) {
      if (connection.pending === undefined) {
        connection.pending = bytes
        waiting.push(connection)
      } else connection.pending = Buffer.concat([connection.pending, bytes])
    }
  }
  for (const connection of waiting) {
    connection.socket.write(connection.pending)
    connection.pending = undefined
  }
}

subscriber.on("messageBuffer", (name, bytes) => {
  const room = rooms.get(name.toString())
  if (room === undefined) return
  if (room.frames.push(bytes) > 1) return
  if (busy.push(room) === 1) setImmediate(flush)
})

const receive = (connection, bytes) => {
  const message = JSON.parse(bytes)
  if (message.type === "join") join(connection, message.room)
  else if (message.type === "publish") {
    const { room, data } = message
    publisher.publish(room, frame(JSON.stringify({ type: "message", room, data })))
  }
}

await Promise.all([publisher.ping(), subscriber.ping()])

const upgrades = new WebSocketServer({ noServer: true })
const server = createServer()

server.on("upgrade", (request, socket, head) =>
  upgrades.handleUpgrade(request, socket, head, (client) => {
    const connection = { socket, rooms: new Set(), pending: undefined }
    client.on("message", (bytes) => receive(connection, bytes))
    client.on("close", () => leave(connection))
    // A client that resets its connection must not end the process; `close` follows.
    client.on("error", () => {})
  })
)

server.listen(port, "127.0.0.1", () => process.stdout.write(`listening on http://127.0.0.1:${port}\n`))
