import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { readFileSync } from "node:fs"
import * as Api from "./support/api.ts"
import * as Http from "./support/http.ts"
import { live } from "./support/it.ts"
import * as People from "./support/people.ts"
import { freePort } from "./support/redis.ts"
import * as Server from "./support/server.ts"
import { eventually } from "./support/wait.ts"
import type { Json } from "./support/json.ts"

const text = readFileSync(new URL("../docs/server-api.md", import.meta.url), "utf8")

/** A command of the document, and the answer that it is shown with. */
interface Example {
  readonly headers: Record<string, string>
  readonly body: string
  readonly port: string
  readonly path: string
  readonly shown: Json
}

/** Reads a `curl` command as a shell would, in the one way in which the document writes it. */
const read = (command: string): Omit<Example, "shown"> => {
  const words = (command.replaceAll("\\\n", " ").match(/'[^']*'|\S+/g) ?? []).map((word) => word.replace(/^'|'$/g, ""))
  const headers: Record<string, string> = {}
  let body = ""
  let url = ""
  for (let at = 1; at < words.length; at++) {
    if (words[at] === "-H") {
      const [name = "", value = ""] = words[++at]?.split(": ") ?? []
      headers[name] = value
    } else if (words[at] === "-d") body = words[++at] ?? ""
    else url = words[at] ?? ""
  }
  const [, port = "", path = ""] = /^localhost:(\d+)(\/.*)$/.exec(url) ?? []
  return { headers, body, port, path }
}

const blocks = [...text.matchAll(/```(\w+)\n([\s\S]*?)```/g)].map(([, language, content = ""]) => ({
  language,
  content
}))

const examples: ReadonlyArray<Example> = blocks.flatMap(({ content, language }, index) => {
  if (language !== "sh") return []
  const commands = [...content.matchAll(/^curl (?:[^\n]*\\\n)*[^\n]*/gm)].map(([command]) => read(command))
  const next = blocks[index + 1]
  const shown = next?.language === "json" ? JSON.parse(next.content) : undefined
  return commands.map((command) => ({ ...command, shown }))
})

const configuration = JSON.parse(blocks.find(({ content }) => content.includes('"namespaces"'))?.content ?? "")

/** The members that a value has, and of what types they are; where names are any, of the first of them. */
const shape = (value: unknown, name = ""): unknown => {
  if (Array.isArray(value)) return value.map((item) => shape(item))
  if (typeof value !== "object" || value === null) return typeof value
  const members = Object.entries(value)
  if (name === "presence" || name === "channels") return { any: shape(members[0]?.[1]) }
  return Object.fromEntries(members.map(([key, inner]) => [key, shape(inner, key)]).toSorted())
}

const setting = Effect.gen(function* () {
  const internal_port = yield* freePort
  const hooks: Parameters<typeof People.startWith>[0] = {
    onRpc: ({ data = "[]" }) =>
      Effect.succeed(String((JSON.parse(data) as ReadonlyArray<number>).reduce((sum, one) => sum + one, 0)))
  }
  // The first example is about a server without a configuration, where `public` is open.
  const { namespaces } = configuration.channel
  const channel = { namespaces: [...namespaces, { name: "public", history_size: 1, history_ttl: "5m" }] }
  const server = yield* People.startWith(hooks, { ...configuration, channel })
  const divided = yield* Server.start({ config: { ...configuration, http_server: { internal_port } } })
  const api = yield* Api.make(server.http)
  return { server, divided, api, ports: { "8000": server.port, "9000": internal_port } as Record<string, number> }
})

describe("docs/server-api.md", () => {
  live("every example is answered as it is shown", () =>
    Effect.gen(function* () {
      const { api, ports, server } = yield* setting
      const seen = new Set<string>()
      for (const { body, headers, path, port, shown } of examples) {
        // The examples are about a user who is there.
        if (server.connections.count() === 0) {
          const ada = yield* People.connect(server, { user: "42", info: '{"name":"Ada"}' })
          yield* ada.ask("subscribe", { channel: "chat:room" })
        }
        const answer = yield* Http.send(`http://127.0.0.1:${ports[port]}${path}`, {
          method: body === "" ? "GET" : "POST",
          // What curl says of a body, unless told otherwise.
          headers: { "Content-Type": "application/x-www-form-urlencoded", ...headers },
          body
        })
        api.check(body === "" ? "get" : "post", path, answer)
        expect([path, body, answer.status]).toEqual([path, body, 200])
        const given = JSON.parse(answer.body)
        if (shown === undefined && path.startsWith("/api/")) expect([path, given]).toEqual([path, { result: {} }])
        if (shown !== undefined) expect([path, shape(given)]).toEqual([path, shape(shown)])
        seen.add(path)
        if (path !== "/api/disconnect") continue
        yield* eventually(
          Effect.sync(() => server.connections.count()),
          (count) => count === 0,
          "the user is gone"
        )
      }
      const methods = Object.keys(api.specification.paths).filter((path) => path.startsWith("/api/"))
      expect(methods.filter((path) => !seen.has(path))).toEqual([])
    })
  )

  live("every field of every body is in it", () =>
    Effect.gen(function* () {
      const { api } = yield* setting
      for (const [name, schema] of Object.entries<Json>(api.specification.components.schemas)) {
        if (name === "BadRequest" || !name.endsWith("Request")) continue
        for (const field of Object.keys(schema.properties ?? {})) {
          expect([name, field, text.includes(`\`${field}\``) || text.includes(`"${field}"`)]).toEqual([
            name,
            field,
            true
          ])
        }
      }
    })
  )
})
