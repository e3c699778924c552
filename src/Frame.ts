/**
 * WebSocket frames as the server writes them (RFC 6455, section 5.2): text,
 * final, unmasked. A `Frame` holds the bytes of one or more of them and is
 * built once, then shared by every connection that gets the same bytes: nobody
 * may write into `bytes`.
 */
import { Buffer } from "node:buffer"

/** Bytes that are ready to be written to a socket. */
export interface Frame {
  /** One or more whole WebSocket frames, end to end. */
  readonly bytes: Buffer
  /** Where each WebSocket frame ends within `bytes`; the last equals `bytes.length`. */
  readonly ends: ReadonlyArray<number>
}

const FIN_TEXT = 0x81

const headerSize = (payload: number): number => (payload < 126 ? 2 : payload < 65536 ? 4 : 10)

const writeFrame = (target: Buffer, at: number, text: string, size: number): number => {
  target[at] = FIN_TEXT
  let cursor = at + 2
  if (size < 126) {
    target[at + 1] = size
  } else if (size < 65536) {
    target[at + 1] = 126
    cursor = target.writeUInt16BE(size, cursor)
  } else {
    target[at + 1] = 127
    cursor = target.writeUInt32BE(Math.floor(size / 2 ** 32), cursor)
    cursor = target.writeUInt32BE(size % 2 ** 32, cursor)
  }
  target.write(text, cursor, size, "utf8")
  return cursor + size
}

/** One WebSocket text frame for each text, in order, in one piece of memory. */
export const encode = (texts: ReadonlyArray<string>): Frame => {
  const sizes = texts.map((text) => Buffer.byteLength(text))
  const bytes = Buffer.allocUnsafe(sizes.reduce((sum, size) => sum + headerSize(size) + size, 0))
  let cursor = 0
  const ends = texts.map((text, index) => {
    cursor = writeFrame(bytes, cursor, text, sizes[index] ?? 0)
    return cursor
  })
  return { bytes, ends }
}

/** A single WebSocket text frame. */
export const text = (payload: string): Frame => encode([payload])

/** How many WebSocket frames it holds. */
export const count = (frame: Frame): number => frame.ends.length

/** Those WebSocket frames of it whose place `keep` says; the bytes are copied, not encoded again. */
export const pick = (frame: Frame, keep: (index: number) => boolean): Frame => {
  const parts: Array<Buffer> = []
  const ends: Array<number> = []
  let size = 0
  for (const [index, end] of frame.ends.entries()) {
    if (!keep(index)) continue
    const part = frame.bytes.subarray(index === 0 ? 0 : frame.ends[index - 1], end)
    parts.push(part)
    size += part.length
    ends.push(size)
  }
  return { bytes: Buffer.concat(parts, size), ends }
}

/** The WebSocket frames `from` (inclusive) to `to` (exclusive), sharing memory with `frame`. */
export const slice = (frame: Frame, from: number, to: number): Frame => {
  if (from === 0 && to === frame.ends.length) return frame
  const start = from === 0 ? 0 : (frame.ends[from - 1] ?? 0)
  const ends = frame.ends.slice(from, to).map((end) => end - start)
  return { bytes: frame.bytes.subarray(start, start + (ends.at(-1) ?? 0)), ends }
}
