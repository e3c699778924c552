import { describe, expect, it } from "@effect/vitest"
import * as Either from "effect/Either"
import * as FastCheck from "effect/FastCheck"
import * as Envelope from "../src/Broker/Envelope.ts"
import type { Publication } from "../src/protocol/Publication.ts"
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
