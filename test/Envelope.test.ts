import { describe, expect, it } from "@effect/vitest"
import * as Either from "effect/Either"
import * as FastCheck from "effect/FastCheck"
import * as Envelope from "../src/Broker/Envelope.ts"
import type { Publication } from "../src/protocol/Publication.ts"
import * as Schema from "./fixtures/envelope-v2.ts"
import { publication, text } from "./support/publications.ts"

const FULL: Publication = {
  data: '{"n": 12345678901234567890,\n "s":"ü"}',
  json: true,
  info: { client: "c1", user: "u1", connInfo: '{"name":"Ada"}', chanInfo: "1e400" },
  offset: 42,
  epoch: "xyz",
  tags: { lang: "en" }
}

const problem = (payload: string): string =>
  Either.match(Envelope.decode(payload), { onLeft: (why) => why, onRight: (read) => `read: ${JSON.stringify(read)}` })

describe("Envelope", () => {
  it.prop("reads what it wrote", [publication], ([publication]) => {
    expect(Envelope.decode(Envelope.encode(publication))).toEqual(Either.right(publication))
  })

  it.prop("carries data byte for byte behind one line", [publication], ([publication]) => {
    const payload = Envelope.encode(publication)
    expect(payload.slice(payload.indexOf("\n") + 1)).toBe(publication.data)
    expect(JSON.parse(payload.slice(0, payload.indexOf("\n")))).toMatchObject({ v: 1 })
  })

  it("reads what it wrote where a tag is named __proto__", () => {
    const tags: Readonly<Record<string, string>> = JSON.parse('{"__proto__":"x","constructor":"y","a":"b"}')
    const read = Either.getOrThrow(Envelope.decode(Envelope.encode({ data: "1", json: true, tags })))
    expect(Object.entries(read.tags ?? {})).toEqual(Object.entries(tags))
  })

  it("keeps line feeds in data", () => {
    for (const data of ["", "\n", "\n\n", "a\n", "\r\na\n{}"]) {
      const read = Envelope.decode(Envelope.encode({ data, json: false }))
      expect(read).toEqual(Either.right({ data, json: false }))
    }
  })
})

// Written by version 1 and never to be changed: instances of neighbouring versions share a Redis during an upgrade.
describe("Envelope of version 1", () => {
  const FIXTURE =
    '{"v":1,"info":{"client":"c1","user":"u1","connInfo":"{\\"name\\":\\"Ada\\"}","chanInfo":"1e400"},' +
    '"offset":42,"epoch":"xyz","tags":{"lang":"en"}}\n{"n": 12345678901234567890,\n "s":"ü"}'

  it("is still readable", () => {
    expect(Envelope.decode(FIXTURE)).toEqual(Either.right(FULL))
    expect(Envelope.decode('{"v":1}\n1')).toEqual(Either.right({ data: "1", json: true }))
    expect(Envelope.decode('{"v":1,"text":true,"info":{"client":"c1"}}\nhello')).toEqual(
      Either.right({ data: "hello", json: false, info: { client: "c1", user: "" } })
    )
  })

  it("is still what this version writes, or it has changed what older instances read", () => {
    expect(Envelope.encode(FULL)).toBe(FIXTURE)
    expect(Envelope.encode({ data: "hello", json: false, info: { client: "c1", user: "" } })).toBe(
      '{"v":1,"text":true,"info":{"client":"c1"}}\nhello'
    )
  })
})

describe("Envelope.decode", () => {
  it("ignores fields that a newer version has added", () => {
    const payload = '{"v":1,"delta":{"of":3},"info":{"client":"c","geo":[1]},"zip":null}\n{}'
    expect(Envelope.decode(payload)).toEqual(Either.right({ data: "{}", json: true, info: { client: "c", user: "" } }))
  })

  const TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

  it("reads the span that has published it, where it is recorded", () => {
    const read: Publication = { data: "1", json: true, traceparent: TRACEPARENT }
    expect(Envelope.decode(`{"v":1,"traceparent":"${TRACEPARENT}"}\n1`)).toEqual(Either.right(read))
    expect(Envelope.encode(read)).toBe(`{"v":1,"traceparent":"${TRACEPARENT}"}\n1`)
  })

  it.each([
    1,
    null,
    {},
    [TRACEPARENT],
    "",
    TRACEPARENT.replace(/1$/, "0"),
    TRACEPARENT.toUpperCase(),
    TRACEPARENT.replace("00-", "ff-"),
    `${TRACEPARENT}-x`,
    ` ${TRACEPARENT}`,
    `${TRACEPARENT}\n`,
    "00-00000000000000000000000000000000-b7ad6b7169203331-01",
    "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"
  ])("ignores %j where that span belongs: the publication is not lost for it", (traceparent) => {
    const payload = `${JSON.stringify({ v: 1, traceparent })}\n1`
    expect(Envelope.decode(payload)).toEqual(Either.right({ data: "1", json: true }))
  })

  it.each([Envelope.VERSION + 1, 99])("refuses version %i, which it does not know", (v) => {
    expect(problem(`{"v":${v}}\n1`)).toBe(`version ${v} is newer than ${Envelope.VERSION}`)
  })

  it.each([
    ["", "no header"],
    ["hello", "no header"],
    ['{"v":1}', "no header"],
    ["\n", "the header is not JSON"],
    ["hello\n1", "the header is not JSON"],
    ['{"v":1\n}\n1', "the header is not JSON"],
    ["\u0000\n\u0000", "the header is not JSON"]
  ])("refuses %j: %s", (payload, why) => {
    expect(problem(payload)).toBe(why)
  })

  it.each([
    "null",
    "1",
    "[]",
    '"v"',
    "{}",
    '{"v":"1"}',
    '{"v":1.5}',
    '{"v":null}',
    '{"v":1,"text":"yes"}',
    '{"v":1,"info":{}}',
    '{"v":1,"info":{"client":1}}',
    '{"v":1,"info":{"client":"c","user":null}}',
    '{"v":1,"info":"c"}',
    '{"v":1,"offset":-1}',
    '{"v":1,"offset":1.5}',
    '{"v":1,"offset":"1"}',
    '{"v":1,"epoch":1}',
    '{"v":1,"tags":{"a":1}}',
    '{"v":1,"tags":["a"]}'
  ])("refuses the header %s, whose fields have other types", (header) => {
    expect(problem(`${header}\n1`)).toBe("the header has fields of other types")
  })

  it.prop(
    "never throws, whatever comes",
    [
      FastCheck.oneof(
        text,
        FastCheck.json().map((json) => `${json}\n1`)
      )
    ],
    ([payload]) => {
      expect(Either.isEither(Envelope.decode(payload))).toBe(true)
    }
  )
})

/** What a field of a header may be: what it should be, and everything else that JSON has. */
const ANYTHING: ReadonlyArray<unknown> = [
  null,
  true,
  false,
  0,
  -0,
  1,
  2,
  3,
  -1,
  1.5,
  -1.5,
  1e21,
  Infinity,
  2 ** 53 - 1,
  2 ** 53,
  -(2 ** 53),
  "",
  "1",
  "join",
  "leave",
  "Join",
  "true",
  [],
  ["a"],
  [1],
  [{}],
  {},
  { a: "b" },
  { a: 1 },
  { a: null },
  { a: {} },
  { client: "c" },
  { client: "c", user: "u", connInfo: "1", chanInfo: "2" },
  { client: "c", geo: [1] },
  { client: null },
  { client: "c", user: 1 },
  { client: "c", user: null },
  { client: "c", connInfo: {} },
  { client: "c", chanInfo: ["x"] },
  { user: "u" }
]

const FIELDS = ["v", "kind", "text", "info", "offset", "epoch", "tags", "traceparent", "added", "length", "__proto__"]

/** JSON.stringify, with numbers that it does not write. */
const written = (value: unknown): string =>
  JSON.stringify(value, (_, item: unknown) => (item === Infinity ? "∞" : Object.is(item, -0) ? "-0" : item))
    .replaceAll('"∞"', "1e400")
    .replaceAll('"-0"', "-0")

/** Not of an object: `__proto__` and a name twice are fields too. */
const headerOf = (fields: ReadonlyArray<readonly [name: string, value: unknown]>): string =>
  `{${fields.map(([name, value]) => `${JSON.stringify(name)}:${written(value)}`).join(",")}}`

const header = FastCheck.array(
  FastCheck.tuple(
    FastCheck.constantFrom(...FIELDS),
    FastCheck.oneof(FastCheck.constantFrom(...ANYTHING), FastCheck.jsonValue())
  ),
  { maxLength: 6 }
).chain((fields) =>
  // Most of them with a version, or nearly all would be refused for it.
  FastCheck.constantFrom(headerOf(fields), headerOf([["v", 1], ...fields]), headerOf([...fields, ["v", 2]]))
)

// `toEqual` does not tell a tag named `__proto__` from none.
const told = (read: Either.Either<Publication, string>) => [
  read,
  Either.map(read, ({ tags }) => tags && Object.entries(tags))
]

const same = (header: string): void => {
  const payload = `${header}\n1`
  expect([header, told(Envelope.decode(payload))]).toEqual([header, told(Schema.decode(payload))])
}

describe("Envelope.decode, beside the schema that was before it", () => {
  it.each(FIELDS)("reads and refuses the same, whatever %s is", (name) => {
    const fields = ANYTHING.map((value) => [name, value] as const)
    const headers = fields.flatMap((field) => [
      headerOf([["v", 1], field]),
      headerOf([field, ["v", 1]]),
      headerOf([field])
    ])
    for (const header of headers) same(header)
    const reads = headers.filter((header) => Either.isRight(Envelope.decode(`${header}\n1`)))
    // Of both kinds, or nothing was compared.
    expect(reads.length).toBeGreaterThan(0)
    expect(reads.length).toBeLessThan(headers.length)
  })

  it.prop("reads and refuses the same, whatever header comes", [header], ([header]) => same(header), {
    fastCheck: { numRuns: 3000 }
  })

  it.prop("reads and refuses the same of any JSON", [FastCheck.json()], ([json]) => same(json))

  it("tags are own fields of any name, and strings, all of them", () => {
    for (const name of ["__proto__", "constructor", "toString", "", "a"]) {
      const read = Envelope.decode(`{"v":1,"tags":{${JSON.stringify(name)}:"x"}}\n1`)
      expect(Object.entries(Either.getOrThrow(read).tags ?? {})).toEqual([[name, "x"]])
      for (const other of ["1", "null", '{"x":"y"}', '["x"]', "true"]) {
        const header = `{"v":1,"tags":{"b":"c",${JSON.stringify(name)}:${other}}}`
        expect([header, problem(`${header}\n1`)]).toEqual([header, "the header has fields of other types"])
        same(header)
      }
    }
  })

  it("a field named __proto__ is one that is not known, and lends nothing to the header", () => {
    expect(Envelope.decode('{"v":1,"__proto__":{"offset":5,"text":true}}\n1')).toEqual(
      Either.right({ data: "1", json: true })
    )
    expect(problem('{"__proto__":{"v":1}}\n1')).toBe("the header has fields of other types")
    expect(problem('{"v":1,"info":{"__proto__":{"client":"c"}}}\n1')).toBe("the header has fields of other types")
  })

  it("says of a version that it is newer only where the rest could be read", () => {
    expect(problem('{"v":3,"kind":"join"}\n1')).toBe("version 3 is newer than 2")
    expect(problem('{"v":3,"kind":"survey"}\n1')).toBe("the header has fields of other types")
    for (const v of ["3", "9007199254740991", "9007199254740992", "1e400", "-1", "0", "2.5", "1e21"]) {
      same(`{"v":${v}}`)
    }
  })
})

const headerOfClient = (client: string): string => `{"v":1,"info":{"client":"${client}"}}`

describe("Envelope.Headers", () => {
  it("says the same of a header that it remembers, and never what another one says", () => {
    const texts = ["c1", "c2", "c10", "C1", "__proto__", "c\\u0031"].flatMap((client) => [
      headerOfClient(client),
      `{"v":1,"text":true,"info":{"client":"${client}"}}`,
      `{"v":1,"info":{"client":"${client}","user":"u"}}`,
      `{"v":1,"info":{"client":"u","user":"${client}"}}`
    ])
    const headers = new Envelope.Headers()
    const first = texts.map((text) => headers.read(text))
    expect(headers.size).toBe(texts.length)
    for (const [index, text] of texts.entries()) {
      expect(headers.read(text)).toEqual(first[index])
      expect(Schema.decode(`${text}\n1`)).toEqual(Either.map(headers.read(text), (about) => ({ data: "1", ...about })))
    }
  })

  it("gives each publication its own data, and what nobody can change for the next one", () => {
    const [one, other] = ["1", "[2]"].map((data) =>
      Either.getOrThrow(Envelope.decode(`${headerOfClient("a")}\n${data}`))
    )
    expect([one?.data, other?.data]).toEqual(["1", "[2]"])
    expect(() => Object.assign(one?.info ?? {}, { user: "root" })).toThrow(TypeError)
    Object.assign(one ?? {}, { json: false, tags: { a: "b" } })
    expect(Envelope.decode(`${headerOfClient("a")}\n3`)).toEqual(
      Either.right({ data: "3", json: true, info: { client: "a", user: "" } })
    )
  })

  it.each([
    '{"v":1}',
    '{"epoch":"x","offset":1,"v":1,"info":{"client":"c"}}',
    '{"v":1,"info":{"client":"c"},"tags":{"a":"b"}}',
    '{"v":1,"info":{"client":"c"},"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}',
    '{"v":2,"info":{"client":"c"},"kind":"join"}',
    '{"v":3,"info":{"client":"c"}}',
    '{"v":1,"info":{"client":1}}',
    '{"v":1,"info":{"client":"c"}',
    headerOfClient("c".repeat(Envelope.Headers.LONGEST))
  ])("does not remember %s", (text) => {
    const headers = new Envelope.Headers()
    headers.read(text)
    expect(headers.size).toBe(0)
  })

  it("remembers a bounded number, however many clients there are", () => {
    const headers = new Envelope.Headers()
    for (let client = 0; client < 2.5 * Envelope.Headers.CAPACITY; client++) {
      const read = headers.read(headerOfClient(`${client}`))
      expect(Either.getOrThrow(read).info?.client).toBe(`${client}`)
      expect(headers.size).toBeLessThanOrEqual(Envelope.Headers.CAPACITY)
    }
    expect(headers.size).toBe(Envelope.Headers.CAPACITY / 2)
  })
})
