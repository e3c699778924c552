// Clients of a peer, what they publish, and an exact account of what each of them got.
//
// Every message carries `@@PPPPP:SSSSSSSS:TTTTTTTTTTTT@@`: who published it, the how manieth of theirs it is, and when
// it was due, in microseconds of this process's clock. On every connection the messages of one publisher have to come
// as 0, 1, 2 …: what comes too early shows what is lost, what comes again or too late is counted as stale.
import { frame, MASK, Socket } from "./Socket.mjs"

const AT = 0x40
const PUBLISHER = 2
const SEQUENCE = 8
const TIME = 17
const TOKEN_SIZE = 31

const digits = (bytes, from, count) => {
  let value = 0
  for (let at = from; at < from + count; at++) value = value * 10 + bytes[at] - 48
  return value
}

/** Microseconds of this process's clock. */
const now = () => Math.round(performance.now() * 1000)

/** Handshakes at a time: fewer than any server's accept queue holds, or the kernel would be measured. */
const HANDSHAKES = 200

export class Load {
  #peer
  #size
  #clients = []
  #rooms
  /** Publishers of a room; the first `publishers` connections are, and connection i is in room i mod rooms. */
  #perRoom
  #publishers
  #next
  #acknowledged = []
  #onOwn = () => undefined
  #latencies
  #latencyFrom = Infinity
  problem
  published = 0
  received = 0
  stale = 0

  constructor(peer, { connections, rooms = 1, publishers = 0, size = 128 }) {
    if (publishers % rooms !== 0 && publishers > 0) throw new Error("as many publishers in each room")
    this.#peer = peer
    this.#size = size
    this.#rooms = rooms
    this.#publishers = publishers
    this.#perRoom = publishers / rooms
    this.#next = new Uint32Array(connections * this.#perRoom)
    for (let index = 0; index < connections; index++) {
      this.#clients.push({ index, room: index % rooms, sequence: 0, hint: 0, rest: 0 })
    }
  }

  get connections() {
    return this.#clients.length
  }

  room(client) {
    return `r${client.room}`
  }

  // ── Joining ────────────────────────────────────────────────────────────────

  /**
   * Connects all, at most `perSecond` of them a second, and waits until each has joined its room. `again`: what is
   * told of a client that comes back.
   */
  async open(instances, { again = () => undefined, perSecond = Infinity } = {}) {
    const waiting = this.#clients.values()
    const began = performance.now()
    const worker = async () => {
      for (const client of waiting) {
        const wait = (client.index / perSecond) * 1000 - (performance.now() - began)
        if (wait > 1) await pause(wait / 1000)
        await this.#join(client, instances, again(client))
      }
    }
    await Promise.all(Array.from({ length: HANDSHAKES }, worker))
  }

  async #join(client, instances, position) {
    const { greet, hear, path } = this.#peer
    const room = this.room(client)
    const socket = new Socket()
    client.socket = socket
    // The rooms are spread over the instances evenly: what does not cross is lost, and counted.
    const { port } = instances[Math.floor(client.index / this.#rooms) % instances.length]
    await socket.open(port, path)
    await new Promise((resolve, reject) => {
      socket.onEnd = (why) => reject(new Error(`${room}: ${why}`))
      socket.onText = (bytes, from, to) => {
        const heard = hear(bytes.toString("utf8", from, to), room, position)
        for (const text of heard.send ?? []) socket.send(text)
        if (heard.ready !== true) return
        client.heard = heard
        resolve()
      }
      for (const text of greet(room, position)) socket.send(text)
    })
    socket.onEnd = (why) => {
      this.problem ??= why
    }
    socket.onText = (bytes, from, to) => this.#read(client, bytes, from, to)
  }

  /** What the peer said when each client joined. */
  get heard() {
    return this.#clients.map(({ heard }) => heard)
  }

  close() {
    for (const { socket } of this.#clients) socket?.destroy()
  }

  // ── What comes in ──────────────────────────────────────────────────────────

  #read(client, bytes, from, to) {
    if (to - from < TOKEN_SIZE) return this.#control(client, bytes, from, to)
    // Nearly always where it was in the frame before.
    let at = from + client.hint
    if (bytes[at] !== AT || bytes[at + 1] !== AT || at + TOKEN_SIZE > to) {
      at = bytes.indexOf("@@", from)
      if (at === -1 || at + TOKEN_SIZE > to) return this.#control(client, bytes, from, to)
      client.hint = at - from
      client.rest = 0
    }
    this.#deliver(client, bytes, at)
    const rest = to - at
    // Most frames have their token where the one before had it, and as much behind it: in that there was nothing else.
    if (
      rest !== client.rest &&
      rest >= this.#size + TOKEN_SIZE &&
      !this.#more(client, bytes.subarray(from, to), at - from)
    ) {
      client.rest = rest
    }
    if (this.#acknowledged.length > 0) this.#continue()
  }

  /** A peer may put several messages in one frame, and a ping among them; returns whether it has. */
  #more(client, bytes, first) {
    let hasMore = false
    for (let at = first; ;) {
      at = bytes.indexOf("@@", at + this.#size)
      if (at === -1 || at + TOKEN_SIZE > bytes.length) break
      hasMore = true
      this.#deliver(client, bytes, at)
    }
    return this.#control(client, bytes, 0, bytes.length) || hasMore
  }

  /** Answers a ping; returns whether it was one. */
  #control(client, bytes, from, to) {
    const answer = this.#peer.answer(bytes.toString("utf8", from, to))
    if (answer === undefined) return false
    client.socket.send(answer)
    return true
  }

  #deliver(client, bytes, at) {
    const publisher = digits(bytes, at + PUBLISHER, 5)
    const sequence = digits(bytes, at + SEQUENCE, 8)
    const place = client.index * this.#perRoom + Math.floor(publisher / this.#rooms)
    if (publisher % this.#rooms !== client.room || sequence < this.#next[place]) {
      this.stale++
      return
    }
    this.#next[place] = sequence + 1
    this.received++
    if (this.#latencies !== undefined) {
      const due = digits(bytes, at + TIME, 12)
      if (due >= this.#latencyFrom) this.#latencies.push(now() - due)
    }
    if (publisher === client.index) this.#acknowledged.push(client)
  }

  #continue() {
    const clients = this.#acknowledged
    this.#acknowledged = []
    for (const client of clients) this.#onOwn(client)
  }

  // ── What goes out ──────────────────────────────────────────────────────────

  #publish(client, due) {
    client.template ??= this.#template(client)
    const { bytes, start, token } = client.template
    const copy = Buffer.from(bytes)
    const put = (at, count, number) => {
      let rest = number
      for (let index = token + at + count - 1; index >= token + at; index--) {
        copy[start + index] = (48 + (rest % 10)) ^ MASK[index & 3]
        rest = Math.floor(rest / 10)
      }
    }
    put(SEQUENCE, 8, client.sequence++)
    put(TIME, 12, due)
    this.published++
    client.socket.write(copy)
  }

  #template(client) {
    const head = `@@${String(client.index).padStart(5, "0")}:00000000:000000000000@@`
    const text = Buffer.from(this.#peer.publish(this.room(client), head.padEnd(this.#size, "x")))
    return { ...frame(1, text), token: text.indexOf("@@") }
  }

  /** Everybody publishes one, and that is waited for. */
  async once() {
    for (const client of this.#clients.slice(0, this.#publishers)) this.#publish(client, now())
    await this.settled()
  }

  /** For `seconds` every publisher keeps `window` messages of its own on the way. */
  async saturate(seconds, window) {
    this.#onOwn = (client) => this.#publish(client, now())
    for (const client of this.#clients.slice(0, this.#publishers)) {
      for (let count = 0; count < window; count++) this.#publish(client, now())
    }
    await pause(seconds)
    this.#onOwn = () => undefined
    await this.settled()
  }

  /** Saturates it for two thirds of a measurement: what has just been started is still being compiled. */
  warmUp(seconds, window) {
    return this.saturate((seconds * 2) / 3, window)
  }

  /** Publishes `rate` messages a second, in turns, for `seconds`. A late one counts from when it was due. */
  async pace(seconds, rate) {
    const began = now()
    const count = Math.round(seconds * rate)
    for (let sent = 0; sent < count;) {
      const due = began + Math.round((sent * 1e6) / rate)
      const wait = due - now()
      if (wait > 500) await pause(wait / 1e6)
      else this.#publish(this.#clients[sent++ % this.#publishers], due)
    }
    await this.settled()
  }

  /** From now on, latencies in microseconds are kept; returns them. */
  keepLatencies() {
    this.#latencyFrom = now()
    this.#latencies = []
    return this.#latencies
  }

  get expected() {
    return (this.published * this.connections) / this.#rooms
  }

  /** Waits until everything has arrived, or nothing has for 5 s. */
  async settled() {
    let before = -1
    let still = 0
    while (this.received < this.expected && this.problem === undefined && still < 5) {
      still = this.received === before ? still + 0.02 : 0
      before = this.received
      await pause(0.02)
    }
  }

  /** Waits a moment for what should not come, ends all connections, and returns `fault`. */
  async finish() {
    await pause(0.2)
    const { fault } = this
    this.close()
    return fault
  }

  /** Why a figure of this run is worth nothing; `undefined`: everything came, once, and in order. */
  get fault() {
    if (this.problem !== undefined) return `a connection ended: ${this.problem}`
    if (this.received < this.expected) return `${this.expected - this.received} of ${this.expected} deliveries lost`
    if (this.received > this.expected) return `${this.received - this.expected} deliveries too many`
    return this.stale === 0 ? undefined : `${this.stale} deliveries twice, out of order or in the wrong room`
  }
}

export const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000))
