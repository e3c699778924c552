import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import * as Parts from "../src/http/api/Parts.ts"
import * as Api from "./support/api.ts"
import { live } from "./support/it.ts"
import * as People from "./support/people.ts"
import * as Socket from "./support/socket.ts"
import type { Json } from "./support/json.ts"

const RAW = '{ "n":12345678901234567890, "b":1e400, "a":"\\u0061"}'

/** The replies of a batch that is one. */
const replies = (api: Api.Api, body: unknown, malformed = false) =>
  Effect.map(api.call("batch", body, { malformed }), ({ body, status, text }): ReadonlyArray<Json> => {
    if (status !== 200 || body.replies === undefined) throw new Error(`no batch: ${status} ${text}`)
    expect(Object.keys(body)).toEqual(["replies"])
    return body.replies
  })

for (const [name, start] of People.pairs) {
  describe(`batch over ${name}`, () => {
    live("a command that is nested without end is an error in its place; the others are carried out", () =>
      Effect.gen(function* () {
        const [a] = yield* start()
        const api = yield* Api.make(a.http)
        const deep = `${"[".repeat(200_000)}${"]".repeat(200_000)}`
        const body = `{"commands":[{"publish":{"channel":"room:z","data":1}},{"publish":{"channel":${deep},"data":1}},{"presence_stats":{"channel":"room:z"}}]}`
        const answers = yield* replies(api, body, true)
        expect(answers.map((answer) => Object.keys(answer)[0])).toEqual(["publish", "error", "presence_stats"])
        expect([100, 107]).toContain(answers[1].error.code)
      })
    )

    live("every method, each with its own result, in their order", () =>
      Effect.gen(function* () {
        const [a, b] = yield* start()
        const api = yield* Api.make(a.http)
        const ada = yield* People.connect(b, { user: "ada" })
        const commands = [
          { subscribe: { user: "ada", channel: "room:a" } },
          { publish: { channel: "room:a", data: 1 } },
          { broadcast: { channels: ["room:a", "nowhere:a"], data: 2 } },
          { history: { channel: "room:a", limit: -1 } },
          { presence: { channel: "room:a" } },
          { presence_stats: { channel: "room:a" } },
          { channels: { pattern: "room:*" } },
          { info: {} },
          { rpc: { method: "who" } },
          { refresh: { user: "ada", expire_at: 0 } },
          { history_remove: { channel: "room:a" } },
          { unsubscribe: { user: "ada", channel: "room:a" } },
          { disconnect: { user: "ada" } }
        ]
        const answers = yield* replies(api, { commands })
        const position = (offset: number) => ({ epoch: expect.any(String), offset })
        expect(answers).toEqual([
          { subscribe: {} },
          { publish: position(1) },
          {
            broadcast: { responses: [{ result: position(2) }, { error: { code: 102, message: expect.any(String) } }] }
          },
          {
            history: {
              ...position(2),
              publications: [
                { data: 1, offset: 1 },
                { data: 2, offset: 2 }
              ]
            }
          },
          { presence: { presence: { [ada.id]: { client: ada.id, user: "ada" } } } },
          { presence_stats: { num_clients: 1, num_users: 1 } },
          { channels: { channels: { "room:a": { num_clients: 1 } } } },
          { info: { nodes: expect.any(Array) } },
          { rpc: { data: "the server API" } },
          { refresh: {} },
          { history_remove: {} },
          { unsubscribe: {} },
          { disconnect: {} }
        ])
        expect((yield* ada.socket.closed).code).toBe(3503)
      })
    )
  })
}

describe("batch", () => {
  live("data is relayed as it was written, whatever stands around it", () =>
    Effect.gen(function* () {
      const server = yield* People.start()
      const api = yield* Api.make(server.http)
      const socket = yield* Socket.open(`${server.ws}/channels/room:a`)
      const text = `{"x":[{"publish":0}], "commands":[0], "commands" : [ {"publish" : {"data":${RAW},"channel":"room:a"} } ,
        {"publish":{"channel":"room:a","data":"],{"}}, {"rpc":{"method":"echo","data": [ 1e400 ] }}]}`
      const { text: answer } = yield* api.call("batch", text, { malformed: true })
      expect(answer).toContain('{"rpc":{"data":[ 1e400 ]}}')
      yield* socket.count(2)
      expect(socket.received).toEqual([RAW, '"],{"'])
    })
  )

  live("a command that is none is error 107 in its place, and the others are carried out", () =>
    Effect.gen(function* () {
      const server = yield* People.start()
      const api = yield* Api.make(server.http)
      const socket = yield* Socket.open(`${server.ws}/channels/room:a`)
      const publish = { publish: { channel: "room:a", data: 1 } }
      const wrong: ReadonlyArray<unknown> = [
        {},
        null,
        1,
        "publish",
        [publish],
        { ...publish, info: {} },
        { nothing: {} },
        { toString: {} },
        { batch: { commands: [publish] } },
        { publish: null },
        { publish: [] },
        { publish: { channel: "room:a" } },
        { publish: { channel: 1, data: 1 } },
        { publish: { channel: "room:a\n", data: 1 } },
        { disconnect: { user: "ada", disconnect: { code: 1 } } },
        { disconnect: { user: "" } }
      ]
      const commands = wrong.flatMap((one) => [one, publish])
      const answers = yield* replies(api, { commands }, true)
      expect(answers.length).toBe(commands.length)
      for (const [index, one] of wrong.entries()) {
        expect([one, answers[2 * index]]).toEqual([one, { error: { code: 107, message: expect.stringMatching(/./) } }])
        expect(answers[2 * index + 1].publish.offset).toBe(index + 1)
      }
      // By its own name, and only by that.
      expect(yield* replies(api, '{"commands":[{"__proto__":{}},{"constructor":{}}]}', true)).toMatchObject([
        { error: { code: 107 } },
        { error: { code: 107 } }
      ])
      yield* socket.count(wrong.length)
    })
  )

  live("what a command is refused with stands in its place; one that dies takes no other down", () =>
    Effect.gen(function* () {
      const server = yield* People.start()
      const api = yield* Api.make(server.http)
      const commands = [
        { publish: { channel: "nowhere:a", data: 1 } },
        { publish: { channel: "room:a", data: "x".repeat(64 * 1024) } },
        { history: { channel: "bare:a" } },
        { rpc: { method: "nothing" } },
        { rpc: { method: "dead" } },
        { presence: { channel: "bare:a" } },
        { publish: { channel: "room:a", data: 1 } }
      ]
      for (const parallel of [false, true, null]) {
        const answers = yield* replies(api, { commands, parallel })
        expect(answers.slice(0, -1).map(({ error }) => error.code)).toEqual([102, 106, 108, 444, 100, 108])
        expect(answers.at(-1).publish.epoch).toEqual(expect.any(String))
      }
    })
  )

  live("one after the other: a command sees what those before it did", () =>
    Effect.gen(function* () {
      const server = yield* People.start()
      const api = yield* Api.make(server.http)
      const socket = yield* Socket.open(`${server.ws}/channels/room:a`)
      const commands = Array.from({ length: 256 }, (_, index) => ({ publish: { channel: "room:a", data: index } }))
      const answers = yield* replies(api, { commands })
      expect(answers.map(({ publish }) => publish.offset)).toEqual(commands.map((_, index) => index + 1))
      yield* socket.count(256)
      expect(socket.received).toEqual(commands.map((_, index) => String(index)))
    })
  )

  live("parallel: so many at a time, and the replies in the order of the commands", () =>
    Effect.gen(function* () {
      let running = 0
      let most = 0
      const gate = yield* Effect.makeLatch(false)
      const server = yield* People.start()
      const held = yield* People.startWith({
        onRpc: ({ data }) =>
          Effect.gen(function* () {
            most = Math.max(most, ++running)
            if (running === 16) yield* gate.open
            yield* gate.await
            running--
            return data ?? "null"
          })
      })
      const commands = Array.from({ length: 40 }, (_, data) => ({ rpc: { method: "any", data } }))
      const api = yield* Api.make(held.http)
      const answers = yield* replies(api, { commands, parallel: true })
      expect(answers).toEqual(commands.map(({ rpc }) => ({ rpc: { data: rpc.data } })))
      expect(most).toBe(16)
      // Nothing at all is a batch, too.
      expect(yield* replies(yield* Api.make(server.http), { commands: [] })).toEqual([])
    })
  )

  live("more than 256 commands, or none that could be read: nothing is carried out", () =>
    Effect.gen(function* () {
      const server = yield* People.start()
      const api = yield* Api.make(server.http)
      const publish = { publish: { channel: "room:a", data: 1 } }
      const many = { commands: Array.from({ length: 257 }, () => publish) }
      expect(yield* api.refusal("batch", many, { malformed: true })).toEqual([200, 106])
      for (const body of ["{", "[]", '{"commands":{}}', '{"commands":[],"parallel":1}']) {
        expect([body, yield* api.refusal("batch", body, { malformed: true })]).toEqual([body, [400, 107]])
      }
      expect((yield* api.result("history", { channel: "room:a" })).offset).toBe(0)
    })
  )

  live("histories, presences and channel lists share client.reply_max_size", () =>
    Effect.gen(function* () {
      const server = yield* People.start({ client: { reply_max_size: 64 * 1024 } })
      const api = yield* Api.make(server.http)
      for (let index = 0; index < 64; index++) {
        yield* server.publisher.publish("room:a", "x".repeat(1000))
      }
      const history = { history: { channel: "room:a", limit: -1 } }
      const count = (answer: Json): number => answer.history.publications.length
      expect(count((yield* replies(api, { commands: [history] }))[0])).toBe(64)
      for (const parallel of [false, true]) {
        const answers = yield* replies(api, { commands: Array.from({ length: 8 }, () => history), parallel })
        expect(answers.map(count)).toEqual(Array.from({ length: 8 }, () => 8))
      }
      // However small its part is, a page has something in it.
      const { body, text } = yield* api.call("batch", { commands: Array.from({ length: 256 }, () => history) })
      expect(body.replies.map(count)).toEqual(Array.from({ length: 256 }, () => 1))
      expect(text.length).toBeLessThan(256 * 1200)

      const ada = yield* People.connect(server, { user: "ada", info: JSON.stringify("x".repeat(20_000)) })
      yield* ada.ask("subscribe", { channel: "room:a" })
      const presence = { presence: { channel: "room:a" } }
      expect((yield* replies(api, { commands: [presence, presence] })).map(({ error }) => error?.code)).toEqual([
        undefined,
        undefined
      ])
      const four = [presence, history, { channels: {} }, presence]
      const [first, , listed, last] = yield* replies(api, { commands: four })
      expect([first.error.code, last.error.code]).toEqual([106, 106])
      expect(listed.channels).toEqual({ channels: { "room:a": { num_clients: 1 } } })
    })
  )
})

describe("Parts", () => {
  const space = FastCheck.string({ unit: FastCheck.constantFrom(" ", "\n", "\t"), maxLength: 2 })
  const json = FastCheck.json({ maxDepth: 3 })
  const spaced = FastCheck.tuple(space, json, space)
  const names = FastCheck.constantFrom("a", "b", 'q"\\', "__proto__", ":,", "é")

  it("elements finds every element of an array as it stands there", () => {
    FastCheck.assert(
      FastCheck.property(FastCheck.array(spaced, { maxLength: 5 }), space, (items, inside) => {
        const text = items.length === 0 ? `[${inside}]` : ` [${items.map((item) => item.join("")).join(",")}] `
        expect(Parts.elements(text)).toEqual(items.map(([, item]) => item))
      })
    )
  })

  it("member finds the value that JSON.parse would take, as it stands there", () => {
    FastCheck.assert(
      FastCheck.property(FastCheck.array(FastCheck.tuple(names, spaced), { maxLength: 5 }), names, (members, name) => {
        const text = `{${members.map(([key, value]) => ` ${JSON.stringify(key)} :${value.join("")}`).join(",")}}`
        JSON.parse(text)
        const expected = members.findLast(([key]) => key === name)?.[1][1]
        expect(Parts.member(text, name)).toBe(expected)
        // The same, its name written in another way.
        const escaped = text.replaceAll("é", "\\u00e9")
        expect(Parts.member(escaped, name)).toBe(expected?.replaceAll("é", "\\u00e9"))
      })
    )
  })
})
