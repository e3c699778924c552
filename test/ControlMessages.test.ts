/** Control messages by themselves: what is made of those of version 1, and of what is none. */
import { describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import * as Message from "../src/Cluster/Message.ts"
import { FROM, ID, MESSAGE, type RecordedRequest, REPLIES, REQUESTS } from "./fixtures/control-v1.ts"
import { isRecord, widened } from "./support/control.ts"

const text = FastCheck.string({ unit: "binary" })

/** The same JSON without one of its fields, once for each of them, with the field's path. */
const narrowed = (value: unknown): ReadonlyArray<readonly [path: string, value: unknown]> =>
  !isRecord(value)
    ? []
    : Object.entries(value).flatMap(([key, one]) => {
        const rest = Object.fromEntries(Object.entries(value).filter(([other]) => other !== key))
        return [
          [key, rest] as const,
          ...narrowed(one).map(([path, less]) => [`${key}.${path}`, { ...value, [key]: less }] as const)
        ]
      })

/** Whether a field may be missing; without any other, a request is not the one that it was. */
const isOptional = ({ ask }: RecordedRequest, path: string): boolean =>
  ["id", "ask.client", "ask.info", "ask.expiresAt"].includes(path) || (path === "ask.data" && ask.type === "subscribe")

const requests: ReadonlyArray<RecordedRequest> = [...Object.values(REQUESTS), MESSAGE]
const replies = Object.values(REPLIES)

describe("a control message of version 1", () => {
  it.each(requests)("that asks is read: $text", ({ ask, text }) => {
    const id = ask.type === "message" ? {} : { id: ID }
    expect(Message.decode(text)).toEqual({ _tag: "Request", request: { v: 1, from: FROM, ...id, ask } })
  })

  it.each(replies)("that answers is read: $text", ({ answer, text }) => {
    expect(Message.decode(text)).toEqual({ _tag: "Reply", reply: { v: 1, from: FROM, re: ID, answer } })
  })

  it.each(requests)("is still what this version asks with, or it has changed what others read: $text", (one) => {
    expect(Message.request(FROM, one.ask.type === "message" ? undefined : ID, one.ask)).toBe(one.text)
  })

  it.each(replies)("is still what this version answers with, or it has changed what others read: $text", (one) => {
    expect(Message.reply(FROM, ID, one.answer)).toBe(one.text)
  })

  it.each([...requests, ...replies])(
    "is read without the fields that a newer instance has added: $text",
    ({ text }) => {
      expect(Message.decode(JSON.stringify(widened(JSON.parse(text))))).toEqual(Message.decode(text))
    }
  )

  it.each(requests)("that asks with less than is needed is told from one that is none: $text", (one) => {
    const id = one.ask.type === "message" ? undefined : ID
    for (const [path, value] of narrowed(JSON.parse(one.text))) {
      const read = Message.decode(JSON.stringify(value))
      // Without `from` nobody could be told of it.
      const expected = path === "from" ? undefined : { _tag: "Unreadable", from: FROM, id }
      const mayMiss = isOptional(one, path)
      expect([path, mayMiss ? read?._tag : read]).toEqual([path, mayMiss ? "Request" : expected])
    }
  })

  it.each(replies)("that answers with less than is needed is an answer all the same: $text", ({ text }) => {
    const unable = { _tag: "Reply", reply: { v: 1, from: FROM, re: ID, answer: { type: "unable" } } }
    for (const [path, value] of narrowed(JSON.parse(text))) {
      const read = Message.decode(JSON.stringify(value))
      // Without `re` it asks, and asks for nothing that can be read.
      const asks = path === "re" ? { _tag: "Unreadable", from: FROM, id: undefined } : unable
      expect([path, read]).toEqual([path, path === "from" ? undefined : asks])
    }
  })

  it.prop(
    "never throws, whatever comes",
    [
      FastCheck.oneof(
        text,
        FastCheck.json(),
        FastCheck.record(
          { v: FastCheck.anything(), from: text, id: FastCheck.anything(), re: text, ask: FastCheck.anything() },
          { requiredKeys: ["from"] }
        ).map((value) => JSON.stringify(value, (_, one: unknown) => (typeof one === "bigint" ? String(one) : one)))
      )
    ],
    ([message]) => {
      expect(["Request", "Reply", "Unreadable", undefined]).toContain(Message.decode(message)?._tag)
    }
  )
})
