// Fanfare inside a program of your own: npm run example
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Effect, Layer, Schedule } from "effect"
import { Hooks, Publisher, Server, ServerConfig } from "fanfare"
import { createServer } from "node:http"
const web = createServer(({ url }, response) => {
  response.statusCode = url === "/" || url === "/hello" ? 200 : 404
  response.end(url === "/hello" ? "a route of my own\n" : "try /hello, or node hello.mjs of README.md\n")
})
const hooks = Hooks.layer({
  // Here your database handles the record: save it, and let it through or reject it.
  onPublish: ({ data }) =>
    data.includes("spam") ? Effect.fail(new Hooks.Rejected({ code: 400, message: "no spam" })) : Effect.void
})
const fanfare = Server.layer.pipe(
  Layer.provide([hooks, Layer.succeed(Server.HttpServer, web)]),
  Layer.provideMerge(ServerConfig.layer({ port: Number(process.env["PORT"] ?? 8000) }))
)
const program = Effect.gen(function* () {
  const { host, port } = yield* ServerConfig.ServerConfig
  web.listen(port, host, () => process.stdout.write(`listening on http://${host}:${port}\n`))
  const clock = Effect.flatMap(Publisher.Publisher, (_) => _.publish("public:clock", { now: new Date() }))
  yield* Effect.repeat(Effect.ignoreLogged(clock), Schedule.spaced("1 second")) // until a signal interrupts it
})
NodeRuntime.runMain(Effect.provide(program, fanfare))
