import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Http from "./support/http.ts"
import { live } from "./support/it.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"

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
        'fanfare_dropped_total{reason="gap"}': 0,
        fanfare_holes_total: 0,
        fanfare_healed_total: 0,
        fanfare_gaps_total: 0,
        'fanfare_recoveries_total{result="recovered"}': 0,
        'fanfare_insufficient_total{reason="overflow"}': 0,
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
    })
  )
})
