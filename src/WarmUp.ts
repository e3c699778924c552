/**
 * Does a few times, as soon as a server listens, what every client makes it do:
 * connect, subscribe, leave, come back, and recover.
 *
 * V8 compiles a function for what it has seen it do. What is compiled while
 * clients come for the first time is thrown away when thousands of them come
 * back at once, with a position and something missed, and runs uncompiled until
 * it has been compiled anew. Where a few have come back beforehand, it stays.
 *
 * Publications come while nobody is there, but for those whose end the server has
 * not seen yet: those of the broker in process are other objects than those of
 * Redis, and the fan-out is to see one kind.
 *
 * It is done to a server of its own, in this process: on a free port of
 * loopback, without Redis, with its own metrics of clients and messages, and
 * neither logged nor traced. Whoever is on the machine may reach it there while
 * it lasts, as any server on loopback: they may subscribe to what nobody else
 * does, and ask for health, the page and the metrics.
 */
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { constVoid } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import type * as Scope from "effect/Scope"
import { Buffer } from "node:buffer"
import { connect, type Socket } from "node:net"
import * as Hooks from "./Hooks.ts"
import { monotonic } from "./internal/clock.ts"
import { acquire } from "./internal/scope.ts"
import { within } from "./internal/time.ts"
import * as Publisher from "./Publisher.ts"
import * as Server from "./Server.ts"
import * as ServerConfig from "./ServerConfig.ts"

const HOST = "127.0.0.1"

/** With history, so that there is something to recover. */
const NAMESPACE = {
  name: "warm",
  allow_subscribe_for_client: true,
  allow_subscribe_for_anonymous: true,
  history_size: 100,
  history_ttl: "300s",
  force_recovery: true
}

const CHANNELS = ["warm:1", "warm:2", "warm:3", "warm:4"]

/** 48 visits: V8 takes notes of what a function does once it has run a few times. More gain little (docs/decisions/0016). */
const CLIENTS = 16
const RETURNS = 2
/** What each of them has missed when it comes back. */
const MISSED = 5
/** Clients at a time; between their steps those that are real have their turn. */
const AT_A_TIME = 4

/** It should take a fraction of it; a server that is too busy for that is being warmed up by others. */
const LIMIT = Duration.seconds(10)

/** Characters; far more than any answer has. */
const LONGEST_ANSWER = 64 * 1024

/** It could not be done. */
class WarmUpError extends Data.TaggedError("WarmUpError")<{ readonly message: string; readonly cause?: unknown }> {}

interface Position {
  readonly epoch: string
  readonly offset: number
}

const HANDSHAKE = [
  "GET /connection/websocket HTTP/1.1",
  `Host: ${HOST}`,
  "Upgrade: websocket",
  "Connection: Upgrade",
  "Sec-WebSocket-Key: d2FybWluZyB1cCBhIGxvdA==",
  "Sec-WebSocket-Version: 13",
  "\r\n"
].join("\r\n")

/** A text frame of a client, of less than 64 KiB; masked with zeros, which leave it as it is (RFC 6455, section 5.3). */
const frame = (text: string): Buffer => {
  const payload = Buffer.from(text)
  const size = payload.length
  const length = size < 126 ? [0x80 | size] : [0x80 | 126, size >> 8, size & 0xff]
  return Buffer.concat([Buffer.from([0x81, ...length, 0, 0, 0, 0]), payload])
}

/** Sends something, and waits for what answers it. */
const ask = (socket: Socket, bytes: string | Buffer, answer: RegExp): Effect.Effect<RegExpExecArray, WarmUpError> =>
  Effect.async((resume) => {
    let heard = ""
    const ignore = (): void => void socket.off("data", onData).off("close", onClose)
    const end = (result: Effect.Effect<RegExpExecArray, WarmUpError>): void => {
      ignore()
      resume(result)
    }
    const fail = (what: string): void =>
      end(new WarmUpError({ message: `${what} instead of ${answer.source}`, cause: socket.errored ?? undefined }))
    const onData = (data: Buffer): void => {
      heard += data.toString("latin1")
      const found = answer.exec(heard)
      if (found !== null) end(Effect.succeed(found))
      else if (heard.length > LONGEST_ANSWER) fail("more")
    }
    const onClose = (): void => fail("closed")
    if (socket.destroyed) return onClose()
    socket.on("data", onData).on("close", onClose)
    socket.write(bytes)
    return Effect.sync(ignore)
  })

const subscribe = (channel: string, position: Position | undefined): string =>
  JSON.stringify({ id: 2, subscribe: { channel, ...(position && { recover: true, ...position }) } })

const SUBSCRIBED = /"id":2,"subscribe":\{"recoverable":true,"epoch":"([^"]*)"(?:,"offset":(\d+))?/
const RECOVERED = new RegExp(`${SUBSCRIBED.source},"publications":.*"recovered":true`)

/** Connects and subscribes; leaves when the scope closes. Returns where it has got to. */
const visit = (
  port: number,
  channel: string,
  position: Position | undefined
): Effect.Effect<Position, WarmUpError, Scope.Scope> =>
  Effect.gen(function* () {
    const socket = yield* acquire(
      () => connect({ port, host: HOST, noDelay: true }).on("error", constVoid),
      (one) => Effect.sync(() => one.destroy())
    )
    yield* ask(socket, HANDSHAKE, /^HTTP\/1\.1 101 [^]*\r\n\r\n/)
    const commands = `{"id":1,"connect":{}}\n${subscribe(channel, position)}`
    const [, epoch = "", offset = "0"] = yield* ask(
      socket,
      frame(commands),
      position === undefined ? SUBSCRIBED : RECOVERED
    )
    // One that has recovered is told from where; it is past what it has missed.
    return { epoch, offset: Number(offset) + (position === undefined ? 0 : MISSED) }
  })

const rehearse = Effect.gen(function* () {
  const { port } = yield* Server.Address
  const publisher = yield* Publisher.Publisher
  /** All of them are there at the same time, and leave together. */
  const round = (positions: ReadonlyArray<Position | undefined>) =>
    Effect.forEach(positions, (position, index) => visit(port, CHANNELS[index % CHANNELS.length] ?? "", position), {
      concurrency: AT_A_TIME
    }).pipe(Effect.scoped)
  const publish = Effect.forEach(CHANNELS, (channel) => publisher.publish(channel, {}), { discard: true })

  let positions = yield* round(Array.from({ length: CLIENTS }))
  for (let time = 0; time < RETURNS; time++) {
    yield* Effect.replicateEffect(publish, MISSED)
    positions = yield* round(positions)
  }
})

interface Deno {
  readonly permissions: {
    readonly querySync: (permission: { readonly name: "net"; readonly host: string }) => { readonly state: string }
  }
}

/** Deno asks on the terminal for a port that it has no permission for, or throws where nothing can catch it. */
const mayListen = (): boolean => {
  const { Deno } = globalThis as unknown as { readonly Deno?: Deno }
  return Deno === undefined || Deno.permissions.querySync({ name: "net", host: HOST }).state === "granted"
}

const CONFIG = {
  host: HOST,
  port: 0,
  // Those of a round may not all have left when the next one comes.
  client: { connection_limit: 2 * CLIENTS },
  channel: { namespaces: [NAMESPACE] },
  shutdown: { timeout: "1s" }
}

const server = Effect.suspend(() => ServerConfig.load(CONFIG)).pipe(
  Effect.map(({ config }) =>
    Server.layerStandalone.pipe(
      Layer.provide(Hooks.layerConfig),
      Layer.provide(Layer.succeed(ServerConfig.ServerConfig, config))
    )
  )
)

/**
 * Warms this process up. Takes as much CPU as the start of the program, a quarter to
 * half a second: a third of it to start the server, the rest in small steps; the
 * event loop goes on in between.
 * Nothing is left of it but 5 MB of what V8 has learned. Never fails: where it
 * cannot be done, as without the right to listen, the log says so, at the level
 * debug. An interrupt waits until its server is closed, at most 3 s.
 */
export const run: Effect.Effect<void> = Effect.gen(function* () {
  if (!mayListen()) return yield* new WarmUpError({ message: `no permission for the network at ${HOST}` })
  const began = yield* monotonic
  yield* Effect.provide(rehearse, Layer.unwrapEffect(server)).pipe(
    Logger.withMinimumLogLevel(LogLevel.None),
    Effect.withTracerEnabled(false),
    within(LIMIT, () => new WarmUpError({ message: `took more than ${Duration.format(LIMIT)}` }))
  )
  yield* Effect.logDebug(`warmed up in ${Math.round((yield* monotonic) - began)} ms`)
}).pipe(Effect.catchAllCause((cause) => Effect.logDebug("not warmed up", cause)))
