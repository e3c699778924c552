// A process with a round-robin TCP proxy that cuts its connections: every
// client's a given number of times, in random order, at random moments, in the
// ways in which networks cut them. Started by jitter.ts; a connection belongs to
// the client that names itself in the URL of its upgrade (`?client=17`).
import { connect, createServer } from "node:net"

const { ports, clients, cutsPerClient, seconds, seed } = JSON.parse(process.argv[2])

/** The first connections of many clients come in one instant. */
const BACKLOG = 4096

/** No cut while fewer clients are online: where the machine is slow the cuts take longer, and do not end in a storm. */
const ONLINE = 0.9 * clients

const clock = () => performance.timeOrigin + performance.now()

/** A generator of numbers from 0 up to 1 that a seed repeats (Mulberry32). */
const generator = (state) => () => {
  state = (state + 0x6d2b79f5) >>> 0
  let mixed = Math.imul(state ^ (state >>> 15), state | 1)
  mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
  return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
}

const random = generator(seed)
const below = (bound) => Math.floor(random() * bound)

// ── The proxy ────────────────────────────────────────────────────────────────

/** The connections that can be cut, by client. */
const connections = new Map()
let accepted = 0

/** What sockets to instances read into: it is copied before the next one reads. */
const buffer = Buffer.alloc(65_536)

const server = createServer({ allowHalfOpen: true, noDelay: true }, (inner) => {
  const connection = { inner, outer: undefined, client: undefined, isTearing: false }
  const onread = {
    buffer,
    callback: (length) => {
      const bytes = Buffer.from(buffer.subarray(0, length))
      if (connection.isTearing) tear(connection, bytes)
      else if (!inner.write(bytes)) {
        outer.pause()
        inner.once("drain", () => outer.resume())
      }
      return true
    }
  }
  const port = ports[accepted++ % ports.length]
  const outer = connect({ host: "127.0.0.1", port, allowHalfOpen: true, noDelay: true, onread })
  connection.outer = outer
  inner.once("data", (bytes) => {
    connection.client = Number(/^GET \S*[?&]client=(\d+)/.exec(bytes.toString("latin1"))?.[1])
    connections.set(connection.client, connection)
  })
  inner.pipe(outer)
  outer.on("end", () => inner.end())
  const together = (one, other) => {
    one.on("error", () => undefined)
    one.on("close", () => {
      other.destroy()
      if (connections.get(connection.client) === connection) connections.delete(connection.client)
      // It has ended by itself before it could be torn.
      if (connection.isTearing) cutLater(connection)
    })
  }
  together(inner, outer)
  together(outer, inner)
})

// ── The cuts ─────────────────────────────────────────────────────────────────

/** The clients that are still to be cut, once for each cut. */
const due = Array.from({ length: clients * cutsPerClient }, (_, index) => index % clients)
const cuts = []
let tearing = 0

const swap = (one, other) => {
  const kept = due[one]
  due[one] = due[other]
  due[other] = kept
}

const cutLater = (connection) => {
  connection.isTearing = false
  tearing--
  due.push(connection.client)
}

const cut = ({ client }) => cuts.push([client, clock()])

/** What has come from the instance passes in part, then it ends. */
const tear = (connection, bytes) => {
  const { inner, outer } = connection
  connection.isTearing = false
  tearing--
  cut(connection)
  inner.write(bytes.subarray(0, below(bytes.length)))
  inner.destroySoon()
  outer.resetAndDestroy()
}

const kinds = [
  // Both ends get a reset at once; what is on its way is lost.
  (connection) => {
    cut(connection)
    connection.inner.resetAndDestroy()
    connection.outer.resetAndDestroy()
  },
  // Both ends see the other one close.
  (connection) => {
    cut(connection)
    connection.inner.destroy()
    connection.outer.destroy()
  },
  // With the next bytes from the instance.
  (connection) => {
    connection.isTearing = true
    tearing++
  }
]

const cutOne = () => {
  const connection = connections.get(due.at(-1))
  if (connection === undefined) {
    // It is offline: another one now, and it later.
    swap(due.length - 1, below(due.length))
    return
  }
  due.pop()
  connections.delete(connection.client)
  kinds[below(kinds.length)](connection)
}

const mean = (seconds * 1000) / due.length
let next = 0

const schedule = () => {
  next -= Math.log(1 - random()) * mean
  setTimeout(step, next - clock())
}

const step = () => {
  if (due.length === 0 && tearing === 0) {
    process.send({ type: "cut", cuts })
    return
  }
  if (connections.size < ONLINE) next = clock()
  else if (due.length > 0) cutOne()
  schedule()
}

process.on("message", () => {
  for (let index = due.length - 1; index > 0; index--) swap(index, below(index + 1))
  next = clock()
  schedule()
})
process.on("disconnect", () => process.exit(0))

server.listen(0, "127.0.0.1", BACKLOG, () => process.send({ type: "listening", port: server.address().port }))
