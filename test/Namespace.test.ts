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
    const { history_size, history_ttl, ...flags } = Namespace.closed
    expect(history_size).toBe(0)
    expect(Duration.toMillis(history_ttl)).toBe(0)
    expect(Object.values(flags).every((flag) => flag === false)).toBe(true)
  })
})

describe("Namespace.open", () => {
  it("permits anybody to subscribe, publish, and read history and presence", () => {
    const denied = Object.entries(Namespace.open).filter(([key, value]) => key.startsWith("allow_") && value !== true)
    expect(denied).toEqual([])
  })

  it("keeps 100 publications for 300 s, with recovery, presence, joins and leaves", () => {
    const { force_recovery, history_size, history_ttl, join_leave, presence } = Namespace.open
    expect([history_size, Duration.toSeconds(history_ttl)]).toEqual([100, 300])
    expect([force_recovery, presence, join_leave]).toEqual([true, true, true])
  })
})

describe("Namespace.contradiction", () => {
  it.each<[string, Partial<Namespace.Namespace>]>([
    ["nothing set", {}],
    ["history alone", HISTORY],
    ["recovery with history", { ...HISTORY, force_recovery: true }],
    ["positioning with history", { ...HISTORY, force_positioning: true }],
    ["what is open by default", Namespace.open]
  ])("finds none in %s", (_, options) => {
    expect(Namespace.contradiction({ ...Namespace.closed, ...options })).toBeUndefined()
  })

  it.each<[keyof Namespace.Namespace, string, Partial<Namespace.Namespace>]>([
    ["history_size", "history_ttl", { history_size: 1 }],
    ["history_ttl", "history_size", { history_ttl: Duration.millis(1) }],
    ["force_recovery", "history_size and history_ttl", { force_recovery: true }],
    ["force_positioning", "history_size and history_ttl", { force_positioning: true }],
    ["history_size", "history_ttl", { history_size: 1, force_recovery: true, force_positioning: true }],
    ["history_ttl", "history_size", { history_ttl: Duration.seconds(1), force_recovery: true }]
  ])("finds %s without %s", (key, lacks, options) => {
    expect(Namespace.contradiction({ ...Namespace.closed, ...options })).toEqual({
      key,
      expected: `${lacks} beside it`
    })
  })
})
