// deno-lint-ignore-file no-explicit-any
/** The same small program in several frameworks, as their documentation has it. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { mkdtempSync, rmSync } from "node:fs"
import { createServer, type IncomingMessage, type Server as NodeServer, type ServerResponse } from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Embedded from "./embedded.ts"

/** Installed by `npm test`; their types are not looked at. */
const packages: any = await import(new URL("../frameworks/index.mjs", import.meta.url).href)

/** Has a server listen on a free port, and closes it with the scope; `start` listens. */
const listening = (start: () => Promise<NodeServer> | NodeServer): Effect.Effect<NodeServer, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const server = await start()
      if (!server.listening) await new Promise((resolve) => server.once("listening", resolve))
      return server
    }),
    (server) =>
      Effect.async<void>((resume) => {
        server.close(() => resume(Effect.void))
        server.closeAllConnections()
      })
  )

const USERS = ["/api/users", "/health/database", "/channels/general"]

const express = listening(() => {
  const app = packages.express()
  app.use(packages.express.text())
  app.get(USERS, (request: any, response: any) => response.send(`own ${request.path}`))
  app.post("/api/orders", (request: any, response: any) => response.send(`ordered ${request.body}`))
  return app.listen(0, "127.0.0.1")
})

const fastify = listening(async () => {
  const app = packages.fastify()
  for (const path of USERS) app.get(path, (request: any, reply: any) => reply.send(`own ${request.url}`))
  app.post("/api/orders", (request: any, reply: any) => reply.send(`ordered ${request.body}`))
  await app.listen({ port: 0, host: "127.0.0.1" })
  return app.server
})

const hono = listening(() => {
  const app = new packages.Hono()
  for (const path of USERS) app.get(path, (context: any) => context.text(`own ${context.req.path}`))
  app.post("/api/orders", async (context: any) => context.text(`ordered ${await context.req.text()}`))
  return packages.serve({ fetch: app.fetch, port: 0, hostname: "127.0.0.1" })
})

const plain = (request: IncomingMessage, response: ServerResponse): void => {
  if (USERS.includes(request.url ?? "")) return void response.end(`own ${request.url}`)
  if (request.url !== "/api/orders") return void response.writeHead(404).end("not found by the program")
  let body = ""
  request.setEncoding("utf8").on("data", (part: string) => {
    body += part
  })
  request.on("end", () => response.end(`ordered ${body}`))
}

/** A development server of Vite's in middleware mode. */
export interface Vite {
  readonly restart: () => Promise<void>
  readonly config: { readonly webSocketToken: string }
}

/** Vite in the program's server, its own socket on the same port. */
export const withVite = Effect.gen(function* () {
  const root = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "fanfare-vite-"))),
    (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
  )
  const server = createServer()
  const vite = yield* Effect.acquireRelease(
    Effect.promise(() =>
      packages.createVite({
        root,
        configFile: false,
        logLevel: "silent",
        appType: "custom",
        server: { middlewareMode: true, watch: null, hmr: { server } }
      })
    ),
    (made: any) => Effect.promise(() => made.close())
  )
  server.on("request", (request, response) => vite.middlewares(request, response, () => plain(request, response)))
  yield* Embedded.listen(server)
  return { server, vite: vite as Vite }
})

/** Programs with the routes that are asked for in test/Frameworks.test.ts. */
export const programs: Readonly<Record<string, Effect.Effect<NodeServer, never, Scope.Scope>>> = {
  "node:http": Embedded.web(plain),
  Express: express,
  Fastify: fastify,
  Hono: hono,
  Vite: Effect.map(withVite, ({ server }) => server)
}
