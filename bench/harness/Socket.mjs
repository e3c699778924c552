// A WebSocket client that costs little: a raw socket, one buffer for the reads of all of them, frames walked in place.
import { randomBytes } from "node:crypto"
import { connect } from "node:net"

const END_OF_HEAD = Buffer.from("\r\n\r\n")

// A read is over before the next one begins, so all sockets read into the same memory.
const shared = Buffer.allocUnsafe(256 * 1024)

export const MASK = randomBytes(4)

/** A masked frame of a client. `start` is where its payload begins. */
export const frame = (opcode, payload) => {
  const size = payload.length
  const head =
    size < 126 ? Buffer.from([0x80 | opcode, 0x80 | size]) : Buffer.from([0x80 | opcode, 0xfe, size >> 8, size & 0xff])
  const masked = Buffer.from(payload)
  for (let index = 0; index < size; index++) masked[index] ^= MASK[index & 3]
  return { bytes: Buffer.concat([head, MASK, masked]), start: head.length + 4 }
}

export class Socket {
  #socket
  #isOpen = false
  #rest
  /** The bytes of a text frame: `(bytes, from, to) => void`. */
  onText = () => undefined
  /** Ended by the peer, or broken: `(why) => void`. */
  onEnd = () => undefined

  /** Connects; settles once the peer has accepted the upgrade. */
  open(port, path) {
    return new Promise((resolve, reject) => {
      this.onEnd = (why) => reject(new Error(why))
      const callback = (size, buffer) => {
        if (this.#isOpen) this.#read(buffer, size)
        else this.#readHead(buffer, size, resolve)
        return true
      }
      this.#socket = connect({ port, host: "127.0.0.1", noDelay: true, onread: { buffer: shared, callback } })
      this.#socket.on("error", (error) => this.onEnd(error.message))
      this.#socket.on("close", () => this.onEnd("closed by the server"))
      this.#socket.write(
        `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
          `Sec-WebSocket-Key: ${randomBytes(16).toString("base64")}\r\nSec-WebSocket-Version: 13\r\n\r\n`
      )
    })
  }

  write(bytes) {
    this.#socket.write(bytes)
  }

  send(text) {
    this.#socket.write(frame(1, Buffer.from(text)).bytes)
  }

  /** Cuts it off, as a network that goes away does. */
  destroy() {
    this.onEnd = () => undefined
    this.#socket.destroy()
  }

  #readHead(buffer, size, resolve) {
    const bytes = this.#join(buffer, size)
    const end = bytes.indexOf(END_OF_HEAD)
    if (end === -1) {
      this.#rest = Buffer.from(bytes)
      return
    }
    const head = bytes.toString("latin1", 0, end)
    if (!head.startsWith("HTTP/1.1 101")) {
      this.onEnd(head.split("\r\n")[0])
      this.destroy()
      return
    }
    this.#isOpen = true
    const after = Buffer.from(bytes.subarray(end + END_OF_HEAD.length))
    resolve()
    // Once whoever waits for it to be open has said who hears it.
    if (after.length > 0) queueMicrotask(() => this.#read(after, after.length))
  }

  #join(buffer, size) {
    const bytes = buffer.subarray(0, size)
    if (this.#rest === undefined) return bytes
    const joined = Buffer.concat([this.#rest, bytes])
    this.#rest = undefined
    return joined
  }

  #read(buffer, size) {
    let bytes = buffer
    let end = size
    if (this.#rest !== undefined) {
      bytes = this.#join(buffer, size)
      end = bytes.length
    }
    let at = 0
    while (end - at >= 2) {
      let length = bytes[at + 1]
      let from = at + 2
      if (length === 126) {
        if (end - at < 4) break
        length = (bytes[at + 2] << 8) | bytes[at + 3]
        from = at + 4
      } else if (length === 127) {
        if (end - at < 10) break
        length = bytes.readUInt32BE(at + 2) * 2 ** 32 + bytes.readUInt32BE(at + 6)
        from = at + 10
      }
      const to = from + length
      if (to > end) break
      const first = bytes[at]
      if (first === 0x81) this.onText(bytes, from, to)
      else if (first === 0x89) this.#socket.write(frame(0xa, bytes.subarray(from, to)).bytes)
      else if (first === 0x88) this.onEnd(`closed with ${length < 2 ? "no code" : bytes.readUInt16BE(from)}`)
      else if (first !== 0x8a) this.onEnd(`a frame that begins with ${first}`)
      at = to
    }
    if (at < end) this.#rest = Buffer.from(bytes.subarray(at, end))
  }
}
