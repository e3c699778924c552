// A process of many plain-socket subscribers that keep up: raw sockets, and a
// parser that looks at no more than it must. Started by subscribers.ts; tells
// its parent over IPC when all are open, and what each one got.
import { createHash, randomBytes } from "node:crypto"
import { connect } from "node:net"

const { urls, each, expected } = JSON.parse(process.argv[2])

const subscribers = []
let open = 0
let done = 0

const report = (type) =>
  process.send({
    type,
    results: subscribers.map(({ count, hash, closed }) => ({ count, order: hash.copy().digest("hex"), closed }))
  })

// One that is closed gets no more: it is done as well, and the report says how.
const ended = (subscriber, code) => {
  if (subscriber.closed !== undefined) return
  subscriber.closed = code
  if (subscriber.count < expected && ++done === subscribers.length) report("done")
}

const onFrame = (subscriber, opcode, payload) => {
  if (opcode === 8) {
    ended(subscriber, payload.length >= 2 ? payload.readUInt16BE(0) : 1005)
    return
  }
  // A ping is answered, with its payload, masked with zeros.
  if (opcode === 9)
    subscriber.socket.write(Buffer.concat([Buffer.from([0x8a, 0x80 | payload.length, 0, 0, 0, 0]), payload]))
  if (opcode !== 1) return
  // What identifies a message is its text up to the padding.
  const end = payload.indexOf(" ")
  subscriber.hash.update(end === -1 ? payload : payload.subarray(0, end + 1))
  subscriber.count++
  if (subscriber.count === expected && ++done === subscribers.length) report("done")
}

const parse = (subscriber, data) => {
  let buffer = subscriber.rest.length === 0 ? data : Buffer.concat([subscriber.rest, data])
  for (;;) {
    if (buffer.length < 2) break
    let size = buffer[1] & 127
    let head = 2
    if (size === 126) {
      if (buffer.length < 4) break
      size = buffer.readUInt16BE(2)
      head = 4
    } else if (size === 127) {
      if (buffer.length < 10) break
      size = Number(buffer.readBigUInt64BE(2))
      head = 10
    }
    if (buffer.length < head + size) break
    onFrame(subscriber, buffer[0] & 15, buffer.subarray(head, head + size))
    buffer = buffer.subarray(head + size)
  }
  subscriber.rest = buffer
}

for (const url of urls) {
  const { hostname, pathname, port } = new URL(url)
  for (let index = 0; index < each; index++) {
    const socket = connect(Number(port), hostname)
    const subscriber = { socket, count: 0, hash: createHash("sha1"), rest: Buffer.alloc(0), closed: undefined }
    subscribers.push(subscriber)
    let shaken = false
    socket.write(
      `GET ${pathname} HTTP/1.1\r\nHost: ${hostname}:${port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
        `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${randomBytes(16).toString("base64")}\r\n\r\n`
    )
    socket.on("data", (data) => {
      if (shaken) return parse(subscriber, data)
      subscriber.rest = Buffer.concat([subscriber.rest, data])
      const end = subscriber.rest.indexOf("\r\n\r\n")
      if (end === -1) return
      shaken = true
      const first = subscriber.rest.subarray(end + 4)
      subscriber.rest = Buffer.alloc(0)
      if (++open === urls.length * each) process.send({ type: "open" })
      if (first.length > 0) parse(subscriber, first)
    })
    socket.on("error", () => undefined)
    socket.on("close", () => {
      ended(subscriber, 1006)
    })
  }
}

process.on("message", () => report("report"))
process.on("disconnect", () => process.exit(0))
