import { describe, expect } from "@effect/vitest"
import * as Arr from "effect/Array"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { copyFileSync, cpSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, it } from "vitest"
import * as Fanfare from "../src/index.ts"
import * as Http from "./support/http.ts"
import { live } from "./support/it.ts"
import * as Matrix from "./support/matrix.ts"
import * as Packed from "./support/packed.ts"
import * as Program from "./support/program.ts"
import { freePort } from "./support/redis.ts"
import * as Sdk from "./support/sdk.ts"
import * as Socket from "./support/socket.ts"

const EXAMPLE = join(Packed.ROOT, "examples", "embedded.ts")

const filesIn = (folder: string): ReadonlyArray<string> =>
  readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((path) => statSync(join(folder, path)).isFile())

let installed: Packed.Installed

beforeAll(async () => {
  installed = await Packed.install()
}, 120_000)

afterAll(() => rmSync(installed.folder, { recursive: true, force: true }))

/** Compiles files in the folder of the app; rejects with what the compiler found. */
const tsc = (...args: ReadonlyArray<string>): Promise<string> =>
  Packed.run(
    installed.app,
    process.execPath,
    join(installed.app, "node_modules", "typescript", "bin", "tsc"),
    "--strict",
    "--noEmitOnError",
    "--target",
    "es2023",
    "--types",
    "node",
    ...args
  )

describe("the package, in an empty folder", () => {
  it("has what it needs and no more, and shares effect with the program around it", () => {
    const packed = join(installed.app, "node_modules", "fanfare")
    const [own, nested] = Arr.partition(filesIn(packed), (path) => path.startsWith("node_modules"))
    expect(own).toContain(join("dist", "main.js"))
    expect(own).toContain(join("dist", "index.d.ts"))
    const expected = /^(dist\W.*|package\.json|[A-Z]+(\.md)?)$/
    expect(own.filter((path) => !expected.test(path) || /\btest\b/i.test(path))).toEqual([])
    expect(own.filter((path) => readFileSync(join(packed, path), "utf8").includes(Packed.ROOT))).toEqual([])
    // Two copies of effect would have two of each tag.
    expect(nested.filter((path) => path.startsWith(join("node_modules", "effect")))).toEqual([])
  })

  live(
    "type-checks and runs examples/embedded.ts",
    () =>
      Effect.gen(function* () {
        expect(readFileSync(EXAMPLE, "utf8").trimEnd().split("\n").length).toBeLessThanOrEqual(25)
        cpSync(EXAMPLE, join(installed.app, "embedded.ts"))
        // Without skipLibCheck: the declarations of the package hold, too.
        yield* Effect.promise(() => tsc("--module", "nodenext", "embedded.ts"))

        const program = yield* Program.start({
          run: { command: process.execPath, args: ["embedded.js"] },
          cwd: installed.app,
          env: { PORT: String(yield* freePort) }
        })
        const route = yield* Http.send(`${program.http}/hello`)
        expect([route.status, route.body]).toEqual([200, "a route of my own\n"])
        expect((yield* Http.send(`${program.http}/`)).status).toBe(200)
        expect((yield* Http.send(`${program.http}/nothing`)).status).toBe(404)
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
    60_000
  )
})

/** The commands of docs/bundling.md that make a bundle, by the format that they name. */
const bundling = (format: string): string => {
  const text = readFileSync(join(Packed.ROOT, "docs", "bundling.md"), "utf8")
  const found = new RegExp(`^npx (esbuild .*--format=${format}.*)$`, "m").exec(text)?.[1]
  if (found === undefined) throw new Error(`docs/bundling.md has no command for ${format}`)
  return found
}

/** A server of its own, which is prepared as the program prepares itself. */
const STANDALONE = `
import { Effect, Layer, Logger, LogLevel } from "effect"
import { Hooks, Server, ServerConfig, WarmUp } from "fanfare"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"

const { PORT, TRACES: endpoint } = process.env
const config = ServerConfig.layer({ port: Number(PORT), telemetry: { otlp: { endpoint } } })
const served = Effect.provide(Server.launch, Layer.provideMerge(Hooks.layerConfig, config))
NodeRuntime.runMain(Logger.withMinimumLogLevel(Effect.zipRight(WarmUp.run, served), LogLevel.Debug))
`

const { isDocumented, row } = Matrix.make(import.meta.url)

describe.each(["cjs", "esm"])("a program that is bundled with esbuild as docs/bundling.md says, %s", (format) => {
  /** Bundles a program and starts it in a folder that has nothing else. */
  const bundled = (name: string, ...more: ReadonlyArray<string>) =>
    Effect.gen(function* () {
      const [, output = ""] = /--outfile=(\S+)/.exec(bundling(format)) ?? []
      const command = bundling(format).replaceAll("embedded", name)
      const file = output.replace("embedded", name)
      const path = `${join(Packed.ROOT, "node_modules", ".bin")}:${process.env["PATH"]}`
      const line = [command, "--log-level=warning", ...more].join(" ")
      const said = yield* Effect.promise(() =>
        Packed.run(installed.app, "env", `PATH=${path}`, "sh", "-c", `${line} 2>&1`)
      )
      const alone = join(installed.folder, `${format}-${name}`)
      mkdirSync(alone)
      copyFileSync(join(installed.app, file), join(alone, file))
      const options = { run: { command: process.execPath, args: [file] }, cwd: alone }
      const program = yield* Program.start({ ...options, env: { PORT: String(yield* freePort) } })
      return { program, said, options }
    })

  row(`esbuild, ${format}`, "an embedded server, bundled and run in an empty folder", () =>
    Effect.gen(function* () {
      cpSync(EXAMPLE, join(installed.app, "embedded.ts"))
      const { program, said } = yield* bundled("embedded")
      expect(said).toBe("")
      expect((yield* Http.send(`${program.http}/hello`)).body).toBe("a route of my own\n")
      const clock = yield* Socket.open(`${program.ws}/channels/public:clock`)
      yield* clock.gets('{"now":')
      const client = yield* Sdk.connect(program.ws)
      const lobby = yield* Sdk.subscribe(client, "public:lobby")
      const reader = yield* Socket.open(`${program.ws}/channels/public:lobby`)
      yield* Effect.promise(() => lobby.publish({ text: "news" }))
      yield* reader.gets('{"text":"news"}')
      client.disconnect()
      program.signal("SIGTERM")
      expect(yield* program.exit).toEqual({ code: 0, signal: null })
    })
  )

  row(`esbuild, ${format}`, "Server.launch, minified, with its warm-up and its page", () =>
    Effect.gen(function* () {
      writeFileSync(join(installed.app, "standalone.ts"), STANDALONE)
      const { options, program } = yield* bundled("standalone", "--minify")
      yield* program.says("warmed up in")
      const page = yield* Http.send(`${program.http}/`)
      expect(page.status).toBe(200)
      expect(page.body).toBe(readFileSync(join(Packed.ROOT, "src", "http", "page.html"), "utf8"))
      program.signal("SIGTERM")
      yield* program.exit
      expect(program.output()).not.toContain("not warmed up")
      // The optional package was not there to be bundled, and is not here.
      const traced = yield* Program.spawnProgram({ ...options, env: { PORT: "0", TRACES: "http://localhost:4318" } })
      expect((yield* traced.exit).code).toBe(1)
      expect(traced.output()).toContain("npm install @effect/opentelemetry")
    })
  )
})

isDocumented()

const MODULES = new Map<string, unknown>(Object.entries(Fanfare))

/** The values that a module of the library exports, by name. */
const valuesOf = (namespace: string): ReadonlyArray<readonly [string, unknown]> => {
  const exported = MODULES.get(namespace)
  return typeof exported === "object" && exported !== null ? Object.entries(exported) : []
}

/**
 * What a consumer that emits declarations may make of an exported value: the
 * compiler has to write down its type, and the types of all that it returns.
 */
const uses = (namespace: string, [name, value]: readonly [string, unknown]): ReadonlyArray<string> => {
  const path = `${namespace}.${name}`
  const one = `${namespace}_${name}`
  const lines = [`export const ${one} = ${path}`]
  if (Context.isTag(value)) {
    lines.push(`export const ${one}_service = Effect.map(${path}, (service) => ({ ...service }))`)
    lines.push(`export class ${one}_mine { constructor(readonly service: Context.Tag.Service<${path}>) {} }`)
  }
  if (Layer.isLayer(value)) {
    lines.push(`export const ${one}_merged = Layer.merge(${path}, mine)`)
    lines.push(`export const ${one}_built = Layer.build(Layer.merge(${path}, mine))`)
  }
  const isFunction = typeof value === "function" && !Context.isTag(value) && !/^class\b/.test(String(value))
  if (isFunction) {
    lines.push(`export const ${one}_called = (...args: Parameters<typeof ${path}>) => ${path}(...args)`)
  }
  return lines
}

/** The examples, and members of services as programs call them. */
const CALLED = [
  'export const published = Effect.flatMap(Publisher.Publisher, (_) => _.publish("public:a", 1))',
  'export const present = Effect.flatMap(Presence.Presence, (_) => _.list("public:a", 1000))',
  'export const counted = Effect.flatMap(Presence.Presence, (_) => _.stats("public:a"))',
  'export const read = Effect.flatMap(Broker.Broker, (_) => _.publish("public:a", { data: "1", json: true }, {}))',
  "export const nodes = Effect.flatMap(Cluster.Cluster, (_) => _.nodes)",
  "export const rest = Effect.map(Layer.build(Server.layer), Context.omit(Broker.Broker))",
  "export const hooks = { ...Effect.runSync(Effect.provide(Hooks.Hooks, built)) }"
]

describe("a program that emits its declarations", () => {
  it.each(["nodenext", "bundler"])(
    "can use all that is exported: each type has a name that it can import, %s",
    async (resolution) => {
      const namespaces = Array.from(MODULES.keys()).filter((name) => valuesOf(name).length > 0)
      expect(namespaces).toContain("Publisher")
      const source = [
        'import { Context, Effect, Layer } from "effect"',
        `import { ${namespaces.join(", ")} } from "fanfare"`,
        'class Mine extends Context.Tag("Mine")<Mine, number>() {}',
        "const mine = Layer.succeed(Mine, 1)",
        "const built = Layer.provide(Hooks.layerConfig, Layer.orDie(ServerConfig.layer()))",
        ...namespaces.flatMap((namespace) => valuesOf(namespace).flatMap((entry) => uses(namespace, entry))),
        ...CALLED
      ].join("\n")
      writeFileSync(join(installed.app, "library.ts"), source)
      const module = resolution === "bundler" ? "esnext" : "nodenext"
      const out = `declarations-${resolution}`
      const how = `--module ${module} --moduleResolution ${resolution} --skipLibCheck --declaration --emitDeclarationOnly`
      await tsc(...how.split(" "), "--outDir", out, "library.ts")
      // What was written down names the library as a consumer does, and no file of it.
      const emitted = readFileSync(join(installed.app, out, "library.d.ts"), "utf8")
      expect(emitted).toContain("Position")
      expect(emitted).not.toMatch(/fanfare\/dist/)
    },
    60_000
  )
})
