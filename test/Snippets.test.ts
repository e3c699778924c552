import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { execFileSync } from "node:child_process"
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { afterAll, it } from "vitest"
import type * as ServerConfig from "../src/ServerConfig.ts"
import * as Fences from "./support/fences.ts"
import * as Http from "./support/http.ts"
import { live } from "./support/it.ts"
import * as Program from "./support/program.ts"
import * as Redis from "./support/redis.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"
import { KEY, token } from "./support/tokens.ts"

const ROOT = fileURLToPath(new URL("..", import.meta.url))

/** Within the repository, so that snippets find the packages that they import; the package itself by its own name. */
const FOLDER = join(ROOT, "reports", "snippets")

mkdirSync(FOLDER, { recursive: true })
afterAll(() => rmSync(FOLDER, { recursive: true, force: true }))

const packageJson = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
  readonly scripts: Readonly<Record<string, string>>
}

// ── What is tested where ─────────────────────────────────────────────────────

/** Commands that run as they are printed, but for their ports, and the test that does it. */
const RUN: ReadonlyArray<readonly [RegExp, string]> = [
  [/^(\w+=\S+ )*npm start$/, "below: servers that are started as printed"],
  [/^curl .*$/, "below, and ServerApiDocs.test.ts"],
  [/^npm run example$/, "below"],
  [/^npm ci && npm start$/, "FreshClone.test.ts"],
  [/^npm ci && deno task start$/, "Deno.test.ts"],
  [/^npm i (fanfare|\.\/fanfare-0\.1\.0\.tgz) effect@3 /, "Package.test.ts"],
  [/^npx esbuild embedded\.ts /, "Package.test.ts"],
  [/^node embedded\.[cm]js$/, "Package.test.ts"],
  [/^npm ci && npm test$/, "this is it"],
  [/^npm run ok$/, "its parts are commands of the gate"],
  [/^npm run test:chaos( -- --.*)?$/, ".ci/run, and Chaos.test.ts for 20 seconds"],
  [/^npm run test:reference$/, "Reference.test.ts plays its cases to Fanfare alone"]
]

/** Commands that need what a machine for tests has not: only their ports are compared with what stands beside them. */
const DOCKER = /^docker run --rm (?:-p (\d+):\1 ?)+\S+$/

/** The start of each snippet in JavaScript that a test below runs. */
const SNIPPETS: ReadonlyArray<readonly [file: string, text: string]> = [
  ["README.md", "/channels/public:lobby"],
  ["README.md", "new Centrifuge("],
  ["docs/sdks.md", "new Centrifuge("],
  ["docs/sdks.md", "SignJWT"],
  ["docs/coming-from-socket-io.md", "new Centrifuge("],
  ["docs/coming-from-socket-io.md", 'app.post("/say"']
]

const isSnippet = ({ code, file, language }: Fences.Block, [inFile, text]: (typeof SNIPPETS)[number]): boolean =>
  language === "js" && file === inFile && code.includes(text)

/** Whether something checks a block; by its language, so that a block in a new one is noticed. */
const isChecked = (block: Fences.Block): boolean => {
  switch (block.language) {
    // What is printed, and diagrams.
    case "text":
      return true
    case "sh":
      return Fences.commands(block).every(
        (command) => DOCKER.test(command) || RUN.some(([pattern]) => pattern.test(command))
      )
    case "js":
      return Fences.isForeign(block) || SNIPPETS.some((snippet) => isSnippet(block, snippet))
    // DocsExamples.test.ts: compiled; loaded as a configuration, or the answer and log line of a test.
    case "ts":
    case "json":
      return true
    case "yaml":
      return block.file === "docs/metrics.md"
    case "nginx":
      // Host.test.ts and Nginx.test.ts run them.
      return block.file === "docs/configuration.md" || block.file === "docs/proxies.md"
    default:
      return false
  }
}

const snippet = (file: string, text: string): string => {
  const found = Fences.blocks.filter((block) => isSnippet(block, [file, text]))
  if (found.length !== 1) throw new Error(`${file} has ${found.length} snippets with ${text}`)
  return found[0]?.code ?? ""
}

/** The only command of a file that a pattern matches. */
const command = (file: string, pattern: RegExp): string => {
  const all = Fences.blocks.filter((block) => block.file === file && block.language === "sh").flatMap(Fences.commands)
  const found = all.filter((one) => pattern.test(one))
  if (found.length !== 1) throw new Error(`${file} has ${found.length} commands like ${pattern.source}`)
  return found[0] ?? ""
}

describe("every block of README.md and docs", () => {
  it("is run, compiled or checked by a test", () => {
    const unchecked = Fences.blocks.filter((block) => !isChecked(block))
    expect(unchecked.map(({ code, file, line }) => `${file}:${line} ${code.split("\n")[0]}`)).toEqual([])
    expect(Fences.blocks.length).toBeGreaterThan(50)
  })

  it("names what another product takes by a comment, and that is valid all the same", () => {
    const foreign = Fences.blocks.filter((block) => block.language === "js" && Fences.isForeign(block))
    expect(foreign.length).toBe(2)
    for (const [index, { code }] of foreign.entries()) {
      const file = join(FOLDER, `foreign-${index}.mjs`)
      writeFileSync(file, code)
      execFileSync(process.execPath, ["--check", file])
    }
  })

  it("has the port of the server that the next command talks to, where Docker runs it", () => {
    expect(command("README.md", /^docker/)).toContain(" 6379:6379 ")
    for (const one of Fences.blocks.flatMap(Fences.commands).filter((line) => line.includes("REDIS_URL="))) {
      expect(one).toContain("REDIS_URL=redis://127.0.0.1:6379 ")
    }
    expect(command("docs/logs-and-traces.md", /^docker/)).toContain(" 4318:4318 ")
    expect(command("docs/logs-and-traces.md", /npm start/)).toContain("http://localhost:4318 ")
  })

  it("in YAML is a configuration of Prometheus", () => {
    const [block, ...more] = Fences.blocks.filter(({ language }) => language === "yaml")
    expect(more).toEqual([])
    const file = join(FOLDER, "prometheus.yml")
    writeFileSync(file, block?.code ?? "")
    const said = execFileSync(process.env["PROMTOOL_BIN"] ?? "promtool", ["check", "config", file], {
      encoding: "utf8"
    })
    expect(said).toContain("SUCCESS")
  })

  it("calls scripts of package.json that there are", () => {
    const scripts = Fences.blocks
      .filter(({ language }) => language === "sh")
      .flatMap(Fences.commands)
      .flatMap((line) =>
        Array.from(line.matchAll(/npm (?:run ([\w:]+)|(start|test))\b/g), ([, run, name]) => run ?? name)
      )
    expect(scripts.filter((name) => name === undefined || !(name in packageJson.scripts))).toEqual([])
    expect(packageJson.scripts["ok"]).toBeDefined()
  })
})

/** Commands within lines of text, and the test that runs them; `undefined`: they do not end, or install what is there. */
const INLINE: ReadonlyArray<readonly [RegExp, string | undefined]> = [
  [/^node hello\.mjs$/, "below"],
  [/^npm i centrifuge ws$/, "the packages are those that the snippets below import"],
  [/^npm start -- --config fanfare\.json$/, "below"],
  [/^node dist\/main\.js token --user ada --config fanfare\.json$/, "below"],
  [/^node (--enable-source-maps )?dist\/main\.js( token(, with `--channel`)?)?( --help)?$/, "Entry and Token tests"],
  [/^npm (ci|start|pack|test|ci && npm (start|test))$/, "as in blocks; Package.test.ts packs"],
  [/^npm run (ok|check|bench\S*|example)$/, undefined],
  [/^npm run test:(jitter|reference( -- --write)?)$/, undefined],
  [/^npm install @effect\/opentelemetry$/, undefined],
  [/^deno task( start| test)?$/, "Deno.test.ts"],
  // In decision records, about the runtime.
  [/^deno (lint|check)$/, undefined]
]

const inlineCommands = Fences.files
  .flatMap((file) => Array.from(readFileSync(join(ROOT, file), "utf8").matchAll(/`((?:npm|npx|node|deno) [^`\n]*)`/g)))
  .map(([, text = ""]) => text)

describe("every command within a line of text", () => {
  it("is known, and calls a script that there is", () => {
    const unknown = inlineCommands.filter((one) => !INLINE.some(([pattern]) => pattern.test(one)))
    expect(unknown).toEqual([])
    const scripts = inlineCommands.flatMap((one) => Array.from(one.matchAll(/npm run (\S+)/g), ([, name = ""]) => name))
    expect(scripts.filter((name) => !(name in packageJson.scripts))).toEqual([])
    expect(inlineCommands.length).toBeGreaterThan(10)
  })

  live("with --config runs with the file of the page that it stands on", () =>
    Effect.gen(function* () {
      const file = yield* Program.temporaryFile(
        "fanfare.json",
        JSON.stringify(configuration("docs/permissions.md", '"room"'))
      )
      const named = (text: string): string => text.replace("fanfare.json", file)
      const server = yield* started(named(inlineCommands.find((one) => one.startsWith("npm start -- ")) ?? ""))
      const signed = printed(named(inlineCommands.find((one) => one.includes("token --user ada")) ?? ""))
      const page = yield* script(
        "token-page.mjs",
        [
          'import { Centrifuge } from "centrifuge"',
          PAGE,
          `const options = { token: ${JSON.stringify(signed.trim())} }`,
          `const client = new Centrifuge("${server.ws}/connection/websocket", options)`,
          'client.on("connected", () => console.log("connected")).connect()'
        ].join("\n")
      )
      yield* page.says("connected")
    })
  )
})

// ── What is run ──────────────────────────────────────────────────────────────

/** Puts other ports in the place of those that are printed. */
const at = (text: string, ports: Readonly<Record<number, number>>): string =>
  Object.entries(ports).reduce(
    (all, [printed, port]) => all.replaceAll(new RegExp(`\\b${printed}\\b`, "g"), `${port}`),
    text
  )

/** Starts a server by a command line, as a shell does; it is killed with all that it started when the scope closes. */
const started = (line: string, env: Readonly<Record<string, string>> = {}) =>
  Effect.gen(function* () {
    const run = { command: "setsid", args: ["sh", "-c", line] }
    const program = yield* Program.start({ run, cwd: ROOT, env })
    yield* Effect.addFinalizer(() => Effect.ignore(Effect.try(() => process.kill(-program.pid, "SIGKILL"))))
    return program
  })

/** Runs a snippet as a file, by this Node. */
const script = (name: string, code: string, env: Readonly<Record<string, string>> = {}) => {
  writeFileSync(join(FOLDER, name), code)
  return Program.spawnProgram({ run: { command: process.execPath, args: [name] }, cwd: FOLDER, env })
}

/** What a shell prints of a command. */
const printed = (line: string): string =>
  execFileSync("sh", ["-c", line.replace(/^curl /, "curl -sS ")], { cwd: ROOT, encoding: "utf8" })

/** What a page has that Node 20 has not. */
const PAGE = 'import Socket from "ws"\nglobalThis.WebSocket = Socket\n'

describe("README.md", () => {
  live("its server, clients and curl work as printed, and the server says that it is alone", () =>
    Effect.gen(function* () {
      const server = yield* started(command("README.md", /^FANFARE_HTTP_API_KEY/))
      yield* server.says("connected to no other instance")
      const ports = { 8000: server.port }
      const hello = at(snippet("README.md", "/channels/public:lobby"), ports)
      const one = yield* script("hello.mjs", hello)
      yield* one.says("hello\n")
      const other = yield* script("hello.mjs", hello)
      yield* one.says("hello\nhello\n")
      yield* other.says("hello\n")
      const sdk = yield* script("sdk.mjs", at(snippet("README.md", "new Centrifuge("), ports))
      yield* sdk.says("{ hello: 'world' }")
      const answer = printed(at(command("README.md", /^curl/), ports))
      expect(JSON.parse(answer)).toMatchObject({ result: { offset: 4 } })
      yield* sdk.says("{ hello: 'world' }\n{ hello: 'world' }")
      yield* one.says('{"hello":"world"}\n{"hello":"world"}')
    })
  )

  live("its first snippet runs in a browser's global scope without its first line", () =>
    Effect.gen(function* () {
      const server = yield* Server.start()
      const [first, ...rest] = at(snippet("README.md", "/channels/public:lobby"), { 8000: server.port }).split("\n")
      expect(first).toMatch(/^import WebSocket from "ws" \/\/ without this line in a browser/)
      const page = yield* script("page.mjs", `${PAGE}${rest.join("\n")}`)
      yield* page.says("hello\n")
    })
  )

  live("its two instances talk to each other through a Redis", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const ports = { 6379: redis.port, 8001: yield* Redis.freePort }
      const commands = [/^REDIS_URL=\S+ npm start$/, /^REDIS_URL=\S+ PORT=8001 npm start$/]
      const [first, second] = yield* Effect.forEach(commands, (pattern) =>
        started(at(command("README.md", pattern), ports))
      )
      if (first === undefined || second === undefined) return yield* Effect.dieMessage("two instances")
      expect(second.port).toBe(ports[8001])
      for (const one of [first, second]) {
        yield* one.says("broker live")
        yield* one.says("connected are the instances that have the same")
      }
      const here = yield* Socket.open(`${first.ws}/channels/public:lobby`)
      const there = yield* Socket.open(`${second.ws}/channels/public:lobby`)
      here.send("across")
      yield* there.gets("across")
    })
  )

  live("its example starts, and answers at the address that it prints", () =>
    Effect.gen(function* () {
      expect(command("README.md", /example/)).toBe("npm run example")
      const [build, ...rest] = (packageJson.scripts["example"] ?? "").split(" && ")
      // `dist` is there, and other tests run it.
      expect(build).toBe("npm run build")
      const bin = join(ROOT, "node_modules", ".bin")
      const line = rest.join(" && ").replaceAll("reports/embedded.js", "reports/snippets/embedded.js")
      const env = { PORT: String(yield* Redis.freePort), PATH: `${bin}:${process.env["PATH"]}` }
      const program = yield* started(line, env)
      const page = yield* Http.send(`${program.http}/`)
      expect([page.status, page.body]).toEqual([200, expect.stringContaining("/hello")])
      expect((yield* Http.send(`${program.http}/nothing`)).status).toBe(404)
    })
  )
})

describe("docs/server-api.md", () => {
  live("its servers start as printed, and answer the commands beside them", () =>
    Effect.gen(function* () {
      const file = "docs/server-api.md"
      const open = yield* started(command(file, /^FANFARE_HTTP_API_KEY=secret npm start$/))
      const answer = printed(at(command(file, /public:lobby/), { 8000: open.port }))
      expect(JSON.parse(answer)).toMatchObject({ result: { offset: 1 } })
      const ports = { 9000: yield* Redis.freePort }
      const divided = yield* started(at(command(file, /INTERNAL_PORT/), ports))
      expect(JSON.parse(printed(at(command(file, /:9000/), ports)))).toMatchObject({ status: "ok" })
      expect((yield* Http.send(`${divided.http}/health/ready`)).status).toBe(404)
    })
  )
})

describe("docs/logs-and-traces.md", () => {
  live("its server starts as printed", () =>
    Effect.gen(function* () {
      const ports = { 4318: yield* Redis.freePort }
      const server = yield* started(at(command("docs/logs-and-traces.md", /npm start/), ports))
      expect((yield* Http.send(`${server.http}/health/live`)).status).toBe(200)
    })
  )
})

/** A page's own back end, which signs tokens with the snippet of docs/sdks.md. */
const backEnd = (env: Readonly<Record<string, string>>) =>
  Effect.gen(function* () {
    writeFileSync(join(FOLDER, "token.mjs"), snippet("docs/sdks.md", "SignJWT"))
    const signed = (args: ReadonlyArray<string>): string =>
      execFileSync(
        process.execPath,
        [
          "--input-type=module",
          "--eval",
          `import { token } from "./token.mjs"; process.stdout.write(await token(...${JSON.stringify(args)}))`
        ],
        { cwd: FOLDER, encoding: "utf8", env: { ...process.env, ...env } }
      )
    const server = yield* Effect.acquireRelease(
      Effect.async<ReturnType<typeof createServer>>((resume) => {
        const http = createServer(({ url = "" }, response) => {
          const channel = new URL(url, "http://localhost").searchParams.get("channel")
          response.end(signed(channel === null ? ["ada"] : ["ada", channel]))
        })
        http.listen(0, "127.0.0.1", () => resume(Effect.succeed(http)))
      }),
      (http) =>
        Effect.async<void>((resume) => {
          http.close(() => resume(Effect.void))
          http.closeAllConnections()
        })
    )
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  })

/** The only configuration of a file that contains a text. */
const configuration = (file: string, text: string): ServerConfig.Input => {
  const found = Fences.blocks.find((one) => one.file === file && one.language === "json" && one.code.includes(text))
  return JSON.parse(found?.code ?? "") as ServerConfig.Input
}

describe("docs/sdks.md", () => {
  live("its page connects and publishes with the tokens that its back end signs", () =>
    Effect.gen(function* () {
      const config = configuration("docs/permissions.md", '"room"')
      const { client } = config as { readonly client: { readonly token: { readonly hmac_secret_key: string } } }
      const server = yield* Server.start({ config })
      const origin = yield* backEnd({ TOKEN_SECRET: client.token.hmac_secret_key })
      const fetches = `const fetchAny = fetch\nglobalThis.fetch = (url) => fetchAny(new URL(url, "${origin}"))\n`
      const code = at(snippet("docs/sdks.md", "new Centrifuge("), { 8000: server.port })
      const page = yield* script("sdks.mjs", `${PAGE}${fetches}${code}\nconsole.log("published")`)
      yield* page.says("connected as")
      yield* page.says("ada { hello: 'world' }")
      yield* page.says("published")
    })
  )
})

describe("docs/coming-from-socket-io.md", () => {
  const FILE = "docs/coming-from-socket-io.md"

  live("its page sends what is submitted, and shows who said it; its back end publishes", () =>
    Effect.gen(function* () {
      const secret = { token: { hmac_secret_key: KEY } }
      const rooms = configuration(FILE, '"chat"') as {
        readonly channel: { readonly namespaces: ReadonlyArray<object> }
      }
      const [room] = rooms.channel.namespaces
      const namespaces = [{ ...room, allow_publish_for_subscriber: true }]
      const server = yield* Server.start({
        config: { client: secret, http_api: { key: "k" }, channel: { namespaces } }
      })
      const ports = { 8000: server.port }
      const globals = [
        `globalThis.token = ${JSON.stringify(token({ sub: "ada" }))}`,
        'globalThis.form = { text: { value: "typed" } }',
        "globalThis.show = (user, text) => console.log(user, text)"
      ]
      const submit = 'lobby.on("subscribed", () => form.onsubmit())'
      const page = [PAGE, ...globals, at(snippet(FILE, "new Centrifuge("), ports), submit].join("\n")
      const browser = yield* script("page-of-socket-io.mjs", page)
      yield* browser.says("ada typed")

      const express = [
        "globalThis.save = async () => {}",
        "const request = { body: { room: 'lobby', text: 'posted' }, user: 'bob' }",
        "globalThis.app = { post: (path, handle) => handle(request, { end: () => console.log('answered', path) }) }"
      ]
      const env = { FANFARE_HTTP_API_KEY: "k" }
      const code = [...express, at(snippet(FILE, "app.post("), ports)].join("\n")
      yield* (yield* script("express.mjs", code, env)).says("answered /say")
      const read = yield* Http.send(`${server.http}/api/history`, {
        method: "POST",
        headers: { "X-API-Key": "k" },
        body: '{"channel":"chat:lobby","limit":10}'
      })
      expect(read.body).toContain('"data":{"user":"bob","text":"posted"}')
    })
  )
})
