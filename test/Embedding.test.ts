import { describe, expect } from "@effect/vitest"
import * as Array from "effect/Array"
import * as Effect from "effect/Effect"
import { execFile } from "node:child_process"
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs"
import type { Server as NodeServer } from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { WebSocketServer } from "ws"
import * as Hooks from "../src/Hooks.ts"
import * as Embedded from "./support/embedded.ts"
import * as Http from "./support/http.ts"
import { live } from "./support/it.ts"
import * as Program from "./support/program.ts"
import { freePort } from "./support/redis.ts"
import * as Sdk from "./support/sdk.ts"
import * as Socket from "./support/socket.ts"
import { eventually } from "./support/wait.ts"

const ROOT = fileURLToPath(new URL("..", import.meta.url))
const EXAMPLE = join(ROOT, "examples", "embedded.ts")

/** Runs a command to its end; fails with what it printed. */
const run = (cwd: string, command: string, ...args: ReadonlyArray<string>): Effect.Effect<string, unknown> =>
  Effect.tryPromise({
    try: (signal) => promisify(execFile)(command, args, { cwd, signal, maxBuffer: 16 * 1024 * 1024 }),
    catch: (error) => new Error(`${command} ${args.join(" ")} failed`, { cause: error })
  }).pipe(
    Effect.map(({ stdout }) => stdout),
    Effect.tapError((error) => Effect.logError(error))
  )

const temporaryFolder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "fanfare-embedding-"))),
  (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
)

const filesIn = (folder: string): ReadonlyArray<string> =>
  readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((path) => statSync(join(folder, path)).isFile())

describe("the package, in an empty folder", () => {
  live(
    "type-checks and runs examples/embedded.ts",
    () =>
      Effect.gen(function* () {
        expect(readFileSync(EXAMPLE, "utf8").trimEnd().split("\n").length).toBeLessThanOrEqual(25)
        const folder = yield* temporaryFolder
        // Scripts would build `dist` again, under the feet of others.
        yield* run(folder, "npm", "pack", "--ignore-scripts", "--silent", ROOT)
        const tarball = readdirSync(folder).find((name) => name.endsWith(".tgz")) ?? ""
        const app = join(folder, "app")
        mkdirSync(app)
        writeFileSync(join(app, "package.json"), '{ "private": true, "type": "module" }\n')
        const { devDependencies } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
          devDependencies: Record<string, string>
        }
        const beside = ["effect", "@effect/platform", "@types/node", "typescript"]
        const versions = beside.map((name) => `${name}@${devDependencies[name]}`)
        const quiet = ["--prefer-offline", "--no-audit", "--no-fund", "--ignore-scripts"]
        yield* run(app, "npm", "install", ...quiet, join(folder, tarball), ...versions)

        const packed = join(app, "node_modules", "fanfare")
        const [own, nested] = Array.partition(filesIn(packed), (path) => path.startsWith("node_modules"))
        expect(own).toContain(join("dist", "main.js"))
        expect(own).toContain(join("dist", "index.d.ts"))
        expect(own).toContain(join("dist", "http", "page.html"))
        const expected = /^(dist\W.*|package\.json|[A-Z]+(\.md)?)$/
        expect(own.filter((path) => !expected.test(path) || /\btest\b/i.test(path))).toEqual([])
        expect(own.filter((path) => readFileSync(join(packed, path), "utf8").includes(ROOT))).toEqual([])
        // Two copies of effect would have two of each tag.
        expect(nested.filter((path) => path.startsWith(join("node_modules", "effect")))).toEqual([])

        // Without skipLibCheck: the declarations of the package hold, too.
        cpSync(EXAMPLE, join(app, "embedded.ts"))
        const tsc = join(app, "node_modules", "typescript", "bin", "tsc")
        const strict = ["--strict", "--noEmitOnError", "--module", "nodenext", "--target", "es2023", "--types", "node"]
        yield* run(app, process.execPath, tsc, ...strict, "embedded.ts")

        const program = yield* Program.start({
          run: { command: process.execPath, args: ["embedded.js"] },
          cwd: app,
          env: { PORT: String(yield* freePort) }
        })
        const route = yield* Http.send(`${program.http}/hello`)
        expect([route.status, route.body]).toEqual([200, "a route of my own\n"])
        expect((yield* Http.send(`${program.http}/health/ready`)).status).toBe(200)

        const clock = yield* Socket.open(`${program.ws}/channels/public:clock`)
        yield* clock.count(2)
        expect(clock.received[1]).toMatch(/^\{"now":"\d{4}-.*Z"\}$/)

        const reader = yield* Socket.open(`${program.ws}/channels/public:lobby`)
        const writer = yield* Socket.open(`${program.ws}/channels/public:lobby`)
        const client = yield* Sdk.connect(program.ws)
        const subscription = yield* Sdk.subscribe(client, "public:lobby")
        const rejected = yield* Effect.flip(
          Effect.tryPromise({
            try: () => subscription.publish({ text: "spam" }),
            catch: (error) => error as { code: number; message: string }
          })
        )
        expect(rejected).toMatchObject({ code: 400, message: "no spam" })
        yield* Effect.promise(() => subscription.publish({ text: "news" }))
        writer.send("spam")
        expect(yield* writer.closed).toEqual({ code: 3507, reason: "no spam" })
        yield* reader.count(1)
        expect(reader.received).toEqual(['{"text":"news"}'])

        client.disconnect()
        program.signal("SIGTERM")
        expect(yield* reader.closed).toEqual({ code: 3001, reason: "shutdown" })
        expect(yield* program.exit).toEqual({ code: 0, signal: null })
      }),
    120_000
  )
})

/** An HTTP server of a user's own that listens; it answers one route. */
const listening = (answer: string) =>
  Embedded.web((request, response) => {
    if (request.url === "/own") response.end(answer)
  })

/** Fanfare on an HTTP server of the user's, in a scope of its own. */
const embed = (http: NodeServer, hooks: Embedded.Options["hooks"] = {}) => Embedded.embed(http, { hooks })

const listeners = (server: NodeServer): ReadonlyArray<number> =>
  ["request", "upgrade"].map((event) => server.listenerCount(event))

describe("Server.layer", () => {
  live("makes two servers in one process; closing the scope of one ends it and leaves the other alone", () =>
    Effect.gen(function* () {
      const [webA, webB] = [yield* listening("A"), yield* listening("B")]
      const before = listeners(webA)
      const a = yield* embed(webA, {
        onPublish: () => Effect.fail(new Hooks.Rejected({ code: 403, message: "A is read-only" }))
      })
      const b = yield* embed(webB)
      expect((yield* Http.send(`${a.http}/own`)).body).toBe("A")
      expect((yield* Http.send(`${b.http}/own`)).body).toBe("B")

      const inA = yield* Socket.open(`${a.ws}/channels/public:lobby`)
      const writerA = yield* Socket.open(`${a.ws}/channels/public:other`)
      const clientA = yield* Sdk.connect(a.ws)
      const inB = yield* Socket.open(`${b.ws}/channels/public:lobby`)
      yield* a.publisher.publish("public:lobby", "from A")
      inB.send("from B")
      yield* inA.count(1)
      yield* inB.count(1)
      writerA.send("refused by the hook of A")
      expect(yield* writerA.closed).toEqual({ code: 3507, reason: "A is read-only" })

      const left = Effect.async<number>((resume) => {
        clientA.once("connecting", ({ code }) => resume(Effect.succeed(code)))
      })
      const [plain, code] = yield* Effect.all([inA.closed, left, a.close], { concurrency: "unbounded" })
      expect(plain).toEqual({ code: 3001, reason: "shutdown" })
      expect(code).toBe(3001)
      clientA.disconnect()
      expect(listeners(webA)).toEqual(before)
      expect(webA.listening).toBe(true)
      expect((yield* Http.send(`${a.http}/own`)).body).toBe("A")

      const alsoInB = yield* Socket.open(`${b.ws}/channels/public:lobby`)
      yield* b.publisher.publish("public:lobby", { after: "A" })
      yield* alsoInB.count(1)
      yield* inB.count(2)
      expect(inA.received).toEqual(['"from A"'])
      expect(inB.received).toEqual(["from B", '{"after":"A"}'])
      expect((yield* Http.send(`${b.http}/health/ready`)).status).toBe(200)

      // The user's HTTP server can be given another one.
      const again = yield* embed(webA)
      const inAgain = yield* Socket.open(`${again.ws}/channels/public:lobby`)
      inAgain.send("once")
      yield* inAgain.count(1)
      yield* again.close
      expect(inAgain.received).toEqual(["once"])
      expect(listeners(webA)).toEqual(before)
    })
  )

  live("leaves routes and upgrades alone that are not its own", () =>
    Effect.gen(function* () {
      const web = yield* listening("own")
      const seen: Array<string> = []
      const other = yield* Effect.acquireRelease(
        Effect.sync(() => new WebSocketServer({ noServer: true })),
        (server) =>
          Effect.sync(() => {
            for (const ws of server.clients) ws.terminate()
            server.close()
          })
      )
      other.on("connection", (ws) => ws.on("message", (data) => ws.send(`other: ${String(data)}`)))
      web.on("request", (request) => seen.push(request.url ?? ""))
      web.on("upgrade", (request, socket, head) => {
        if (request.url === "/other") other.handleUpgrade(request, socket, head, (ws) => other.emit("connection", ws))
      })
      const server = yield* embed(web)

      const foreign = yield* Socket.open(`${server.ws}/other`)
      const plain = yield* Socket.open(`${server.ws}/channels/public:lobby`)
      foreign.send("hello")
      plain.send("hello")
      yield* foreign.count(1)
      yield* plain.count(1)
      expect(foreign.received).toEqual(["other: hello"])
      expect(plain.received).toEqual(["hello"])

      // `/` is the standalone server's; here it is the user's.
      web.once("request", (_request, response) => response.end("the user's page"))
      expect((yield* Http.send(`${server.http}/`)).body).toBe("the user's page")
      expect((yield* Http.send(`${server.http}/own`)).body).toBe("own")
      expect(seen).toEqual(["/", "/own"])

      yield* server.close
      expect(yield* plain.closed).toEqual({ code: 3001, reason: "shutdown" })
      foreign.send("still here")
      yield* foreign.count(2)
      const late = yield* Socket.open(`${server.ws}/other`)
      late.send("too")
      yield* late.count(1)
      expect(foreign.isClosed()).toBe(false)
      foreign.ws.close()
      late.ws.close()
      yield* eventually(
        Effect.sync(() => other.clients.size),
        (count) => count === 0,
        "the user's sockets are closed"
      )
    })
  )

  live(
    "keeps its paths beside a handler that answers everything and a WebSocketServer that refuses all but its own",
    () =>
      Effect.gen(function* () {
        const web = yield* listening("own")
        web.on("request", (_request, response) => {
          if (!response.writableEnded) response.writeHead(404).end("not found by the framework")
        })
        const other = yield* Effect.acquireRelease(
          Effect.sync(() => new WebSocketServer({ server: web, path: "/other" })),
          (server) =>
            Effect.sync(() => {
              for (const ws of server.clients) ws.terminate()
              server.close()
            })
        )
        other.on("connection", (ws) => ws.send("other"))
        const server = yield* embed(web)
        expect((yield* Http.send(`${server.http}/health/ready`)).status).toBe(200)
        expect((yield* Http.send(`${server.http}/nothing`)).body).toBe("not found by the framework")
        const plain = yield* Socket.open(`${server.ws}/channels/public:lobby`)
        plain.send("through")
        yield* plain.gets("through")
        yield* (yield* Socket.open(`${server.ws}/other`)).gets("other")
        expect((yield* Socket.refusal(`${server.ws}/nothing`)).status).toBe(400)
      })
  )

  live("answers upgrades that nobody owns with 404", () =>
    Effect.gen(function* () {
      const web = yield* listening("own")
      const server = yield* embed(web)
      expect((yield* Socket.refusal(`${server.ws}/nothing`)).status).toBe(404)
    })
  )
})
