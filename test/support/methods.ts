/** Methods of the server API, asked for with any body, about channels with history and without. */
import { expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Api from "./api.ts"
import { OPEN } from "./history.ts"
import * as Http from "./http.ts"
import type * as Server from "./server.ts"
import type { Json } from "./json.ts"

/** `kept:…` has history, `fast:…` has none. */
export const namespaces = {
  config: {
    ...Api.keyed,
    channel: {
      namespaces: [
        { name: "kept", ...OPEN, history_size: 2000, history_ttl: "60s" },
        { name: "fast", ...OPEN }
      ]
    }
  }
}

const documents = new WeakMap<Server.Running, Api.Api>()

/** What a server says of its API. */
const documentOf = (server: Server.Running) =>
  Effect.gen(function* () {
    const document = documents.get(server) ?? (yield* Api.make(server.http))
    documents.set(server, document)
    return document
  })

/** Sends a body, whatever it is; the answer is held against what the server says of its API, where it has one. */
export const post = (
  server: Server.Running,
  method: string,
  body: string,
  headers: Record<string, string> = { "X-API-Key": Api.KEY }
) =>
  Http.send(`${server.http}/api/${method}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", ...headers },
    body
  }).pipe(
    Effect.tap((answer) =>
      answer.status === 404
        ? Effect.void
        : Effect.map(documentOf(server), ({ check }) => check("post", `/api/${method}`, answer))
    )
  )

/** Calls a method; the answer has status 200. */
export const call = (server: Server.Running, method: string, body: object | string) =>
  Effect.map(post(server, method, typeof body === "string" ? body : JSON.stringify(body)), (answer): Json => {
    expect([answer.status, answer.headers["content-type"]]).toEqual([200, "application/json"])
    return JSON.parse(answer.body)
  })

/** Publishes numbers from 1 to `count`; returns the epoch of the stream. */
export const fill = (server: Server.Running, channel: string, count: number) =>
  Effect.gen(function* () {
    for (let data = 1; data <= count; data++) yield* server.publisher.publish(channel, data)
    const { result } = yield* call(server, "history", { channel })
    expect(result.offset).toBe(count)
    return result.epoch as string
  })

export const offsets = (answer: {
  readonly result: { readonly publications?: ReadonlyArray<{ readonly offset: number }> }
}) => (answer.result.publications ?? []).map(({ offset }) => offset)
