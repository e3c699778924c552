import { describe, expect, it } from "@effect/vitest"
import * as Either from "effect/Either"
import * as FastCheck from "effect/FastCheck"
import { Buffer } from "node:buffer"
import process from "node:process"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import * as Command from "../src/protocol/Command.ts"
import * as Raw from "../src/protocol/Raw.ts"

const space = FastCheck.string({ unit: FastCheck.constantFrom(" ", "\t", "\n", "\r"), maxLength: 3 })

/** A text as a JSON string, any of its characters escaped in any of the ways there are. */
const written = (text: string): FastCheck.Arbitrary<string> =>
  FastCheck.tuple(
    ...text.split("").map((unit) =>
      FastCheck.boolean().map((escaped) => {
        const hex = `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`
        return escaped ? hex : unit === "/" ? "\\/" : JSON.stringify(unit).slice(1, -1)
      })
    )
  ).map((units) => `"${units.join("")}"`)

const string = FastCheck.oneof(
  FastCheck.string({ unit: "binary", maxLength: 8 }),
  // What a scanner might take for structure.
  FastCheck.string({ unit: FastCheck.constantFrom("{", "}", "[", "]", '"', "\\", ",", ":", "a"), maxLength: 8 })
).chain(written)

const NUMBERS = ["0", "-0", "1e400", "-1E-7", "12345678901234567890", "1.50", "0.1e+1", "9007199254740993"]

const value = FastCheck.letrec<{ value: string; array: string; object: string }>((tie) => {
  const spaced = FastCheck.tuple(space, tie("value"), space).map((parts) => parts.join(""))
  return {
    value: FastCheck.oneof(
      { depthSize: "small", withCrossShrink: true },
      FastCheck.constantFrom("null", "true", "false", ...NUMBERS),
      string,
      tie("array"),
      tie("object")
    ),
    array: FastCheck.tuple(space, FastCheck.array(spaced, { maxLength: 4 })).map(([inside, items]) =>
      items.length === 0 ? `[${inside}]` : `[${items.join(",")}]`
    ),
    object: FastCheck.tuple(
      space,
      FastCheck.array(
        FastCheck.tuple(space, string, space, spaced).map(
          ([before, key, after, item]) => `${before}${key}${after}:${item}`
        ),
        { maxLength: 4 }
      )
    ).map(([inside, members]) => (members.length === 0 ? `{${inside}}` : `{${members.join(",")}}`))
  }
}).value

// Few names, so that they occur twice.
const NAMES = ["publish", "data", "__proto__", "", 'a"b\\', "dàta", "dat"]
const name = FastCheck.constantFrom(...NAMES)

interface Member {
  readonly name: string
  readonly text: string
}

/** A JSON object of members whose texts are known. */
const objectOf = <A extends Member>(member: FastCheck.Arbitrary<A>) =>
  FastCheck.tuple(
    space,
    FastCheck.array(
      FastCheck.tuple(member, space, space, space, space).chain(([member, ...spaces]) =>
        written(member.name).map((key) => ({
          member,
          written: `${spaces[0]}${key}${spaces[1]}:${spaces[2]}${member.text}${spaces[3]}`
        }))
      ),
      { maxLength: 5 }
    )
  ).map(([inside, members]) => ({
    members: members.map(({ member }) => member),
    text: members.length === 0 ? `{${inside}}` : `{${members.map((one) => one.written).join(",")}}`
  }))

const leaf = FastCheck.record({ name, text: value })
const branch = FastCheck.oneof(
  leaf.map((one) => ({ ...one, members: undefined })),
  FastCheck.tuple(name, objectOf(leaf)).map(([name, object]) => ({ name, ...object }))
)
const nested = FastCheck.tuple(space, objectOf(branch), space).map(([before, object, after]) => ({
  members: object.members,
  text: `${before}${object.text}${after}`
}))

const own = (parsed: unknown, key: string): unknown =>
  typeof parsed === "object" && parsed !== null && !Array.isArray(parsed) && Object.hasOwn(parsed, key)
    ? (parsed as Record<string, unknown>)[key]
    : undefined

describe("Raw.member", () => {
  it.prop(
    "is the literal text of what JSON.parse takes, for any spacing, key order, escaped and duplicate keys",
    [nested, name, name],
    ([{ members, text }, outer, inner]) => {
      const found = Raw.member(text, outer, inner)
      const within = members.findLast((one) => one.name === outer)
      // A value without known members may be an object too: then JSON.parse alone is the judge.
      if (within === undefined || within.members !== undefined) {
        const expected = within?.members?.findLast((one) => one.name === inner)
        expect(found).toEqual(expected === undefined ? undefined : { text: expected.text })
      }
      const parsed = own(own(JSON.parse(text), outer), inner)
      if (found === undefined || found === "too deep") {
        expect([found, parsed]).toEqual([undefined, undefined])
      } else {
        expect(text.includes(found.text)).toBe(true)
        expect(JSON.stringify(JSON.parse(found.text))).toBe(JSON.stringify(parsed))
      }
    },
    { fastCheck: { numRuns: 1000 } }
  )

  it.each([
    ['{"publish":{"data":{"a":"}\\"]"}}}', '{"a":"}\\"]"}'],
    ['{"publish":{"x":"{\\"data\\":1}","data":2}}', "2"],
    ['{"publish":{"data":"\\\\"}}', '"\\\\"'],
    ['{"publish":{"data":"\\\\\\""}}', '"\\\\\\""'],
    ['{"publish":{"\\u0064ata":1}}', "1"],
    ['{"data":0,"publish":{"publish":{"data":1},"data":2},"x":{"data":3}}', "2"],
    ['{"publish":{"data":1},"publish":{"data":2,"data":3}}', "3"],
    ['{"publish":{"data":[1,\r\n\t2 ] }}', "[1,\r\n\t2 ]"],
    ['{"publish":{"data" : null }}', "null"]
  ])("finds in %j the text %j", (text, expected) => {
    expect(Raw.member(text, "publish", "data")).toEqual({ text: expected })
  })

  it.each([...NUMBERS, "12345678901234567890.12345678901234567890e-400", "-9223372036854775808"])(
    "leaves the number %s as it was written",
    (number) => {
      for (const text of [`{"a":{"b":${number}}}`, `{"a":{"b": ${number} ,"c":1}}`, `{"a":{"b":[${number}]}}`]) {
        const found = Raw.member(text, "a", "b")
        expect(found).toEqual({ text: text.includes("[") ? `[${number}]` : number })
      }
    }
  )

  it.each([
    ["an absent outer member", '{"x":{"data":1}}'],
    ["an absent inner member", '{"publish":{"x":1}}'],
    ["an outer member without members", '{"publish":{ }}'],
    ["an array", '{"publish":["data",1]}'],
    ["a string", '{"publish":"{\\"data\\":1}"}'],
    ["null", '{"publish":null}'],
    ["a last duplicate that is no object", '{"publish":{"data":1},"publish":2}'],
    ["a last duplicate without it", '{"publish":{"data":1},"publish":{}}'],
    ["a text that is no object", '[{"publish":{"data":1}}]'],
    ["an empty object", " { } "]
  ])("finds nothing in %s", (_, text) => {
    expect(Raw.member(text, "publish", "data")).toBeUndefined()
  })
})

const arrays = (depth: number): string => "[".repeat(depth) + "]".repeat(depth)
const objects = (depth: number): string => `${'{"a":'.repeat(depth - 1)}{}${"}".repeat(depth - 1)}`

/** Strings of backslashes and quotes: what comes before a quote decides whether it is the end. */
const escapes = FastCheck.array(
  FastCheck.constantFrom("\\\\", '\\"', "\\u005c", "\\u0022", "\\n", "a", " ", "{", "}", ","),
  { maxLength: 8 }
).map((parts) => `"${parts.join("")}"`)

describe("Raw, strings", () => {
  it.each([
    String.raw`""`,
    String.raw`"a"`,
    String.raw`"\\"`,
    String.raw`"a\\"`,
    String.raw`"a\\\\"`,
    String.raw`"\""`,
    String.raw`"\\\""`,
    String.raw`"\\\\\""`,
    String.raw`"\"\\"`,
    String.raw`"\",\"data\":1,\""`,
    String.raw`"\\\\\\\"}\\\\"`,
    String.raw`"a\u005c"`,
    String.raw`"\u0022\u005c"`
  ])("finds the end of %s, wherever it stands", (string) => {
    const text = String(JSON.parse(string))
    for (const object of [
      `{"data":${string}}`,
      `{"data":${string},"x":1}`,
      `{"data":${string} ,"x":${string}}`,
      `{"x":${string},"data":${string}}`,
      `{"x":[${string},${string}],"data":${string}}`,
      `{${string}:{${string}:1},"data":${string}}`,
      `{${string}:0,"data":${string},"y":{"data":${string}}}`
    ]) {
      expect([object, Raw.property(object, "data")]).toEqual([object, { text: string }])
      expect(JSON.parse(object)).toMatchObject({ data: text })
      expect(Raw.member(`{"p":${object},"q":${string}}`, "p", "data")).toEqual({ text: string })
    }
    expect(Raw.property(`{${string}:[${string}]}`, text)).toEqual({ text: `[${string}]` })
    expect(Raw.isShallow(`[${string}]`)).toBe(true)
  })

  it.prop(
    "are what JSON.parse takes them for, whatever escapes are in them and around",
    [FastCheck.array(FastCheck.tuple(escapes, escapes), { minLength: 1, maxLength: 5 })],
    ([members]) => {
      const text = `{${members.map(([key, value]) => `${key}:${value}`).join(",")}}`
      const parsed: Record<string, unknown> = JSON.parse(text)
      for (const [key, value] of Object.entries(parsed)) {
        const found = Raw.property(text, key)
        expect(typeof found === "object" && JSON.parse(found.text)).toBe(value)
      }
    },
    { fastCheck: { numRuns: 2000 } }
  )
})

describe("Raw.MAX_DEPTH", () => {
  it.each([
    ["arrays", arrays],
    ["objects", objects]
  ])("is the deepest nesting of a property in %s: one more is too deep", (_, nest) => {
    const exact = nest(Raw.MAX_DEPTH)
    const over = nest(Raw.MAX_DEPTH + 1)
    expect(Raw.property(`{"data":${exact}}`, "data")).toEqual({ text: exact })
    expect(Raw.property(`{"data":${over}}`, "data")).toBe("too deep")
  })

  it("is the deepest nesting of a member too: the objects around it are not its own", () => {
    const exact = arrays(Raw.MAX_DEPTH)
    expect(Raw.member(`{"publish":{"data":${arrays(Raw.MAX_DEPTH + 1)}}}`, "publish", "data")).toBe("too deep")
    expect(Raw.member(`{"publish":{"data":${exact}}}`, "publish", "data")).toEqual({ text: exact })
  })

  it("counts nesting, not brackets: siblings and brackets in strings are free", () => {
    const flat = `[${Array.from({ length: 5000 }, () => "[]").join(",")}]`
    const quoted = JSON.stringify("[".repeat(5000))
    expect(Raw.member(`{"publish":{"data":${flat}}}`, "publish", "data")).toEqual({ text: flat })
    expect(Raw.member(`{"publish":{"data":${quoted}}}`, "publish", "data")).toEqual({ text: quoted })
  })

  it("guards every member on the way, before and after the one sought, without recursion", () => {
    const bomb = arrays(100_000)
    expect(Raw.member(`{"x":${bomb},"publish":{"data":1}}`, "publish", "data")).toBe("too deep")
    expect(Raw.member(`{"publish":{"data":1},"x":${bomb}}`, "publish", "data")).toBe("too deep")
    expect(Raw.member(`{"publish":{"x":${bomb},"data":1}}`, "publish", "data")).toBe("too deep")
  })
})

describe("What is kept of a frame", () => {
  const FRAME = 256 * 1024
  const COMMAND = '{"id":1,"publish":{"channel":"a","data":"0123456789abcdef"}}'

  setFlagsFromString("--expose-gc")
  const collect = runInNewContext("gc") as () => void

  /** `data` of every command of a frame; the rest is read as it is when it was put back. */
  const read = (frame: string): ReadonlyArray<string> => {
    const kept: Array<string> = []
    for (let rest = frame; rest !== "";) {
      rest = Command.readLines(rest, (line) => {
        const command = Either.getOrThrow(Command.decodeLine(line))
        if ("data" in command && command.data !== undefined) kept.push(command.data)
        return false
      })
    }
    return kept
  }

  for (const [what, around] of [
    ["in one line with much else", (pad: string) => COMMAND.replace("}}", `},"pad":"${pad}"}`)],
    ["beside another line", (pad: string) => `{"pad":"${pad}"}\n${COMMAND}`],
    ["before another line", (pad: string) => `${COMMAND}\n{"pad":"${pad}"}`]
  ] as const) {
    it(`is the data of its commands, and not the frame: ${what}`, () => {
      const frames = 200
      const frame = around("x".repeat(FRAME)).replace('{"pad"', '{"id":2,"pad"')
      const bytes = Buffer.from(frame)
      collect()
      const before = process.memoryUsage().heapUsed
      const kept = Array.from({ length: frames }, () => read(bytes.toString("utf8"))).flat()
      collect()
      expect(kept).toEqual(Array.from({ length: frames }, () => '"0123456789abcdef"'))
      expect(process.memoryUsage().heapUsed - before).toBeLessThan(8 * FRAME)
    })
  }
})
