import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import * as Frame from "../src/Frame.ts"
import * as Mailbox from "../src/Mailbox.ts"

const make = (maxFrames: number, maxBytes: number, overflow: Mailbox.Overflow): Mailbox.Mailbox =>
  Effect.runSync(Mailbox.make(maxFrames, maxBytes, overflow))

type Kind = "lossy" | "kept" | "control"

/** What the mailbox is compared with: every WebSocket frame by itself, in arrays. */
interface One {
  readonly id: number
  readonly kind: Kind
  readonly bytes: number
  /** Frames that were offered together are taken together. */
  readonly group: number
}

const HEADER = 2
const isPublication = ({ kind }: One): boolean => kind !== "control"
const sum = (frames: ReadonlyArray<One>): number => frames.reduce((total, one) => total + one.bytes, 0)
const idsOf = (frames: ReadonlyArray<One>): ReadonlyArray<number> => frames.map(({ id }) => id)

/** The ids in a frame: its texts are an id and padding. */
const idsIn = (frame: Frame.Frame): ReadonlyArray<number> =>
  frame.ends.map((end, index) => {
    const start = index === 0 ? 0 : (frame.ends[index - 1] ?? 0)
    return Number.parseInt(frame.bytes.toString("latin1", start + HEADER, end), 10)
  })

class Model {
  queue: ReadonlyArray<One> = []
  readonly maxFrames: number
  readonly maxBytes: number
  readonly overflow: Mailbox.Overflow

  constructor(maxFrames: number, maxBytes: number, overflow: Mailbox.Overflow) {
    this.maxFrames = maxFrames
    this.maxBytes = maxBytes
    this.overflow = overflow
  }

  /** Whether `more` may stand behind `queue`. An empty mailbox takes any frame. */
  fits(queue: ReadonlyArray<One>, more: ReadonlyArray<One>): boolean {
    if (queue.length === 0 && more.length === 1) return true
    return queue.length + more.length <= this.maxFrames && sum(queue) + sum(more) <= this.maxBytes
  }

  room(batch: ReadonlyArray<One>): number {
    let fit = 0
    while (fit < batch.length && this.fits(this.queue, batch.slice(0, fit + 1))) fit++
    return fit
  }

  offer(batch: ReadonlyArray<One>): number {
    if (this.overflow !== "drop_oldest" || batch[0]?.kind === "kept") {
      const fit = this.room(batch)
      this.queue = [...this.queue, ...batch.slice(0, fit)]
      return batch.length - fit
    }
    const droppable = [...this.queue.filter(({ kind }) => kind === "lossy"), ...batch]
    for (let dropped = 0; dropped <= droppable.length; dropped++) {
      const gone = new Set(droppable.slice(0, dropped))
      const queue = this.queue.filter((one) => !gone.has(one))
      const rest = batch.filter((one) => !gone.has(one))
      if (rest.length > 0 && !this.fits(queue, rest)) continue
      this.queue = [...queue, ...rest]
      return dropped
    }
    throw new Error("unreachable: nothing at all fits")
  }

  /** Whole groups: one, and more while they stay within `bytes`. */
  take(bytes: number): ReadonlyArray<One> {
    const taken: Array<One> = []
    while (taken.length < this.queue.length) {
      const group = this.queue[taken.length]?.group
      const more = this.queue.filter((one) => one.group === group)
      if (taken.length > 0 && sum(taken) + sum(more) > bytes) break
      taken.push(...more)
    }
    this.queue = this.queue.slice(taken.length)
    return taken
  }
}

type Step =
  | { readonly _tag: "Offer"; readonly kind: "lossy" | "kept"; readonly sizes: ReadonlyArray<number> }
  | { readonly _tag: "Control"; readonly size: number }
  | { readonly _tag: "Take"; readonly bytes: number }
  | { readonly _tag: "Discard" }

const size = FastCheck.integer({ min: 4, max: 40 })
const step: FastCheck.Arbitrary<Step> = FastCheck.oneof(
  {
    weight: 6,
    arbitrary: FastCheck.record({
      _tag: FastCheck.constant("Offer" as const),
      kind: FastCheck.constantFrom("lossy" as const, "kept" as const),
      sizes: FastCheck.array(size, { minLength: 1, maxLength: 6 })
    })
  },
  { weight: 2, arbitrary: FastCheck.record({ _tag: FastCheck.constant("Control" as const), size }) },
  {
    weight: 3,
    arbitrary: FastCheck.record({
      _tag: FastCheck.constant("Take" as const),
      bytes: FastCheck.integer({ min: 0, max: 150 })
    })
  },
  { weight: 1, arbitrary: FastCheck.constant({ _tag: "Discard" as const }) }
)

const bounds = FastCheck.record({
  maxFrames: FastCheck.integer({ min: 1, max: 8 }),
  // From less than one frame to more than `maxFrames` of the largest.
  maxBytes: FastCheck.integer({ min: 1, max: 360 })
})

const check = (
  overflow: Mailbox.Overflow,
  { maxFrames, maxBytes }: { readonly maxFrames: number; readonly maxBytes: number },
  steps: ReadonlyArray<Step>
): void => {
  const mailbox = make(maxFrames, maxBytes, overflow)
  const model = new Model(maxFrames, maxBytes, overflow)
  const count = { offered: 0, dropped: 0, taken: 0, controls: 0, controlsTaken: 0, lost: 0 }
  let next = 0
  // What was queued as kept comes out, in that order, whatever else is dropped.
  const kept: { queued: ReadonlyArray<number>; taken: Array<number> } = { queued: [], taken: [] }
  const frames = (sizes: ReadonlyArray<number>, kind: Kind) => {
    const group = next
    const ones = sizes.map((size): One => ({ id: next++, kind, bytes: HEADER + size, group }))
    return { ones, frame: Frame.encode(ones.map(({ id, bytes }) => String(id).padEnd(bytes - HEADER, "."))) }
  }
  for (const step of steps) {
    if (step._tag === "Offer") {
      const { frame, ones } = frames(step.sizes, step.kind)
      const room = mailbox.room(frame)
      expect(room).toBe(model.room(ones))
      const before = mailbox.frames
      const dropped = step.kind === "kept" ? mailbox.offer(frame, "kept") : mailbox.offer(frame)
      expect(dropped).toBe(model.offer(ones))
      if (step.kind === "kept") {
        expect(ones.length - dropped).toBe(room)
        kept.queued = [...kept.queued, ...idsOf(ones.slice(0, room))]
      }
      count.offered += ones.length
      count.dropped += dropped
      // Publications never lift it above a bound; only the first one may be larger than all of it.
      if (mailbox.frames > before) expect(mailbox.frames).toBeLessThanOrEqual(maxFrames)
      if (mailbox.frames > Math.max(1, before)) expect(mailbox.bytes).toBeLessThanOrEqual(maxBytes)
    } else if (step._tag === "Control") {
      const { frame, ones } = frames([step.size], "control")
      mailbox.offerControl(frame)
      model.queue = [...model.queue, ...ones]
      count.controls++
    } else if (step._tag === "Take") {
      const taken = mailbox.take(step.bytes)
      const expected = model.take(step.bytes)
      expect(taken.flatMap(idsIn)).toEqual(idsOf(expected))
      kept.taken.push(...taken.flatMap(idsIn).filter((id) => kept.queued.includes(id)))
      count.taken += expected.filter(isPublication).length
      count.controlsTaken += expected.filter((one) => !isPublication(one)).length
    } else {
      const lost = mailbox.discard()
      expect(lost).toBe(model.queue.filter(isPublication).length)
      count.lost += lost
      count.controlsTaken += model.queue.filter((one) => !isPublication(one)).length
      kept.queued = kept.taken.slice()
      model.queue = []
    }
    const queued = model.queue.filter(isPublication).length
    expect(mailbox.frames).toBe(model.queue.length)
    expect(mailbox.bytes).toBe(sum(model.queue))
    expect(mailbox.isEmpty).toBe(model.queue.length === 0)
    expect(mailbox.full).toBe(model.queue.length >= maxFrames || sum(model.queue) >= maxBytes)
    expect(count.dropped + count.taken + count.lost + queued).toBe(count.offered)
    expect(count.controlsTaken + model.queue.length - queued).toBe(count.controls)
  }
  const rest = mailbox.take(Number.MAX_SAFE_INTEGER).flatMap(idsIn)
  expect(rest).toEqual(idsOf(model.queue))
  expect([...kept.taken, ...rest.filter((id) => kept.queued.includes(id))]).toEqual(kept.queued)
  expect([mailbox.isEmpty, mailbox.frames, mailbox.bytes]).toEqual([true, 0, 0])
}

describe("Mailbox", () => {
  const steps = FastCheck.array(step, { maxLength: 60, size: "max" })
  for (const overflow of ["drop_newest", "drop_oldest", "disconnect"] as const) {
    it.prop(
      `with ${overflow} keeps order and bounds, drops nothing queued that is kept or control, and loses none uncounted`,
      [bounds, steps],
      ([bounds, steps]) => check(overflow, bounds, steps),
      { fastCheck: { numRuns: 400 } }
    )
  }
})

const texts = (...names: ReadonlyArray<string>): Frame.Frame => Frame.encode(names)
const left = (mailbox: Mailbox.Mailbox): string =>
  Array.from(mailbox.take(Number.MAX_SAFE_INTEGER), (frame) =>
    frame.bytes.toString("latin1").replace(/[^a-z]/g, "")
  ).join("")

describe("Mailbox.offer at the bound", () => {
  it("takes exactly max frames and drops one past them", () => {
    const mailbox = make(3, 1000, "drop_newest")
    expect(mailbox.offer(texts("a", "b"))).toBe(0)
    expect(mailbox.full).toBe(false)
    expect(mailbox.offer(texts("c"))).toBe(0)
    expect(mailbox.full).toBe(true)
    expect(mailbox.offer(texts("d"))).toBe(1)
    expect(left(mailbox)).toBe("abc")
  })

  it("takes exactly max bytes and drops what is one byte past them", () => {
    const exact = make(100, 9, "drop_newest")
    expect(exact.offer(texts("a", "b"))).toBe(0)
    expect(exact.offer(texts("c"))).toBe(0)
    expect([exact.bytes, exact.full]).toEqual([9, true])
    const short = make(100, 8, "drop_newest")
    expect(short.offer(texts("a", "b", "c"))).toBe(1)
    expect([short.bytes, short.full]).toEqual([6, false])
    expect(left(short)).toBe("ab")
  })

  it("with drop_newest and disconnect keeps a prefix of the batch", () => {
    for (const overflow of ["drop_newest", "disconnect"] as const) {
      const mailbox = make(4, 1000, overflow)
      mailbox.offer(texts("a", "b"))
      expect(mailbox.offer(texts("c", "d", "e", "f"))).toBe(2)
      expect(left(mailbox)).toBe("abcd")
    }
  })

  it("with drop_oldest keeps the newest, and of a batch longer than the mailbox its end", () => {
    const mailbox = make(4, 1000, "drop_oldest")
    mailbox.offer(texts("a", "b", "c"))
    expect(mailbox.offer(texts("d", "e"))).toBe(1)
    expect(mailbox.offer(texts("f"))).toBe(1)
    expect(mailbox.frames).toBe(4)
    expect(mailbox.offer(texts("g", "h", "i", "j", "k", "l"))).toBe(6)
    expect(left(mailbox)).toBe("ijkl")
  })

  it("with drop_oldest frees as many bytes as the newest needs, and no more", () => {
    const mailbox = make(100, 12, "drop_oldest")
    mailbox.offer(texts("a", "b", "c", "d"))
    expect(mailbox.offer(texts("eeee"))).toBe(2)
    expect(mailbox.bytes).toBe(12)
    expect(left(mailbox)).toBe("cdeeee")
  })

  it("never drops control frames, however many, and takes no publication beside them", () => {
    for (const overflow of ["drop_newest", "drop_oldest", "disconnect"] as const) {
      const mailbox = make(2, 6, overflow)
      for (const name of ["a", "b", "c", "d"]) mailbox.offerControl(texts(name))
      expect(mailbox.offer(texts("x"))).toBe(1)
      expect(mailbox.frames).toBe(4)
      expect(left(mailbox)).toBe("abcd")
    }
  })

  it("with drop_oldest keeps control frames in their place among publications", () => {
    const mailbox = make(4, 1000, "drop_oldest")
    mailbox.offer(texts("a", "b"))
    mailbox.offerControl(texts("x"))
    mailbox.offer(texts("c"))
    expect(mailbox.offer(texts("d", "e"))).toBe(2)
    expect(left(mailbox)).toBe("xcde")
  })

  it("takes any frame when empty, and none beside it", () => {
    for (const overflow of ["drop_newest", "drop_oldest", "disconnect"] as const) {
      const mailbox = make(2, 4, overflow)
      expect(mailbox.offer(texts("aaaaaaaaaa"))).toBe(0)
      expect(mailbox.bytes).toBe(12)
      const newest = overflow === "drop_oldest"
      expect(mailbox.offer(texts("b"))).toBe(1)
      expect(left(mailbox)).toBe(newest ? "b" : "aaaaaaaaaa")
    }
  })
})

describe("Mailbox.offer of what is kept", () => {
  const POLICIES = ["drop_newest", "drop_oldest", "disconnect"] as const

  it("queues the first of a batch and refuses the rest, whatever the policy", () => {
    for (const overflow of POLICIES) {
      const mailbox = make(4, 1000, overflow)
      mailbox.offer(texts("a", "b"), "kept")
      expect(mailbox.offer(texts("c", "d", "e", "f"), "kept")).toBe(2)
      expect(mailbox.offer(texts("g"), "kept")).toBe(1)
      expect(left(mailbox)).toBe("abcd")
    }
  })

  it("does the same at the bound of bytes", () => {
    for (const overflow of POLICIES) {
      const mailbox = make(100, 8, overflow)
      expect(mailbox.offer(texts("a", "b", "c"), "kept")).toBe(1)
      expect([mailbox.bytes, mailbox.full]).toEqual([6, false])
      expect(left(mailbox)).toBe("ab")
    }
  })

  it("makes nothing queued give way, not even with drop_oldest", () => {
    const mailbox = make(3, 1000, "drop_oldest")
    mailbox.offer(texts("a", "b", "c"))
    expect(mailbox.offer(texts("d"), "kept")).toBe(1)
    expect(left(mailbox)).toBe("abc")
  })

  it("gives way to nothing once it is queued, not even with drop_oldest", () => {
    const mailbox = make(4, 1000, "drop_oldest")
    mailbox.offer(texts("a"))
    mailbox.offer(texts("k"), "kept")
    mailbox.offer(texts("b"))
    mailbox.offer(texts("l"), "kept")
    // Those before, between and after the kept ones go; the kept ones stay where they are.
    expect(mailbox.offer(texts("c"))).toBe(1)
    expect(mailbox.offer(texts("d", "e"))).toBe(2)
    expect(left(mailbox)).toBe("klde")
    const full = make(2, 1000, "drop_oldest")
    full.offer(texts("k", "l"), "kept")
    expect(full.offer(texts("a", "b", "c"))).toBe(3)
    expect(left(full)).toBe("kl")
  })

  it("counts as lost where the mailbox is discarded", () => {
    const mailbox = make(4, 1000, "drop_newest")
    mailbox.offer(texts("a", "b"), "kept")
    mailbox.offerControl(texts("x"))
    mailbox.offer(texts("c"))
    expect(mailbox.discard()).toBe(3)
    expect(mailbox.isEmpty).toBe(true)
  })
})

describe("Mailbox.take", () => {
  it("takes nothing of an empty mailbox, one frame larger than the limit, and more up to exactly the limit", () => {
    const mailbox = make(100, 1000, "drop_newest")
    expect(mailbox.take(10)).toEqual([])
    for (const name of ["aaaa", "b", "c", "d"]) mailbox.offer(texts(name))
    expect(mailbox.take(1)).toHaveLength(1)
    expect(mailbox.take(6)).toHaveLength(2)
    expect([mailbox.frames, mailbox.bytes]).toEqual([1, 3])
  })
})
