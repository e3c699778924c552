// Stands for Centrifugo where the benchmark itself is tested: speaks the client protocol as far as the benchmark's
// clients do, over Redis as all servers there. The first argument is what it does wrong: nothing, or what happens to
// one publication on its way to one client. The rest are Centrifugo's.
import { Redis } from "ioredis"
import { createServer } from "node:http"
import { WebSocketServer } from "ws"

/** The publication with which it goes wrong. */
const WHICH = 20

/** As long as this, publications begin in the same way that are of one publisher. */
const NAME = "@@00000".length

/** Publications of its own that a client keeps on their way at most: what it publishes beyond these, it has read a ping before. */
const WINDOW = 16

/** What its first client gets in place of a publication: with `data`, the `nth` there was. */
const faults = {
  // Pings it, in a frame with a publication: once before that, and once behind it.
  none: () => (text, _, nth, client) => {
    if (nth === WHICH + 1) client.pongsBy = client.published + WINDOW
    if (client.published > client.pongsBy && client.pongs !== 2) client.close(3012, "no pong")
    return [nth === WHICH ? `{}\n${text}` : nth === WHICH + 1 ? `${text}\n{}` : text]
  },
  lose: () => (text, _, nth) => (nth === WHICH ? [] : [text]),
  repeat: () => (text, _, nth) => (nth === WHICH ? [text, text] : [text]),
  // With the next one of the same publisher.
  swap: () => {
    let held
    return (text, data, nth) => {
      if (nth === WHICH) {
        held = { text, name: data.slice(0, NAME) }
        return []
      }
      if (held === undefined || !data.startsWith(held.name)) return [text]
      const { text: before } = held
      held = undefined
      return [text, before]
    }
  }
}

const [fault, command] = process.argv.slice(2)

const serve = async () => {
  const { CENTRIFUGO_ENGINE_REDIS_ADDRESS: url, CENTRIFUGO_HTTP_SERVER_PORT: port } = process.env
  const [publisher, subscriber] = [new Redis(url), new Redis(url)]
  const sockets = new Set()
  const deliver = faults[fault]()
  let heard = 0
  subscriber.on("message", (channel, data) => {
    // As long as the real one's, which names the publisher.
    const text = JSON.stringify({ push: { channel, pub: { data, info: { client: "0".repeat(36) } } } })
    const [first, ...others] = sockets
    for (const socket of others) socket.send(text)
    for (const one of deliver(text, data, ++heard, first)) first?.send(one)
  })
  const answer = (socket, { id, connect, subscribe, publish }) => {
    if (id === undefined) socket.pongs++
    if (connect !== undefined) socket.send(JSON.stringify({ id, connect: {} }))
    if (publish !== undefined) {
      socket.published++
      publisher.publish(publish.channel, publish.data)
    }
    if (subscribe === undefined) return
    sockets.add(socket)
    subscriber.subscribe(subscribe.channel).then(() => socket.send(JSON.stringify({ id, subscribe: {} })))
  }
  await Promise.all([publisher.ping(), subscriber.ping()])
  const server = createServer((_, response) => response.end("{}"))
  new WebSocketServer({ server }).on("connection", (socket) => {
    Object.assign(socket, { pongs: 0, published: 0, pongsBy: Infinity })
    socket.on("message", (bytes) => {
      for (const line of String(bytes).split("\n")) answer(socket, JSON.parse(line))
    })
    socket.on("close", () => sockets.delete(socket))
    socket.on("error", () => undefined)
  })
  server.listen(Number(port), "127.0.0.1")
}

if (command === "version") process.stdout.write("Centrifugo v0.0.1 (not the real one)\n")
else await serve()
