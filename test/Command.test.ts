import { describe, expect, it } from "@effect/vitest"
import * as Either from "effect/Either"
import * as FastCheck from "effect/FastCheck"
import * as Command from "../src/protocol/Command.ts"
import * as Raw from "../src/protocol/Raw.ts"

const read = (line: string): Command.Line => Either.getOrThrowWith(Command.decodeLine(line), (why) => new Error(why))
const problem = (line: string): string =>
  Either.match(Command.decodeLine(line), { onLeft: (why) => why, onRight: (line) => `taken: ${JSON.stringify(line)}` })

const SUBSCRIBE = {
  channel: "",
  token: "",
  recover: false,
  offset: 0,
  epoch: "",
  positioned: false,
  recoverable: false,
  join_leave: false,
  flag: 0,
  type: 0,
  tf: null
}

/** Every method with what its fields are when none is sent. */
const DEFAULTS: ReadonlyArray<[string, object]> = [
  ["connect", { token: "", name: "", version: "", headers: {}, subs: {} }],
  ["subscribe", SUBSCRIBE],
  ["unsubscribe", { channel: "" }],
  ["publish", { channel: "", type: 0, key: "", removed: false }],
  ["rpc", { method: "" }],
  ["presence", { channel: "" }],
  ["presence_stats", { channel: "" }],
  ["history", { channel: "", limit: 0, reverse: false }],
  ["refresh", { token: "" }],
  ["sub_refresh", { channel: "", token: "", type: 0 }],
  ["ping", {}],
  ["send", {}]
]

describe("Command.decodeLine", () => {
  it.each(DEFAULTS)("gives the fields that %s lacks their zero values", (method, params) => {
    expect(read(`{"id":7,"${method}":{}}`)).toEqual({ method, id: 7, params, data: undefined })
  })

  it.each(DEFAULTS)("takes null for the fields of %s as their zero values", (method, params) => {
    const nulls = Object.fromEntries(Object.keys(params).map((key) => [key, null]))
    expect(read(JSON.stringify({ id: 7, [method]: nulls }))).toEqual({ method, id: 7, params, data: undefined })
  })

  it.each(DEFAULTS)("ignores unknown fields of %s and beside it", (method, params) => {
    const line = JSON.stringify({ id: 7, novelty: { channel: 1 }, [method]: { novelty: [1] }, more: 1 })
    expect(read(line)).toEqual({ method, id: 7, params, data: undefined })
  })

  it.each<[string, string, object]>([
    [
      "connect",
      '{"token":"t","name":"js","version":"1","headers":{"a":"b"},"subs":{"x":{"recover":true}}}',
      {
        token: "t",
        name: "js",
        version: "1",
        headers: { a: "b" },
        subs: { x: { recover: true } }
      }
    ],
    [
      "subscribe",
      '{"channel":"c","token":"t","recover":true,"offset":9007199254740991,"epoch":"e","positioned":true,"recoverable":true,"join_leave":true,"flag":3,"type":4,"tf":{"op":"eq"},"delta":"fossil"}',
      {
        channel: "c",
        token: "t",
        recover: true,
        offset: Number.MAX_SAFE_INTEGER,
        epoch: "e",
        positioned: true,
        recoverable: true,
        join_leave: true,
        flag: 3,
        type: 4,
        tf: { op: "eq" }
      }
    ],
    ["unsubscribe", '{"channel":"__proto__"}', { channel: "__proto__" }],
    [
      "publish",
      '{"channel":"a:b","type":1,"key":"k","removed":true}',
      { channel: "a:b", type: 1, key: "k", removed: true }
    ],
    ["rpc", '{"method":"m"}', { method: "m" }],
    ["presence", '{"channel":"c"}', { channel: "c" }],
    ["presence_stats", '{"channel":"c"}', { channel: "c" }],
    [
      "history",
      '{"channel":"c","limit":-1,"since":{"offset":1,"epoch":"e"},"reverse":true}',
      { channel: "c", limit: -1, since: { offset: 1, epoch: "e" }, reverse: true }
    ],
    ["refresh", '{"token":"t"}', { token: "t" }],
    ["sub_refresh", '{"channel":"c","token":"t","type":2}', { channel: "c", token: "t", type: 2 }]
  ])("reads the fields of %s", (method, fields, params) => {
    expect(read(`{"${method}":${fields},"id":1}`)).toEqual({ method, id: 1, params, data: undefined })
  })

  it("reads what a client has missed in the channels that it was subscribed to with connect", () => {
    const subs =
      '{"a:b":{"recover":true,"offset":9007199254740991,"epoch":"e"},"__proto__":{"epoch":"p"},"x":{"epoch":null}}'
    const { params } = read(`{"id":1,"connect":{"subs":${subs}}}`) as { params: { subs: Command.Subs } }
    const nothing = { recover: false, offset: 0, epoch: "" }
    expect(Command.recoveryOf(params.subs, "a:b")).toEqual({
      recover: true,
      offset: Number.MAX_SAFE_INTEGER,
      epoch: "e"
    })
    expect(Command.recoveryOf(params.subs, "__proto__")).toEqual({ ...nothing, epoch: "p" })
    for (const channel of ["x", "constructor", "never sent"]) {
      expect(Command.recoveryOf(params.subs, channel)).toEqual(nothing)
    }
  })

  it.each<[string, object]>([
    ["{}", { limit: 0, reverse: false }],
    ['{"limit":0,"since":null}', { limit: 0, reverse: false }],
    ['{"limit":-1}', { limit: -1, reverse: false }],
    ['{"limit":7,"reverse":true}', { limit: 7, reverse: true }],
    ['{"since":{}}', { limit: 0, reverse: false, since: { offset: 0, epoch: "" } }],
    ['{"since":{"epoch":"e"}}', { limit: 0, reverse: false, since: { offset: 0, epoch: "e" } }],
    ['{"since":{"offset":3,"epoch":null}}', { limit: 0, reverse: false, since: { offset: 3, epoch: "" } }]
  ])("reads which part of the history is asked for: %s", (fields, params) => {
    const { channel: _, ...asked } = (read(`{"id":1,"history":${fields}}`) as { params: { channel: string } }).params
    expect(asked).toStrictEqual(params)
  })

  it.each(["connect", "subscribe", "publish", "rpc", "send"])(
    "keeps the data of %s as the text that came",
    (method) => {
      for (const data of ['{ "n" : 1e400,"n":12345678901234567890}', '"\\u0061"', "null", "[]", "-0", "0.10"]) {
        expect(read(` { "id" : 1 ,"${method}":{ "data" : ${data} }}`)).toMatchObject({ method, data })
      }
    }
  )

  it("takes the last of two members of one name, as JSON does", () => {
    const line = '{"id":1,"publish":{"channel":"a","data":1},"id":2,"publish":{"data":2,"channel":"b","data":3}}'
    expect(read(line)).toMatchObject({ method: "publish", id: 2, params: { channel: "b" }, data: "3" })
  })

  it.each<[string, string]>([
    ["connect", '{"token":1}'],
    ["connect", '{"headers":[]}'],
    ["connect", '{"headers":{"a":1}}'],
    ["connect", '{"name":{}}'],
    ["connect", '{"subs":[]}'],
    ["connect", '{"subs":{"a":true}}'],
    ["connect", '{"subs":{"a":{"recover":1}}}'],
    ["connect", '{"subs":{"a":{"offset":-1}}}'],
    ["connect", '{"subs":{"a":{},"b":{"epoch":1}}}'],
    ["history", '{"limit":"1"}'],
    ["history", '{"limit":1.5}'],
    ["history", '{"limit":1e400}'],
    ["history", '{"since":1}'],
    ["history", '{"since":{"offset":-1}}'],
    ["history", '{"since":{"offset":"1"}}'],
    ["history", '{"since":{"epoch":1}}'],
    ["history", '{"reverse":1}'],
    ["subscribe", '{"channel":1}'],
    ["subscribe", '{"channel":["a"]}'],
    ["subscribe", '{"recover":"true"}'],
    ["subscribe", '{"recover":1}'],
    ["subscribe", '{"offset":"1"}'],
    ["subscribe", '{"offset":-1}'],
    ["subscribe", '{"offset":1.5}'],
    ["subscribe", '{"offset":1e400}'],
    ["subscribe", '{"flag":true}'],
    ["publish", '{"channel":{}}'],
    ["publish", '{"channel":false}'],
    ["rpc", '{"method":0}'],
    ["refresh", '{"token":[]}']
  ])("refuses %s with a field of another type: %s", (method, fields) => {
    expect(problem(`{"id":1,"${method}":${fields}}`)).toBe(`${method}: a field has a wrong type`)
  })

  it.each(DEFAULTS.flatMap(([method]) => ["5", '"x"', "[]", "true", "null"].map((value) => [method, value] as const)))(
    "refuses %s that is %s instead of an object",
    (method, value) => {
      expect(problem(`{"id":1,"${method}":${value}}`)).toBe(`${method}: a field has a wrong type`)
    }
  )

  it.each(["", " ", "{", "nonsense", '{"id":1,}', "{}{}", "\ufeff{}", "{'id':1}", "NaN"])(
    "refuses %j: not JSON",
    (line) => {
      expect(problem(line)).toBe("malformed JSON")
    }
  )

  it.each(["1", '"connect"', "null", "true", "[]", '[{"id":1,"ping":{}}]'])("refuses %s: not an object", (line) => {
    expect(problem(line)).toBe("a command is a JSON object")
  })

  it("refuses data nested deeper than the limit, and takes data nested as deep", () => {
    const nest = (depth: number) => "[".repeat(depth) + "]".repeat(depth)
    const line = (depth: number) => `{"id":1,"publish":{"channel":"c","data":${nest(depth)}}}`
    expect(problem(line(Raw.MAX_DEPTH + 1))).toBe(`data is nested deeper than ${Raw.MAX_DEPTH}`)
    expect(problem(line(20_000))).toBe(`data is nested deeper than ${Raw.MAX_DEPTH}`)
    expect(read(line(Raw.MAX_DEPTH))).toMatchObject({ data: nest(Raw.MAX_DEPTH) })
  })

  it.prop(
    "never throws, whatever the line",
    [
      FastCheck.oneof(
        FastCheck.string({ unit: "binary" }),
        FastCheck.json(),
        FastCheck.tuple(FastCheck.constantFrom(...DEFAULTS.map(([method]) => method)), FastCheck.json()).map(
          ([method, value]) => `{"id":1,"${method}":${value}}`
        )
      )
    ],
    ([line]) => {
      const decoded = Command.decodeLine(line)
      // What is taken has fields that may be asked for.
      if (Either.isRight(decoded) && "params" in decoded.right) expect(decoded.right.params).toBeTypeOf("object")
      else expect(Either.isEither(decoded)).toBe(true)
    }
  )
})

describe("Command.decodeLine, ids", () => {
  it.each([1, 2 ** 31, 2 ** 32 - 1])("takes %i", (id) => {
    expect(read(`{"id":${id},"ping":{}}`)).toMatchObject({ id })
  })

  it.each(["-1", "1.5", String(2 ** 32), "1e400", '"1"', "true", "{}", "[]"])("refuses %s", (id) => {
    expect(problem(`{"id":${id},"ping":{}}`)).toBe("the id of a command is a 32-bit unsigned integer")
  })

  it.each(DEFAULTS.map(([method]) => method).filter((method) => method !== "send"))("wants one for %s", (method) => {
    for (const line of [`{"${method}":{}}`, `{"id":0,"${method}":{}}`, `{"id":null,"${method}":{}}`]) {
      expect(problem(line)).toBe("a command has an id")
    }
  })

  it("wants none for send", () => {
    expect(read('{"send":{"data":1}}')).toMatchObject({ method: "send", id: 0, data: "1" })
  })
})

describe("Command.decodeLine, other lines", () => {
  it.each(["{}", " { } ", '{"id":0}', '{"id":null}'])("takes %j for a pong", (line) => {
    expect(read(line)).toEqual({ method: "pong" })
  })

  it.each(["novelty", "__proto__", "constructor", "toString", "Connect", ""])("knows no method %j", (name) => {
    expect(read(`{"id":3,${JSON.stringify(name)}:{}}`)).toEqual({ method: "unknown", id: 3, name })
  })

  it("takes null for an absent member wherever one may be absent", () => {
    expect(read('{"id":4,"publish":null,"presence_stats":{"channel":"a"}}')).toMatchObject({
      method: "presence_stats",
      params: { channel: "a" }
    })
    const { params } = read('{"id":1,"connect":{"headers":{"a":null,"b":"c"},"subs":{"a":null,"b":{"offset":2}}}}') as {
      params: { subs: Command.Subs }
    }
    expect(Command.recoveryOf(params.subs, "a")).toEqual({ recover: false, offset: 0, epoch: "" })
    expect(Command.recoveryOf(params.subs, "b")).toEqual({ recover: false, offset: 2, epoch: "" })
  })

  it.each<[string, number, number]>([
    ["9007199254740993", Number.MAX_SAFE_INTEGER, 0],
    [String(2n ** 64n - 1n), Number.MAX_SAFE_INTEGER, 0],
    ["7", 7, -1],
    ["7", 7, -(2 ** 63)]
  ])("takes the whole numbers of 64 bits that client.proto has: offset %s", (offset, as, flag) => {
    expect(read(`{"id":1,"subscribe":{"offset":${offset},"flag":${flag},"type":${flag}}}`)).toMatchObject({
      params: { offset: as, flag: Math.max(flag, Number.MIN_SAFE_INTEGER) }
    })
    expect(read(`{"id":1,"history":{"since":{"offset":${offset}}}}`)).toMatchObject({
      params: { since: { offset: as } }
    })
  })

  it.each(['{"offset":1e300}', '{"offset":36893488147419103232}', '{"flag":1e300}', '{"flag":0.5}', '{"type":1e400}'])(
    "refuses numbers of more than 64 bits: %s",
    (fields) => {
      expect(problem(`{"id":1,"subscribe":${fields}}`)).toBe("subscribe: a field has a wrong type")
    }
  )

  it("answers a command without a method by its id, and refuses one without either", () => {
    expect(read('{"id":3}')).toEqual({ method: "unknown", id: 3, name: "" })
    expect(problem('{"novelty":{}}')).toBe("a command has an id")
  })
})

/** All lines of a frame. */
const lines = (frame: string): ReadonlyArray<string> => {
  const found: Array<string> = []
  expect(Command.readLines(frame, (line) => found.push(line) > 0)).toBe("")
  return found
}

describe("Command.readLines", () => {
  it("splits a frame at line feeds and leaves out blank lines", () => {
    expect(lines('{"id":1}')).toEqual(['{"id":1}'])
    expect(lines('{"id":1}\n{"id":2}\n{"id":3}')).toEqual(['{"id":1}', '{"id":2}', '{"id":3}'])
    expect(lines('\n{"id":1}\n\n \t\r\n{"id":2}\n').map(read)).toEqual(['{"id":1}', '{"id":2}'].map(read))
  })

  it("stops where it is told to, and returns what is left but for blank lines", () => {
    const first = (frame: string): readonly [ReadonlyArray<string>, string] => {
      const found: Array<string> = []
      return [found, Command.readLines(frame, (line) => found.push(line) === 0)]
    }
    expect(first("1\n2\n\n3\n")).toEqual([["1"], "2\n\n3\n"])
    expect(first("\n1\n \n\n")).toEqual([["1"], ""])
    expect(first("1\n")).toEqual([["1"], ""])
    expect(first("1")).toEqual([["1"], ""])
    expect(first("\n\n")).toEqual([[], ""])
  })

  it("keeps the line of an empty frame, which is refused", () => {
    expect(lines("").map(problem)).toEqual(["malformed JSON"])
  })

  it.prop("keeps every command, in order", [FastCheck.array(FastCheck.jsonValue(), { minLength: 1 })], ([values]) => {
    const frame = values.map((value, index) => JSON.stringify({ id: index + 1, rpc: { data: value } })).join("\n")
    expect(lines(frame).map((line) => read(line))).toMatchObject(
      values.map((value, index) => ({ id: index + 1, data: JSON.stringify(value) }))
    )
  })
})
