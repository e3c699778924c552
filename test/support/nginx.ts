/** A real nginx of a test's own, before a server of the same machine. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { connect } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Program from "./program.ts"
import { freePort } from "./redis.ts"
import { eventually } from "./wait.ts"

const configuration = (folder: string, port: number, location: string): string => `
daemon off;
master_process off;
pid ${folder}/pid;
error_log stderr;
events {}
http {
  access_log off;
  ${["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((of) => `${of}_temp_path ${folder};`).join(" ")}
  server {
    listen 127.0.0.1:${port};
    ${location}
  }
}
`

const answers = (port: number): Effect.Effect<boolean> =>
  Effect.async((resume) => {
    const socket = connect(port, "127.0.0.1")
    const end = (isThere: boolean) => () => {
      socket.destroy()
      resume(Effect.succeed(isThere))
    }
    socket.on("connect", end(true)).on("error", end(false))
  })

/** A location that passes everything on to a port of this machine, WebSockets as well, with more directives. */
export const location = (upstream: number, directives: string): string => `location / {
  proxy_pass http://127.0.0.1:${upstream};
  proxy_http_version 1.1;
  proxy_set_header Upgrade $http_upgrade;
  proxy_set_header Connection "upgrade";
  ${directives}
}`

/** Starts one with a server of this location on a free port of 127.0.0.1; returns the port. */
export const start = (served: string): Effect.Effect<number, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const folder = yield* Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "fanfare-nginx-"))),
      (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
    )
    const port = yield* freePort
    const file = join(folder, "nginx.conf")
    writeFileSync(file, configuration(folder, port, served))
    const run = { command: process.env["NGINX_BIN"] ?? "nginx", args: ["-p", folder, "-c", file] }
    const { output } = yield* Program.spawnProgram({ run })
    yield* eventually(
      Effect.map(answers(port), (isThere) => isThere || output()),
      (isThere) => isThere === true,
      "nginx listens"
    )
    return port
  })
