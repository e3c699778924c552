import { describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import { Buffer } from "node:buffer"
import * as Frame from "../src/Frame.ts"

interface Parsed {
  readonly first: number
  readonly masked: boolean
  readonly header: number
  readonly payload: Buffer
}

/** RFC 6455, section 5.2, read independently of how src writes it. */
const parse = (bytes: Buffer): ReadonlyArray<Parsed> => {
  const frames: Array<Parsed> = []
  let at = 0
  while (at < bytes.length) {
    const second = bytes.readUInt8(at + 1)
    const short = second & 0x7f
    const header = short === 126 ? 4 : short === 127 ? 10 : 2
    const size =
      short === 126 ? bytes.readUInt16BE(at + 2) : short === 127 ? Number(bytes.readBigUInt64BE(at + 2)) : short
    const payload = bytes.subarray(at + header, at + header + size)
    if (payload.length !== size) throw new Error(`a frame of ${size} bytes ends after ${payload.length}`)
    frames.push({ first: bytes.readUInt8(at), masked: second >= 0x80, header, payload })
    at += header + size
  }
  return frames
}

const textsOf = (frame: Frame.Frame): ReadonlyArray<string> =>
  parse(frame.bytes).map(({ payload }) => payload.toString("utf8"))

// Grapheme units are whole characters: a lone surrogate cannot be written as UTF-8.
const text = FastCheck.oneof(
  FastCheck.string({ unit: "grapheme", maxLength: 40 }),
  FastCheck.string({ unit: "binary", maxLength: 200 }),
  FastCheck.integer({ min: 120, max: 130 }).map((size) => "x".repeat(size)),
  FastCheck.integer({ min: 65_530, max: 65_540 }).map((size) => "y".repeat(size))
)

describe("Frame.text", () => {
  it.each([
    [0, 2, "8100"],
    [1, 2, "8101"],
    [125, 2, "817d"],
    [126, 4, "817e007e"],
    [127, 4, "817e007f"],
    [65_535, 4, "817effff"],
    [65_536, 10, "817f0000000000010000"],
    [70_000, 10, "817f0000000000011170"]
  ])("writes a payload of %i bytes behind a header of %i", (size, header, hex) => {
    const frame = Frame.text("a".repeat(size))
    expect(frame.bytes.length).toBe(header + size)
    expect(frame.bytes.subarray(0, header).toString("hex")).toBe(hex)
    expect(frame.bytes.subarray(header).toString("latin1")).toBe("a".repeat(size))
    expect(frame.ends).toEqual([header + size])
  })

  it.each([
    ["é".repeat(62), 2],
    ["é".repeat(63), 4],
    ["€".repeat(21_845), 4],
    [`${"€".repeat(21_845)}a`, 10],
    ["🎺".repeat(31), 2],
    ["🎺".repeat(32), 4]
  ])("counts bytes, not characters", (payload, header) => {
    const [frame, ...others] = parse(Frame.text(payload).bytes)
    expect(others).toEqual([])
    expect(frame?.header).toBe(header)
    expect(frame?.payload.length).toBe(Buffer.byteLength(payload))
    expect(frame?.payload.toString("utf8")).toBe(payload)
  })

  it("writes U+FFFD for a lone surrogate, so that the frame stays valid UTF-8", () => {
    const frame = Frame.text("a\ud800b")
    expect(frame.bytes.toString("hex")).toBe("810561efbfbd62")
  })
})

describe("Frame.encode", () => {
  it("makes an empty frame of no texts", () => {
    const frame = Frame.encode([])
    expect(frame.bytes.length).toBe(0)
    expect(frame.ends).toEqual([])
    expect(Frame.count(frame)).toBe(0)
  })

  it.prop(
    "writes final, unmasked text frames that read back as the texts, in order",
    [FastCheck.array(text)],
    ([texts]) => {
      const frame = Frame.encode(texts)
      const parsed = parse(frame.bytes)
      expect(parsed.map(({ payload }) => payload.toString("utf8"))).toEqual(texts)
      expect(parsed.every(({ first, masked }) => first === 0x81 && !masked)).toBe(true)
      expect(Frame.count(frame)).toBe(texts.length)
    }
  )

  it.prop(
    "ends each WebSocket frame where the next begins, the last at the end",
    [FastCheck.array(text)],
    ([texts]) => {
      const frame = Frame.encode(texts)
      let end = 0
      const ends = parse(frame.bytes).map(({ header, payload }) => (end += header + payload.length))
      expect(frame.ends).toEqual(ends)
      expect(frame.ends.at(-1) ?? 0).toBe(frame.bytes.length)
    }
  )

  it.prop("equals the frames of the single texts, end to end", [FastCheck.array(text)], ([texts]) => {
    const single = Buffer.concat(texts.map((one) => Frame.text(one).bytes))
    expect(Frame.encode(texts).bytes.equals(single)).toBe(true)
  })
})

const sliced = FastCheck.array(text, { maxLength: 8 }).chain((texts) =>
  FastCheck.tuple(
    FastCheck.constant(texts),
    FastCheck.integer({ min: 0, max: texts.length }),
    FastCheck.integer({ min: 0, max: texts.length })
  ).map(([texts, one, other]) => ({ texts, from: Math.min(one, other), to: Math.max(one, other) }))
)

describe("Frame.slice", () => {
  it.prop("equals encoding the sliced texts", [sliced], ([{ texts, from, to }]) => {
    const slice = Frame.slice(Frame.encode(texts), from, to)
    const expected = Frame.encode(texts.slice(from, to))
    expect(slice.bytes.equals(expected.bytes)).toBe(true)
    expect(slice.ends).toEqual(expected.ends)
    expect(Frame.count(slice)).toBe(to - from)
    expect(textsOf(slice)).toEqual(texts.slice(from, to))
  })

  it.prop("of a slice equals the slice of the whole", [sliced], ([{ texts, from, to }]) => {
    const whole = Frame.encode(texts)
    const rest = Frame.slice(whole, from, texts.length)
    const slice = Frame.slice(rest, 0, to - from)
    const expected = Frame.slice(whole, from, to)
    expect(slice.bytes.equals(expected.bytes)).toBe(true)
    expect(slice.ends).toEqual(expected.ends)
  })

  it("copies nothing: it shares memory with the frame", () => {
    const frame = Frame.encode(["one", "two", "three"])
    const slice = Frame.slice(frame, 1, 2)
    expect(slice.bytes.buffer).toBe(frame.bytes.buffer)
    expect(slice.bytes.byteOffset).toBe(frame.bytes.byteOffset + (frame.ends[0] ?? Number.NaN))
    expect(Frame.slice(frame, 0, 3)).toBe(frame)
  })
})
