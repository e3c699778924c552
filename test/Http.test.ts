import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { live } from "./support/it.ts"
import * as Http from "./support/http.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"

const KEY = "a-very-secret-key"

const keyed = { config: { http_api: { key: KEY } } }

const post = (
  server: Server.Running,
  method: string,
  body: string,
  headers: Record<string, string> = { "X-API-Key": KEY }
) =>
  Http.send(`${server.http}/api/${method}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", ...headers },
    body
  })

describe("server API", () => {
  live("publish: reaches the channel, data as it came, whatever stands around it", () =>
    Effect.gen(function* () {
      const server = yield* Server.start(keyed)
      const socket = yield* Socket.open(`${server.ws}/channels/public:lobby`)
      const answer = yield* post(
        server,
        "publish",
        '{"x":[{"data":0}], "data" : {"n": 1e400}, "channel": "public:lobby"}'
      )
      expect([answer.status, answer.body]).toEqual([200, '{"result":{}}'])
      yield* socket.count(1)
      expect(socket.received).toEqual(['{"n": 1e400}'])
    })
  )

  live("broadcast: reaches every channel, and answers for each", () =>
    Effect.gen(function* () {
      const server = yield* Server.start(keyed)
      const one = yield* Socket.open(`${server.ws}/channels/public:one`)
      const two = yield* Socket.open(`${server.ws}/channels/two`)
      const answer = yield* post(server, "broadcast", '{"channels":["public:one","nowhere:x","two"],"data":"hi"}')
      expect(JSON.parse(answer.body)).toEqual({
        result: {
          responses: [
            { result: {} },
            { error: { code: 102, message: 'no namespace "nowhere"; known: public' } },
            { result: {} }
          ]
        }
      })
      yield* one.count(1)
      yield* two.count(1)
      expect([one.received, two.received]).toEqual([['"hi"'], ['"hi"']])
    })
  )

  live("key: missing or wrong 401, in either header; none configured 404", () =>
    Effect.gen(function* () {
      const server = yield* Server.start(keyed)
      const body = '{"channel":"public:lobby","data":1}'
      expect((yield* post(server, "publish", body, {})).status).toBe(401)
      expect((yield* post(server, "publish", body, { "X-API-Key": "wrong" })).status).toBe(401)
      expect((yield* post(server, "publish", body, { "X-API-Key": `${KEY}x` })).status).toBe(401)
      expect((yield* post(server, "publish", body, { Authorization: "apikey wrong" })).status).toBe(401)
      expect((yield* post(server, "publish", body, { Authorization: `apikey ${KEY}` })).status).toBe(200)
      const off = yield* Server.start()
      expect((yield* post(off, "publish", body)).status).toBe(404)
    })
  )

  live("body: not JSON or not the method's 400, too large 413 unread, a publication above 64 KiB 413", () =>
    Effect.gen(function* () {
      const server = yield* Server.start(keyed)
      for (const body of ["{", "[]", '{"channel":1,"data":1}', '{"channel":"public:a"}', '{"channels":"a","data":1}']) {
        expect([body, (yield* post(server, body.includes("channels") ? "broadcast" : "publish", body)).status]).toEqual(
          [body, 400]
        )
      }
      const large = JSON.stringify({ channel: "public:a", data: "x".repeat(64 * 1024) })
      expect((yield* post(server, "publish", large)).status).toBe(413)
      const fits = JSON.stringify({ channel: "public:a", data: "x".repeat(64 * 1024 - 2) })
      expect((yield* post(server, "publish", fits)).status).toBe(200)
      const huge = yield* Effect.either(post(server, "publish", "x".repeat(2 * 1024 * 1024)))
      // A server that answers without reading may break the upload before the answer is read.
      expect(huge._tag === "Left" || huge.right.status === 413).toBe(true)
      expect((yield* post(server, "publish", '{"channel":"public:a","data":1}')).status).toBe(200)
    })
  )
})

describe("health, metrics and page", () => {
  live("a live server: live and ready 200 with the broker in the body; metrics count what happened", () =>
    Effect.gen(function* () {
      const server = yield* Server.start()
      for (const path of ["/health/live", "/health/ready"]) {
        const answer = yield* Http.send(server.http + path)
        expect([answer.status, JSON.parse(answer.body)]).toEqual([
          200,
          { status: "ok", broker: { name: "memory", state: "Live" } }
        ])
      }
      const socket = yield* Socket.open(`${server.ws}/channels/public:lobby`)
      socket.send("one")
      yield* socket.count(1)
      const metrics = yield* Http.metrics(server.http)
      expect(metrics).toMatchObject({
        'fanfare_connections{kind="plain"}': 1,
        'fanfare_connections{kind="protocol"}': 0,
        fanfare_subscriptions: 1,
        fanfare_channels: 1,
        fanfare_frames_received_total: 1,
        fanfare_published_total: 1,
        fanfare_deliveries_total: 1,
        'fanfare_dropped_total{reason="mailbox_full"}': 0,
        'fanfare_broker_state{state="live"}': 1
      })
    })
  )

  live("the page is served at /, and nothing else answers anything but 404", () =>
    Effect.gen(function* () {
      const server = yield* Server.start()
      const page = yield* Http.send(`${server.http}/`)
      expect([page.status, page.headers["content-type"]]).toEqual([200, "text/html; charset=utf-8"])
      expect(page.body).toContain("public:lobby")
      expect((yield* Http.send(`${server.http}/nothing`)).status).toBe(404)
      expect((yield* Http.send(`${server.http}/connection/websocket`)).status).toBe(404)
    })
  )
})
