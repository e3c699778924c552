import { describe, expect, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import { Expiring } from "../src/Broker/Expiring.ts"
import { MAX_EMPTY_STREAMS, MAX_STREAMS, MemoryStreams } from "../src/Broker/MemoryStreams.ts"
import type { Publication } from "../src/protocol/Publication.ts"

const retention = { size: 10, ttl: Duration.seconds(60), metaTtl: Duration.hours(2) }
const HOUR = 3_600_000

const of = (data: string): Publication => ({ data, json: false })

const offsets = (streams: MemoryStreams, channel: string, now = 0): ReadonlyArray<number | undefined> =>
  streams.read(now, channel, retention, { limit: 100, maxBytes: 1e6 }).publications.map(({ offset }) => offset)

describe("MemoryStreams", () => {
  it("keeps what was written last, over all streams, within its bytes", () => {
    // What one of these takes: two bytes for each of its ten characters, and what an object costs.
    const each = 512 + 20
    const streams = new MemoryStreams(10 * each)
    for (const channel of ["a", "b", "c"]) {
      for (let count = 0; count < 4; count++) streams.append(0, channel, retention, of("x".repeat(10)))
    }
    expect(streams.size.bytes).toBe(10 * each)
    expect([offsets(streams, "a"), offsets(streams, "b"), offsets(streams, "c")]).toEqual([
      [3, 4],
      [1, 2, 3, 4],
      [1, 2, 3, 4]
    ])
    streams.append(0, "a", retention, of("x".repeat(9 * each * 0.5 - 256)))
    expect([offsets(streams, "a"), offsets(streams, "b"), offsets(streams, "c")]).toEqual([[4, 5], [], []])
    streams.append(0, "a", retention, of("x".repeat(10 * each)))
    expect([offsets(streams, "a"), streams.size.bytes]).toEqual([[], 0])
    // Positions go on: whoever needs what is gone is told.
    expect(streams.append(0, "b", retention, of("y")).offset).toBe(5)
  })

  it("counts what belongs to a publication beside its data", () => {
    const streams = new MemoryStreams(100_000)
    streams.append(0, "a", retention, { ...of("x"), info: { client: "c", user: "u" }, tags: { t: "v" } })
    expect(streams.size.bytes).toBe(512 + 2 * (1 + '[{"client":"c","user":"u"},{"t":"v"}]'.length))
    streams.remove("a")
    expect(streams.size.bytes).toBe(0)
  })

  it("forgets publications, then the stream, when their time is over", () => {
    const streams = new MemoryStreams(1000)
    const { epoch } = streams.append(0, "a", retention, of("1"))
    expect(offsets(streams, "a", 59_999)).toEqual([1])
    expect(offsets(streams, "a", 60_000)).toEqual([])
    expect(streams.position(60_000, "a", retention)).toEqual({ epoch, offset: 1 })
    // Every use keeps it for as long again.
    expect(streams.position(60_000 + 2 * HOUR - 1, "a", retention)).toEqual({ epoch, offset: 1 })
    expect(streams.position(60_000 + 4 * HOUR - 1, "a", retention)).toBe(undefined)
    const again = streams.append(60_000 + 4 * HOUR, "a", retention, of("1"))
    expect(again.offset).toBe(1)
    expect(again.epoch).not.toBe(epoch)
  })

  it("sweeps what has expired", () => {
    const streams = new MemoryStreams(1000)
    streams.append(0, "a", retention, of("12345"))
    streams.sweep(60_000)
    expect(streams.size).toEqual({ streams: 1, bytes: 0 })
    streams.sweep(2 * HOUR)
    expect(streams.size).toEqual({ streams: 0, bytes: 0 })
  })

  it("keeps a stream that never had a publication for an hour", () => {
    const streams = new MemoryStreams(1000)
    const { epoch } = streams.read(0, "a", retention, { limit: 0, maxBytes: 0 })
    expect(streams.position(HOUR - 1, "a", retention)).toEqual({ epoch, offset: 0 })
    expect(streams.position(2 * HOUR - 1, "a", retention)).toBe(undefined)
  })

  for (const [kind, most, begin] of [
    [
      "streams",
      MAX_STREAMS,
      (streams: MemoryStreams, channel: string) => streams.append(0, channel, retention, of("x"))
    ],
    [
      "streams that never had a publication",
      MAX_EMPTY_STREAMS,
      (streams: MemoryStreams, channel: string) => streams.read(0, channel, retention, { limit: 0, maxBytes: 0 })
    ]
  ] as const) {
    it(`keeps a number of ${kind}: those not used for longest go, but none with a subscriber`, () => {
      const streams = new MemoryStreams(10_000)
      streams.pin("pinned", true)
      begin(streams, "pinned")
      const other = streams.append(0, "other", retention, of("x"))
      for (let index = 0; index < most; index++) begin(streams, String(index))
      const kept = streams.position(0, "0", retention)
      begin(streams, "one more")
      begin(streams, "and another")
      expect(streams.position(0, "0", retention)).toEqual(kept)
      expect(streams.position(0, "1", retention)).toBe(undefined)
      expect(streams.position(0, "pinned", retention)).not.toBe(undefined)
      // Empty streams do not push out those that have publications.
      const isOtherKept = streams.position(0, "other", retention)?.epoch === other.epoch
      expect(isOtherKept).toBe(most === MAX_EMPTY_STREAMS)
      streams.pin("pinned", false)
      for (let index = 0; index < most; index++) begin(streams, `again ${index}`)
      expect(streams.position(0, "pinned", retention)).toBe(undefined)
    })
  }
})

describe("Expiring", () => {
  it("forgets each entry after its time, and the oldest beyond its capacity", () => {
    const map = new Expiring<number>(100, 3)
    map.set(0, "a", 1)
    map.set(10, "b", 2)
    expect([map.get(99, "a"), map.get(100, "a"), map.get(100, "b")]).toEqual([1, undefined, 2])
    map.set(20, "c", 3)
    map.set(30, "d", 4)
    expect([map.get(30, "a"), map.get(30, "b"), map.get(30, "c"), map.get(30, "d")]).toEqual([undefined, 2, 3, 4])
    map.set(40, "b", 5)
    map.set(50, "e", 6)
    expect([map.get(50, "b"), map.get(50, "c")]).toEqual([5, undefined])
  })
})
