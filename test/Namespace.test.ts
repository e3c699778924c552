import { describe, expect, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Namespace from "../src/Namespace.ts"

const all: Namespace.Namespaces = {
  without_namespace: { ...Namespace.closed, history_size: 1 },
  namespaces: [
    { ...Namespace.open, name: "public" },
    { ...Namespace.closed, name: "__proto__" },
    { ...Namespace.closed, name: "a.b" }
  ]
}

const HISTORY = { history_size: 10, history_ttl: Duration.seconds(60) }

describe("Namespace.find", () => {
  it("gives channels without a colon the options without a namespace", () => {
    for (const channel of ["lobby", "public", "", "__proto__"]) {
      expect(Namespace.find(all, channel)).toBe(all.without_namespace)
    }
  })

  it("goes by what stands before the first colon", () => {
    expect(Namespace.find(all, "public:lobby")).toBe(all.namespaces[0])
    expect(Namespace.find(all, "public:")).toBe(all.namespaces[0])
    expect(Namespace.find(all, "public:a.b:c")).toBe(all.namespaces[0])
    expect(Namespace.find(all, "__proto__:x")).toBe(all.namespaces[1])
    expect(Namespace.find(all, "a.b:x")).toBe(all.namespaces[2])
  })

  it.each([":lobby", "publi:c", "PUBLIC:lobby", "constructor:x", "toString:x", " public:x", "foo:public:x"])(
    "knows no namespace of %j",
    (channel) => {
      expect(Namespace.find(all, channel)).toBeUndefined()
    }
  )
})

describe("Namespace.known", () => {
  it("names the namespaces, or says that there are none", () => {
    expect(Namespace.known(all)).toBe("public, __proto__, a.b")
    expect(Namespace.known({ ...all, namespaces: [] })).toBe("none")
  })
})

describe("Namespace.closed", () => {
  it("permits nobody anything and keeps nothing", () => {
    const { history_meta_ttl, history_size, history_ttl, ...flags } = Namespace.closed
    expect(history_size).toBe(0)
    expect(Duration.toMillis(history_ttl)).toBe(0)
    // How long a position would be kept, where there is history.
    expect(Duration.toHours(history_meta_ttl)).toBe(720)
    expect(Object.values(flags).every((flag) => flag === false)).toBe(true)
  })
})

describe("Namespace.open", () => {
  it("permits anybody to subscribe, publish, and read history and presence", () => {
    const denied = Object.entries(Namespace.open).filter(([key, value]) => key.startsWith("allow_") && value !== true)
    expect(denied).toEqual([])
  })

  it("keeps 100 publications for 300 s, with recovery, presence, joins and leaves", () => {
    const { force_recovery, history_meta_ttl, history_size, history_ttl, join_leave, presence } = Namespace.open
    expect([history_size, Duration.toSeconds(history_ttl), Duration.toHours(history_meta_ttl)]).toEqual([100, 300, 720])
    expect([force_recovery, presence, join_leave]).toEqual([true, true, true])
  })
})

describe("Namespace.retention", () => {
  const kept = { history_size: 5, history_ttl: Duration.seconds(9), history_meta_ttl: Duration.seconds(90) }
  const some: Namespace.Namespaces = {
    without_namespace: Namespace.closed,
    namespaces: [
      { ...Namespace.closed, ...kept, name: "kept" },
      { ...Namespace.open, history_size: 0, name: "fast" }
    ]
  }

  it("is what the namespace of the channel says", () => {
    expect(Namespace.retention(some, "kept:x")).toEqual({
      size: 5,
      ttl: Duration.seconds(9),
      metaTtl: Duration.seconds(90)
    })
    expect(Namespace.retention({ ...some, without_namespace: { ...Namespace.closed, ...kept } }, "x")?.size).toBe(5)
  })

  it.each(["x", "fast:x", "nowhere:x", ":x", "__proto__:x"])("is none in %j, which has no history", (channel) => {
    expect(Namespace.retention(some, channel)).toBeUndefined()
  })
})

/** Twice the delay of the position check. */
const SHORTEST = Duration.seconds(30)

describe("Namespace.contradiction", () => {
  it.each<[string, Partial<Namespace.Namespace>]>([
    ["nothing set", {}],
    ["history alone", HISTORY],
    ["recovery with history", { ...HISTORY, force_recovery: true }],
    ["positioning with history", { ...HISTORY, force_positioning: true }],
    ["a place that is kept as long as the history", { ...HISTORY, history_meta_ttl: HISTORY.history_ttl }],
    ["a place that would be kept for a moment, without history", { history_meta_ttl: Duration.millis(1) }],
    ["what is open by default", Namespace.open]
  ])("finds none in %s", (_, options) => {
    expect(Namespace.contradiction({ ...Namespace.closed, ...options }, SHORTEST)).toBeUndefined()
  })

  it.each<[keyof Namespace.Namespace, string, Partial<Namespace.Namespace>]>([
    ["history_size", "history_ttl", { history_size: 1 }],
    ["history_ttl", "history_size", { history_ttl: Duration.millis(1) }],
    ["force_recovery", "history_size and history_ttl", { force_recovery: true }],
    ["force_positioning", "history_size and history_ttl", { force_positioning: true }],
    ["history_size", "history_ttl", { history_size: 1, force_recovery: true, force_positioning: true }],
    ["history_ttl", "history_size", { history_ttl: Duration.seconds(1), force_recovery: true }]
  ])("finds %s without %s", (key, lacks, options) => {
    expect(Namespace.contradiction({ ...Namespace.closed, ...options }, SHORTEST)).toEqual({
      key,
      expected: `${lacks} beside it`
    })
  })

  it.each([
    ["no time", Duration.zero],
    ["1 ms less", Duration.subtract(HISTORY.history_ttl, Duration.millis(1))]
  ])("finds history_meta_ttl below history_ttl: %s", (_, history_meta_ttl) => {
    const found = { key: "history_meta_ttl", expected: "history_ttl or more" }
    for (const force_recovery of [false, true]) {
      const options = { ...Namespace.closed, ...HISTORY, history_meta_ttl, force_recovery }
      expect(Namespace.contradiction(options, SHORTEST)).toEqual(found)
    }
  })

  it("finds history_meta_ttl below what two position checks take", () => {
    const options = { ...Namespace.closed, ...HISTORY, history_meta_ttl: Duration.seconds(90) }
    expect(Namespace.contradiction(options, Duration.seconds(90))).toBeUndefined()
    expect(Namespace.contradiction(options, Duration.millis(90_001))).toEqual({
      key: "history_meta_ttl",
      expected: "twice client.channel_position_check_delay or more"
    })
    // Without history nothing is kept that could expire.
    expect(Namespace.contradiction({ ...Namespace.closed, history_meta_ttl: Duration.zero }, SHORTEST)).toBeUndefined()
  })
})
