/** The resident fiber of a connection: whatever happens while it is awake, it looks again before it parks. */
import { describe, expect, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { Connection } from "../src/Connection.ts"
import type * as Hub from "../src/Hub.ts"
import * as Mailbox from "../src/Mailbox.ts"
import * as Metrics from "../src/Metrics.ts"
import { Outbound } from "../src/Outbound.ts"
import * as Codes from "../src/protocol/Codes.ts"
import * as ServerConfig from "../src/ServerConfig.ts"
import type { Session, Task } from "../src/Session.ts"
import { Watched } from "./support/wait.ts"

/** A connection that is served, on a socket that answers a close frame at once. */
const serve = Effect.gen(function* () {
  const metrics = Context.get(yield* Layer.build(Metrics.layer), Metrics.Metrics)
  const config = Context.get(yield* Layer.build(ServerConfig.layer({})), ServerConfig.ServerConfig)
  const { client } = config
  const mailbox = yield* Mailbox.make(client.queue_max_frames, client.queue_max_size, client.overflow)
  const hub = { touch: () => undefined, giveBack: () => undefined } as unknown as Context.Tag.Service<Hub.Hub>
  const outbound = new Outbound(mailbox, hub, metrics)
  const connection = new Connection("client", "plain", outbound, metrics, config, Effect.runFork)
  const watched = new Watched()
  const socket = { closed: undefined as number | undefined, writes: 0, takes: true }
  const session: Session = {
    kind: "plain",
    receive: () => false,
    pingText: undefined,
    overdue: () => undefined,
    sweep: () => undefined,
    gone: () => undefined,
    close: () => Effect.void
  }
  const fiber = yield* Effect.forkScoped(
    connection.run(
      {
        write: () => {
          socket.writes++
          watched.changed()
          return socket.takes
        },
        isOpen: () => socket.closed === undefined,
        ping: () => undefined,
        close: ({ code }) => {
          socket.closed = code
          setImmediate(() => connection.gone(code))
        },
        terminate: () => undefined,
        pause: () => undefined,
        resume: () => undefined
      },
      session,
      0
    )
  )
  yield* Effect.yieldNow()
  return { connection, fiber, socket, watched }
})

const task = (now: () => void): Task => ({
  lane: "lane",
  exclusive: false,
  isHeavy: false,
  run: () => Effect.die("it is done by `now`"),
  now: (turn) => {
    now()
    turn.done()
    return true
  }
})

describe("Connection, its resident fiber", () => {
  it.scopedLive("ends a connection that is ended in a step of its own, before it parks", () =>
    Effect.gen(function* () {
      const { connection, fiber, socket } = yield* serve
      // The fiber is woken for it, and takes it itself.
      connection.submitLater(task(() => connection.end(Codes.tooManyErrors)))
      yield* Effect.timeoutFail(Fiber.join(fiber), {
        duration: "5 seconds",
        onTimeout: () => new Error("it has parked")
      })
      expect(socket.closed).toBe(3509)
    })
  )

  it.scopedLive("takes what was submitted in a step of its own, before it parks", () =>
    Effect.gen(function* () {
      const { connection, watched } = yield* serve
      const done: Array<string> = []
      const second = task(() => {
        done.push("second")
        watched.changed()
      })
      connection.submitLater(
        task(() => {
          done.push("first")
          connection.submitLater(second)
        })
      )
      yield* watched.until(() => done.length === 2, "both are done", "5 seconds")
      expect(done).toEqual(["first", "second"])
    })
  )

  it.scopedLive("writes what waits once its socket has drained, without anything else that happens", () =>
    Effect.gen(function* () {
      const { connection, socket, watched } = yield* serve
      socket.takes = false
      connection.send("first")
      connection.submitLater(task(() => undefined))
      yield* watched.until(() => socket.writes === 1, "the first is written", "5 seconds")
      connection.send("second")
      expect(connection.backlog).toMatchObject({ frames: 1, isBlocked: true })
      connection.drained()
      yield* watched.until(() => socket.writes === 2, "the second is written", "5 seconds")
      expect(connection.backlog).toMatchObject({ frames: 0 })
    })
  )
})
