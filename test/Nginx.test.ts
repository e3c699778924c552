import { expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { spawn } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { signal } from "./support/child.ts"
import * as Api from "./support/api.ts"
import * as Http from "./support/http.ts"
import * as Matrix from "./support/matrix.ts"
import { freePort } from "./support/redis.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"
import { eventually, Watched } from "./support/wait.ts"

const { isDocumented, row } = Matrix.make(import.meta.url)

/** The configuration that docs/proxies.md shows. */
const DOCUMENTED =
  /```nginx\n([^]*?)```/.exec(readFileSync(new URL("../docs/proxies.md", import.meta.url), "utf8"))?.[1] ?? ""

/** Runs a real nginx with a configuration of its `http` block; tells its port. */
const start = (http: string, upstream: number) =>
  Effect.gen(function* () {
    const port = yield* freePort
    const folder = yield* Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "fanfare-nginx-"))),
      (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
    )
    const kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    const lines = [
      "daemon off; master_process off; pid nginx.pid; error_log stderr warn;",
      "events {}",
      "http {",
      "access_log off;",
      ...kinds.map((kind) => `${kind}_temp_path ${folder}/${kind};`),
      http.replaceAll("127.0.0.1:8000", `127.0.0.1:${upstream}`).replaceAll("127.0.0.1:8080", `127.0.0.1:${port}`),
      "}"
    ]
    writeFileSync(join(folder, "nginx.conf"), lines.join("\n"))
    const watched = new Watched()
    let output = ""
    let ended = false
    const nginx = yield* Effect.acquireRelease(
      Effect.sync(() =>
        spawn(process.env["NGINX_BIN"] ?? "nginx", ["-p", folder, "-c", join(folder, "nginx.conf"), "-e", "stderr"], {
          stdio: ["ignore", "ignore", "pipe"]
        })
      ),
      (child) =>
        Effect.zipRight(
          Effect.sync(() => signal(child, "SIGTERM")),
          Effect.orDie(
            watched.until(
              () => ended,
              () => `nginx ends:\n${output}`
            )
          )
        )
    )
    nginx.stderr.setEncoding("utf8").on("data", (text: string) => {
      output += text
    })
    nginx.on("close", () => {
      ended = true
      watched.changed()
    })
    const origin = `http://127.0.0.1:${port}`
    yield* eventually(
      Effect.option(Http.send(`${origin}/`)),
      (answer) => answer._tag === "Some" || ended,
      "nginx listens"
    )
    if (ended) return yield* Effect.dieMessage(output)
    return { http: origin, ws: `ws://127.0.0.1:${port}` }
  })

/** Without `lines`, which have to be there. */
const without = (...lines: ReadonlyArray<string>): string =>
  lines.reduce((text, line) => {
    expect(text).toContain(line)
    return text.replace(line, "")
  }, DOCUMENTED)

const works = (ws: string) =>
  Effect.gen(function* () {
    const socket = yield* Socket.open(`${ws}/channels/public:lobby`)
    socket.send("through")
    yield* socket.gets("through")
    yield* Socket.open(`${ws}/connection/websocket`)
  })

row(
  "nginx",
  "the configuration of proxies.md: sockets, the page, and the server API on connections that are kept",
  () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config: Api.keyed })
      const nginx = yield* start(DOCUMENTED, server.port)
      yield* works(nginx.ws)
      expect((yield* Http.send(`${nginx.http}/`)).body).toContain("</html>")
      const api = yield* Api.make(nginx.http)
      for (let n = 1; n <= 20; n++) {
        expect(yield* api.result("publish", { channel: "public:kept", data: n })).toMatchObject({ offset: n })
      }
      expect(server.logs.filter((line) => line.includes("refused"))).toEqual([])
    })
)

row("nginx", "headers that are not forwarded, HTTP/1.0: 426, and a line that says what is missing", () =>
  Effect.gen(function* () {
    const server = yield* Server.start()
    const upgrade = "proxy_set_header Upgrade $http_upgrade;"
    const connection = "proxy_set_header Connection $connection_upgrade;"
    const version = "proxy_http_version 1.1;"
    const cases = [
      [without(upgrade), "the request has no header Upgrade"],
      [without(connection), "the header Connection of the request does not name Upgrade"],
      [without(upgrade, connection), "the request has no header Upgrade"],
      // What nginx does by itself.
      [without(upgrade, connection, version), "the request came over HTTP/1.0"]
    ] as const
    for (const [configuration, why] of cases) {
      const nginx = yield* start(configuration, server.port)
      for (const path of ["/connection/websocket", "/channels/public:lobby"]) {
        expect((yield* Socket.refusal(nginx.ws + path)).status).toBe(426)
        expect(server.logs.at(-1)).toContain(
          `refused GET ${path} with 426: ${why}: a WebSocket handshake is needed here`
        )
      }
    }
  })
)

row("nginx", "a path in front that it takes off, one that it leaves, and http_server.handler_prefix", () =>
  Effect.gen(function* () {
    const server = yield* Server.start()
    const at = (location: string, pass: string): string =>
      DOCUMENTED.replace("location / {", `location ${location} {`).replace("http://fanfare;", `http://fanfare${pass};`)
    const strips = yield* start(at("/realtime/", "/"), server.port)
    yield* works(`${strips.ws}/realtime`)
    const leaves = yield* start(at("/realtime/", ""), server.port)
    expect((yield* Socket.refusal(`${leaves.ws}/realtime/connection/websocket`)).status).toBe(404)
    expect(server.logs.at(-1)).toContain('have the proxy in front strip "/realtime", or set http_server.handler_prefix')
    const prefixed = yield* Server.start({ config: { http_server: { handler_prefix: "/realtime" } } })
    const passes = yield* start(at("/realtime/", ""), prefixed.port)
    yield* works(`${passes.ws}/realtime`)
    expect((yield* Http.send(`${passes.http}/realtime/`)).body).toContain("</html>")
  })
)

isDocumented()
