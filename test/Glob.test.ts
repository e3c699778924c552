import { describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import * as Glob from "../src/Cluster/Glob.ts"

/** The same, as it is defined: a star is nothing, or one character and a star. */
const reference = (pattern: string, name: string): boolean => {
  const [first, ...rest] = pattern.split("")
  if (first === undefined) return name === ""
  const others = rest.join("")
  if (first === "*") return reference(others, name) || (name !== "" && reference(pattern, name.slice(1)))
  return name !== "" && (first === "?" || first === name[0]) && reference(others, name.slice(1))
}

// Few characters, so that they often match.
const name = FastCheck.string({ unit: FastCheck.constantFrom("a", "b", ":", "*", "?"), maxLength: 8 })
const pattern = FastCheck.string({ unit: FastCheck.constantFrom("a", "b", ":", "*", "*", "?"), maxLength: 7 })

describe("Glob.matches", () => {
  it("says what its definition says, of any pattern and any name", () => {
    let matching = 0
    FastCheck.assert(
      FastCheck.property(pattern, name, (pattern, name) => {
        const expected = reference(pattern, name)
        if (expected) matching++
        expect([pattern, name, Glob.matches(pattern, name)]).toEqual([pattern, name, expected])
      }),
      { numRuns: 20_000 }
    )
    // Both answers were asked for.
    expect(matching).toBeGreaterThan(500)
    expect(matching).toBeLessThan(19_500)
  })

  it("a name without * and ? matches itself, whatever characters it has, and no other", () => {
    const plain = FastCheck.string({ unit: "grapheme", maxLength: 20 }).map((text) => text.replace(/[*?]/g, ""))
    FastCheck.assert(
      FastCheck.property(plain, plain, (one, other) => {
        expect(Glob.matches(one, one)).toBe(true)
        expect(Glob.matches(one, other)).toBe(one === other)
        expect(Glob.matches(`${one}*`, one + other)).toBe(true)
        expect(Glob.matches(`*${other}`, one + other)).toBe(true)
        expect(Glob.matches("?".repeat(one.length), one)).toBe(true)
      })
    )
  })

  it("takes no longer for a pattern that is made to take long", () => {
    const started = performance.now()
    for (let index = 0; index < 200; index++) {
      expect(Glob.matches(`${"*a".repeat(500)}*b`, "a".repeat(255))).toBe(false)
      expect(Glob.matches(`*${"a".repeat(120)}b`, "a".repeat(255))).toBe(false)
    }
    // An exponential one would not come back; this takes about 10 ms.
    expect(performance.now() - started).toBeLessThan(5000)
  })
})
