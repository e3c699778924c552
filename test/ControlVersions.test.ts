/** Instances of neighbouring versions share a Redis during a rolling upgrade: what each asks the other one answers. */
import { describe, expect } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Cluster from "../src/Cluster.ts"
import { FROM, ID, MESSAGE, type RecordedRequest, REPLIES, REQUESTS } from "./fixtures/control-v1.ts"
import { type Control, isRecord, playInstance, widened } from "./support/control.ts"
import { raw } from "./support/history.ts"
import { live } from "./support/it.ts"
import * as Redis from "./support/redis.ts"
import type * as Server from "./support/server.ts"
import { token } from "./support/tokens.ts"
import { pushes, startOn } from "./support/versions.ts"
import { eventually } from "./support/wait.ts"

/** The types of a JSON value's parts; of a list, those of its first element. */
const shape = (value: unknown): unknown =>
  Array.isArray(value)
    ? [shape(value[0])]
    : isRecord(value)
      ? Object.fromEntries(Object.entries(value).map(([key, one]) => [key, shape(one)]))
      : typeof value

const ada = { token: token({ sub: "ada" }) }

describe("an instance that is asked by one of another version", () => {
  live("does what a request of version 1 says, and answers with the fields of version 1", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const server = yield* startOn(redis)
      const peer = yield* playInstance(redis)
      const { ask, connected, socket } = yield* raw(server, ada)
      yield* ask("subscribe", { channel: "room:old" })
      let asked = 0
      /** Asks with the recorded text, under an id of its own; its `c1` is the client. */
      const doneAs = (request: RecordedRequest, reply: { readonly text: string }) =>
        Effect.gen(function* () {
          const id = `request ${++asked}`
          yield* peer.say(request.text.replace(ID, id).replace("c1", connected["client"]))
          const [answer] = yield* peer.isAnswered(id)
          expect(shape(answer)).toEqual(shape(JSON.parse(reply.text)))
          expect(answer).toMatchObject({ v: 1, from: connected["node"] })
          return answer?.answer
        })
      const done = { type: "done", clients: 1, isPartial: false }

      expect(yield* doneAs(REQUESTS.info, REPLIES.info)).toMatchObject({
        node: { id: connected["node"], clients: 1, users: 1, subscriptions: 1, channels: 1 }
      })
      expect(yield* doneAs(REQUESTS.channels, REPLIES.channels)).toMatchObject({ channels: [["room:old", 1]] })

      // Whether it has anything to forget or not; no connection is concerned.
      expect(yield* doneAs(REQUESTS.forget, REPLIES.done)).toEqual({ ...done, clients: 0 })

      expect(yield* doneAs(REQUESTS.subscribeAsGranted, REPLIES.done)).toEqual(done)
      expect(socket.received.at(-1)).toContain('"data":{"m": 12345678901234567890}')
      expect(pushes(socket, "room:new")).toMatchObject([{ subscribe: { expires: true, ttl: expect.any(Number) } }])
      expect(yield* server.presence.list("room:new", 10_000)).toEqual([
        { client: connected["client"], user: "ada", chanInfo: '{"n":1}' }
      ])
      // It is in it already.
      expect(yield* doneAs(REQUESTS.subscribe, REPLIES.done)).toEqual(done)
      expect(pushes(socket, "room:new").length).toBe(1)

      expect(yield* doneAs(REQUESTS.unsubscribe, REPLIES.done)).toEqual(done)
      expect(pushes(socket, "room:old")).toEqual([
        { channel: "room:old", unsubscribe: { code: 2000, reason: "server unsubscribe" } }
      ])

      expect(yield* doneAs(REQUESTS.refresh, REPLIES.done)).toEqual(done)
      yield* socket.gets('{"push":{"refresh":{"expires":true,"ttl":')

      yield* peer.say(MESSAGE.text)
      yield* socket.gets('{"push":{"message":{"data":{"hello":1}}}}')

      // The client is on its list of those that stay, then it is not.
      expect(yield* doneAs(REQUESTS.disconnect, REPLIES.done)).toEqual({ ...done, clients: 0 })
      yield* peer.say(REQUESTS.disconnect.text.replace(ID, "everybody"))
      yield* peer.isAnswered("everybody")
      expect(yield* socket.closed).toEqual({ code: 3503, reason: "force disconnect" })
      // It has answered to nothing else.
      expect(peer.heard.filter(({ re }) => re !== undefined).length).toBe(asked + 1)
    })
  )

  const CANNOT: ReadonlyArray<readonly [what: string, text: string]> = [
    ["of a newer version", REQUESTS.disconnect.text.replace('"v":1', '"v":2').replace('"c1","c2"', "")],
    ["for something that it does not know", REQUESTS.info.text.replace('"info"', '"survey"')],
    ["that lacks a field", REQUESTS.unsubscribe.text.replace(',"reason":"server unsubscribe"', "")],
    ["that lacks what is asked", `{"v":1,"from":"${FROM}","id":"${ID}"}`],
    ["whose field has another type", REQUESTS.unsubscribe.text.replace("2000", '"2000"')]
  ]

  live("says that it is unable to do what it cannot read, does nothing of it, and goes on", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const server = yield* startOn(redis)
      const peer = yield* playInstance(redis)
      const { ask, connected, socket } = yield* raw(server, ada)
      yield* ask("subscribe", { channel: "room:old" })
      const node: string = connected["node"]
      for (const [what, text] of CANNOT) {
        yield* peer.say(text.replace(ID, what))
        expect(yield* peer.isAnswered(what)).toEqual([{ v: 1, from: node, re: what, answer: { type: "unable" } }])
      }
      // Nobody waits for an answer to these, or nobody knows who does.
      const silent = [
        "",
        "garbage",
        "null",
        "[]",
        "{}",
        '{"v":1}',
        '{"v":2,"from":"x","ask":{}}',
        '{"from":1,"id":"x"}'
      ]
      for (const text of silent) yield* peer.say(text, node)
      yield* peer.say(REQUESTS.info.text)
      expect((yield* peer.isAnswered(ID))[0]?.answer?.type).toBe("info")
      expect(peer.heard.length).toBe(CANNOT.length + 1)
      yield* ask("ping", {})
      expect(pushes(socket, "room:old")).toEqual([])
      expect(server.logs.filter((line) => line.startsWith("ERROR"))).toEqual([])
    })
  )
})

describe("an instance that is asked for more than it can do at a time", () => {
  /** `WORKING` of src/Cluster.ts. */
  const AT_A_TIME = 256
  const ASKED = 300

  live("says so of the rest, answers each request once, and can do as much as before after that", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const isStuck = yield* Effect.makeLatch(false)
      const server = yield* startOn(redis, { onPublish: () => isStuck.await })
      const peer = yield* playInstance(redis)
      // Each client takes so many in its turn that all of them together are too many.
      const users = Array.from({ length: 6 }, (_, index) => `user-${index}`)
      const clients = yield* Effect.forEach(users, (sub) => raw(server, { token: token({ sub }) }))
      const answers = () => peer.heard.filter(({ re }) => re !== undefined && re !== "forget")
      const count = (expected: number) =>
        eventually(
          Effect.sync(() => answers().length),
          (count) => count >= expected,
          "each request is answered"
        )
      for (const { socket } of clients) socket.send('{"id":9,"publish":{"channel":"room:old","data":1}}')
      yield* Effect.forEach(clients, ({ ask }) => ask("ping", {}))
      const say = (index: number) => {
        const text = REQUESTS.unsubscribe.text.replace('"ada"', `"${users[index % users.length]}"`)
        return peer.say(text.replace(ID, `request ${index}`))
      }
      // In one go, or the first are over before the last have come.
      yield* Effect.all(
        Array.from({ length: ASKED }, (_, index) => say(index)),
        { concurrency: "unbounded" }
      )
      // What takes no time is done all the same.
      yield* peer.say(REQUESTS.forget.text.replace(ID, "forget"))
      const forgotten = (yield* peer.isAnswered("forget"))[0]?.answer
      expect(forgotten).toEqual({ type: "done", clients: 0, isPartial: false })
      yield* count(ASKED)
      const types = answers().map(({ answer }) => answer?.type)
      expect(types.filter((type) => type === "unable").length).toBe(ASKED - AT_A_TIME)
      expect(new Set(answers().map(({ re }) => re)).size).toBe(ASKED)
      // Those that it has not been able to finish in time are not said to be done.
      const done = answers().filter(({ answer }) => answer?.type === "done")
      expect(done.map(({ answer }) => answer)).toEqual(
        Array.from({ length: AT_A_TIME }, () => ({ type: "done", clients: 0, isPartial: true }))
      )

      yield* isStuck.open
      for (const { socket } of clients) yield* socket.gets('{"id":9,"publish"')
      for (let index = 0; index < AT_A_TIME; index++) yield* peer.say(REQUESTS.info.text)
      yield* count(ASKED + AT_A_TIME)
      expect(
        new Set(
          answers()
            .slice(ASKED)
            .map(({ answer }) => answer?.type)
        )
      ).toEqual(new Set(["info"]))
    })
  )
})

/** What an answer may take beyond the wait for it, on a busy machine. */
const MARGIN = 950
const PATIENCE = Duration.toMillis(Cluster.REPLY_TIMEOUT)

/** A recorded answer to a request; `from`: another instance than that of the fixture. */
const answerTo = (reply: { readonly text: string }, { id = "" }: Control, from = FROM): string =>
  reply.text.replaceAll(FROM, from).replace(ID, id)

/** The recorded answer to what is asked. */
const wellAnswered = (request: Control, from = FROM): string => {
  const type = request.ask?.type
  return answerTo(type === "channels" || type === "info" ? REPLIES[type] : REPLIES.done, request, from)
}

const OTHER = "9d0c7a11-5f0e-4a57-8c1b-6a7e0e2d4c03"

describe("an instance that asks one of another version", () => {
  const unsubscribe = { ...REQUESTS.unsubscribe.ask }

  /** Asks for one of each kind, and tells what came of it, with milliseconds. */
  const askAll = ({ cluster }: Server.Running) =>
    Effect.map(
      Effect.all(
        [
          Effect.timed(cluster.perform(unsubscribe)),
          Effect.timed(cluster.channels("room:*")),
          Effect.timed(cluster.nodes)
        ],
        { concurrency: "unbounded" }
      ),
      ([[one, performed], [two, channels], [three, nodes]]) => ({
        outcomes: { performed, channels, nodes },
        arePartial: [performed.isPartial, channels.isPartial, nodes.isPartial],
        times: [one, two, three].map(Duration.toMillis)
      })
    )

  const setting = Effect.gen(function* () {
    const redis = yield* Redis.start()
    const server = yield* startOn(redis)
    const { ask, connected } = yield* raw(server, ada)
    yield* ask("subscribe", { channel: "room:a" })
    return { redis, server, node: String(connected["node"]), peer: yield* playInstance(redis) }
  })

  live("adds its answers of version 1 to its own", () =>
    Effect.gen(function* () {
      const { node, peer, server } = yield* setting
      for (const how of [
        (request: Control) => [wellAnswered(request)],
        // With fields that a newer one has added.
        (request: Control) => [JSON.stringify(widened(JSON.parse(wellAnswered(request))))]
      ]) {
        peer.answer(how)
        const { outcomes } = yield* askAll(server)
        expect(outcomes.performed).toEqual({ clients: 3, isPartial: false })
        expect(outcomes.channels).toEqual({
          channels: new Map([
            ["room:a", 3],
            ["room:b", 1]
          ]),
          isPartial: false
        })
        expect(outcomes.nodes.isPartial).toBe(false)
        expect(outcomes.nodes.nodes.map(({ id }) => id)).toEqual([node, FROM])
        expect(outcomes.nodes.nodes[1]).toEqual(REPLIES.info.answer.node)
      }
      expect(peer.heard.map(({ ask, v }) => [v, ask?.type])).toEqual(
        ["unsubscribe", "channels", "info", "unsubscribe", "channels", "info"].map((type) => [1, type])
      )
    })
  )

  const USELESS: ReadonlyArray<readonly [what: string, how: (request: Control) => ReadonlyArray<string>]> = [
    ["unable", (request) => [answerTo(REPLIES.unable, request)]],
    [
      "an answer to something else",
      (request) => [answerTo(request.ask?.type === "info" ? REPLIES.channels : REPLIES.info, request)]
    ],
    ["an answer of a newer version", (request) => [wellAnswered(request).replace('"v":1', '"v":2')]],
    [
      "an answer that it does not know",
      (request) => [answerTo(REPLIES.unable, request).replace('"unable"', '"later"')]
    ],
    [
      "an answer that lacks a field",
      (request) => [answerTo({ text: REPLIES.done.text.replace(',"isPartial":false', "") }, request)]
    ],
    ["an answer that says nothing", ({ id }) => [JSON.stringify({ from: FROM, re: id })]]
  ]

  live("says at once that it is partial where the other cannot do it, or cannot be understood", () =>
    Effect.gen(function* () {
      const { node, peer, server } = yield* setting
      for (const [what, how] of USELESS) {
        peer.answer(how)
        const { arePartial, outcomes, times } = yield* askAll(server)
        expect([what, ...arePartial]).toEqual([what, true, true, true])
        expect(Math.max(...times)).toBeLessThan(MARGIN)
        // Its own part is done.
        const { channels, nodes, performed } = outcomes
        expect([what, performed.clients, [...channels.channels], nodes.nodes.map(({ id }) => id)]).toEqual([
          what,
          1,
          [["room:a", 1]],
          [node]
        ])
      }
    })
  )

  live(
    "says so once its patience is over where nothing comes, or garbage, or what was meant for another question",
    () =>
      Effect.gen(function* () {
        const { peer, server } = yield* setting
        for (const how of [
          () => [],
          () => ["", "garbage", "null", "[]", '{"re":"x"}', '{"from":"x","re":1}'],
          (request: Control) => [
            wellAnswered({ ...request, id: "another" }),
            wellAnswered({ ...request, id: "__proto__" })
          ]
        ]) {
          peer.answer(how)
          const { arePartial, outcomes, times } = yield* askAll(server)
          expect(arePartial).toEqual([true, true, true])
          expect(Math.min(...times)).toBeGreaterThan(PATIENCE - 50)
          expect(Math.max(...times)).toBeLessThan(PATIENCE + MARGIN)
          expect(outcomes.performed.clients).toBe(1)
        }
      })
  )

  live("waits until it has confirmed that it has forgotten, or cannot; not for longer than its patience", () =>
    Effect.gen(function* () {
      const { peer, server } = yield* setting
      const forget = Effect.map(Effect.timed(server.cluster.forget("kept:a")), ([took]) => Duration.toMillis(took))
      peer.answer((request) => [wellAnswered(request)])
      expect(yield* forget).toBeLessThan(MARGIN)
      // One that is older remembers nothing.
      peer.answer((request) => [answerTo(REPLIES.unable, request)])
      expect(yield* forget).toBeLessThan(MARGIN)
      peer.answer(() => [])
      const took = yield* forget
      expect(took).toBeGreaterThan(PATIENCE - 50)
      expect(took).toBeLessThan(PATIENCE + MARGIN)
      expect(peer.heard.map(({ ask, v }) => [v, ask])).toEqual(
        Array.from({ length: 3 }, () => [1, REQUESTS.forget.ask])
      )
    })
  )

  live("takes one answer of each instance: one that is said twice is not that of another", () =>
    Effect.gen(function* () {
      const { peer, redis, server } = yield* setting
      const silent = yield* playInstance(redis, OTHER)
      peer.answer((request) => [wellAnswered(request), wellAnswered(request)])
      const { arePartial, outcomes } = yield* askAll(server)
      expect(arePartial).toEqual([true, true, true])
      expect(outcomes.performed.clients).toBe(3)
      expect(outcomes.channels.channels.get("room:b")).toBe(1)
      expect(outcomes.nodes.nodes.length).toBe(2)
      expect(silent.heard.length).toBe(3)
    })
  )

  live("is not confused or filled by answers that come twice, or late, to a thousand questions", () =>
    Effect.gen(function* () {
      const { peer, server } = yield* setting
      // More at a time than may wait: the rest of them are not asked at all.
      const many = Array.from({ length: 1100 }, () => server.cluster.nodes)
      const unanswered = yield* Effect.all(many, { concurrency: "unbounded" })
      expect(unanswered.filter(({ isPartial, nodes }) => !isPartial || nodes.length !== 1)).toEqual([])
      expect(peer.heard.length).toBeGreaterThanOrEqual(1024)
      expect(peer.heard.length).toBeLessThan(1100)
      for (const request of peer.heard.slice()) yield* peer.say(wellAnswered(request), request.from)

      // Each of them was forgotten, and no answer to them is taken for one to these.
      peer.answer((request) => [wellAnswered(request), wellAnswered(request)])
      const answered = yield* Effect.all(many.slice(0, 300), { concurrency: 50 })
      expect(answered.filter(({ isPartial, nodes }) => isPartial || nodes.length !== 2)).toEqual([])
      expect(yield* server.cluster.perform(unsubscribe)).toEqual({ clients: 3, isPartial: false })
      expect(server.logs.filter((line) => line.startsWith("ERROR"))).toEqual([])
    })
  )
})
