import { describe, expect, it } from "@effect/vitest"
import * as Either from "effect/Either"
import * as FastCheck from "effect/FastCheck"
import * as Channel from "../src/Channel.ts"

const problem = (name: string, maxLength = 255): string | undefined =>
  Either.match(Channel.parse(name, maxLength), { onLeft: (malformed) => malformed, onRight: () => undefined })

describe("Channel.parse", () => {
  it.each([
    "a",
    ":",
    "public:lobby",
    "a b",
    "ünïcödé",
    "🎺",
    "__proto__",
    "constructor",
    "{slot}",
    "a/b?c#d%",
    '"\\',
    "$private",
    "*",
    "line\u2028separator"
  ])("takes %j", (name) => {
    expect(Channel.parse(name, 255)).toEqual(Either.right(name))
  })

  it.each(["\n", "\0", "a\nb", "a\r", "\tb", "a\u001fb", "a\u007fb", "a\u0085b", "a\u009fb"])(
    "refuses %j, which has a control character",
    (name) => {
      expect(problem(name)).toContain("control characters")
    }
  )

  it.each(["\ud800", "a\udc00", "\udc00\ud800", "a\ud83dz"])("refuses %j, which cannot be written as UTF-8", (name) => {
    expect(problem(name)).toContain("lone surrogates")
  })

  it("refuses the empty name", () => {
    expect(problem("")).toBe("a channel name is not empty")
  })

  it("takes a name of exactly the longest length and refuses one longer, saying both lengths", () => {
    expect(problem("a".repeat(10), 10)).toBeUndefined()
    expect(problem("a".repeat(11), 10)).toBe("a channel name has at most 10 characters, this one 11")
    // UTF-16 code units: a trumpet counts twice.
    expect(problem("🎺".repeat(5), 10)).toBeUndefined()
    expect(problem("🎺".repeat(6), 10)).toContain("this one 12")
  })

  it.prop(
    "takes a name as it is exactly if it is not empty, not too long, whole UTF-16 and free of controls",
    [
      FastCheck.array(FastCheck.integer({ min: 0, max: 0xffff }), { maxLength: 12 }),
      FastCheck.integer({ min: 1, max: 12 })
    ],
    ([units, maxLength]) => {
      const name = String.fromCharCode(...units)
      const control = units.some((unit) => unit < 0x20 || (unit >= 0x7f && unit <= 0x9f))
      const good = name !== "" && name.length <= maxLength && !control && Buffer.from(name).toString() === name
      expect(Channel.parse(name, maxLength)).toEqual(good ? Either.right(name) : Either.left(problem(name, maxLength)))
    }
  )
})

describe("Channel.namespace", () => {
  it.each([
    ["lobby", undefined],
    ["public:lobby", "public"],
    ["a:b:c", "a"],
    [":lobby", ""],
    ["public:", "public"],
    [":", ""],
    ["__proto__:x", "__proto__"]
  ])("of %j is %j", (channel, namespace) => {
    expect(Channel.namespace(channel)).toBe(namespace)
  })
})
