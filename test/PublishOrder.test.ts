/** What one connection publishes in one burst, while its publishes do not wait for each other's answers; with and without a tracer. */
import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Hooks from "../src/Hooks.ts"
import { clusters } from "./support/clusters.ts"
import { channel, raw } from "./support/history.ts"
import { live } from "./support/it.ts"
import type { Json } from "./support/json.ts"
import type * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"
import { ways } from "./support/ways.ts"

const COUNT = 500
const NUMBERS = Array.from({ length: COUNT }, (_, index) => index)

/** Without history, and with. */
const CHANNELS = ["bare:x", "kept:x"]

const lines = (socket: Socket.Socket): ReadonlyArray<Json> =>
  socket.received.flatMap((frame) => frame.split("\n")).map((line): Json => JSON.parse(line))

/** Sends all numbers in one step; `replies` are the answers to them, in the order in which they came. */
interface Sender {
  readonly send: (channel: string, data: ReadonlyArray<Json>) => void
  readonly replies: Effect.Effect<ReadonlyArray<Json>, unknown>
  readonly isClosed: () => boolean
}

type Open = (server: Server.Running, channel: string) => Effect.Effect<Sender, unknown, Scope.Scope>

const byProtocol: Open = (server) =>
  Effect.map(raw(server), ({ socket }) => ({
    send: (channel, data) => {
      const commands = data.map((n, index) => JSON.stringify({ id: 1000 + index, publish: { channel, data: n } }))
      socket.send(commands.join("\n"))
    },
    // A frame for each, behind that of `connect`.
    replies: Effect.map(socket.count(COUNT + 2), () => lines(socket).filter(({ id }) => id >= 1000)),
    isClosed: socket.isClosed
  }))

const byPlainSocket: Open = (server, channel) =>
  Effect.map(Socket.open(`${server.ws}/channels/${channel}`), (socket) => ({
    send: (_, data) => {
      for (const n of data) socket.send(JSON.stringify(n))
    },
    replies: Effect.succeed([]),
    isClosed: socket.isClosed
  }))

const SENDERS = [
  ["the client protocol", byProtocol],
  ["a plain socket", byPlainSocket]
] as const

/** Subscribers of a channel; `numbers` are what they have got by the time in which the last word has come to all. */
const listen = (server: Server.Running, channel: string) =>
  Effect.gen(function* () {
    const protocol = yield* raw(server)
    yield* protocol.ask("subscribe", { channel })
    const plain = yield* Socket.open(`${server.ws}/channels/${channel}`)
    return {
      numbers: Effect.gen(function* () {
        yield* Effect.all([protocol.socket.gets('"the end"'), plain.gets('"the end"')])
        const pushed = lines(protocol.socket).flatMap(({ push }) => (push?.pub === undefined ? [] : [push.pub.data]))
        const isNumber = (data: Json): boolean => typeof data === "number"
        return [pushed.filter(isNumber), plain.received.map((text): Json => JSON.parse(text)).filter(isNumber)]
      })
    }
  })

const turn = Effect.async<void>((resume) => void setImmediate(() => resume(Effect.void)))

/** Decides later for some of them, some turns of the event loop later than for others. */
const detour = (n: number): Effect.Effect<void> => {
  const random = (n * 7919) % 104_729
  if (random % 7 === 0) return Effect.repeatN(turn, random % 5)
  if (random % 5 === 0) return Effect.repeatN(Effect.yieldNow(), random % 11)
  if (random % 3 === 0) return Effect.promise(() => Promise.resolve())
  return Effect.void
}

const bug = (): never => {
  throw new Error("a fault of its own")
}

const hooks = (decide: (n: number) => Effect.Effect<void, Hooks.Rejected>) => {
  const asked: Array<string> = []
  return {
    asked,
    onPublish: ({ channel, data }: Hooks.PublishRequest) => {
      if (data === '"the end"') return Effect.void
      asked.push(`${channel} ${data}`)
      return decide(Number(data))
    }
  }
}

const DECISIONS: ReadonlyArray<readonly [name: string, decide: (n: number) => Effect.Effect<void>]> = [
  ["decides at once", () => Effect.void],
  ["yields", () => Effect.yieldNow()],
  ["takes its time for some of them", detour]
]

/** Asked after the configuration, which is never done in the step in which it is asked; or alone. */
const PLACES = ["hooks", "decides"] as const

/** Hooks that yield are among the decisions. */
const WAYS = ways.filter(([name]) => name !== "with hooks that yield")

const SUITES = clusters({}).flatMap(([cluster], index) =>
  WAYS.map(([name, way]) => ({
    cluster,
    index,
    name,
    way,
    // Traced, a command takes the same way whoever decides.
    places: name === "as it comes" ? PLACES : PLACES.slice(1)
  }))
)

for (const { cluster, index, name: how, places, way } of SUITES) {
  const start = (own: Server.Options) =>
    Effect.gen(function* () {
      const { options, used } = yield* way
      const [, cluster] = yield* Effect.fromNullable(clusters({ ...options, ...own })[index])
      return { ...(yield* cluster), used }
    })

  describe(`publishes of one connection in one burst: ${cluster}, ${how}`, () => {
    for (const place of places) {
      for (const [name, decide] of DECISIONS) {
        for (const [kind, open] of SENDERS) {
          live(`by ${kind}: in order, each once, each answered; a hook (${place}) ${name}, and is asked once`, () =>
            Effect.gen(function* () {
              const { asked, onPublish } = hooks(decide)
              const { servers, used } = yield* start({ config: { channel }, [place]: { onPublish } })
              const there = servers.at(-1) ?? servers[0]
              for (const channel of CHANNELS) {
                const { numbers } = yield* listen(there, channel)
                const { isClosed, replies, send } = yield* open(servers[0], channel)
                send(channel, [...NUMBERS, "the end"])
                expect(yield* numbers).toEqual([NUMBERS, NUMBERS])
                if (open === byProtocol) {
                  const answers = yield* replies
                  expect(answers).toEqual([...NUMBERS, COUNT].map((index) => ({ id: 1000 + index, publish: {} })))
                }
                expect(isClosed()).toBe(false)
              }
              expect(asked).toEqual(CHANNELS.flatMap((channel) => NUMBERS.map((n) => `${channel} ${n}`)))
              expect(used()).toBeGreaterThan(0)
            })
          )
        }
      }
    }

    for (const place of places) {
      live(`a hook (${place}) that throws, dies or rejects costs its command only, and is asked once`, () =>
        Effect.gen(function* () {
          const rejected = new Hooks.Rejected({ code: 422, message: "not this one", temporary: true })
          const isFault = (n: number): boolean => n % 25 === 7
          const { asked, onPublish } = hooks((n) => {
            if (n % 25 === 13) return Effect.fail(rejected)
            if (!isFault(n)) return detour(n)
            return n % 2 === 0 ? bug() : Effect.zipRight(Effect.yieldNow(), Effect.sync(bug))
          })
          const { servers, used } = yield* start({ config: { channel }, [place]: { onPublish } })
          const there = servers.at(-1) ?? servers[0]
          const code = (n: number): number | undefined => (isFault(n) ? 100 : n % 25 === 13 ? 422 : undefined)
          const accepted = NUMBERS.filter((n) => code(n) === undefined)
          for (const channel of CHANNELS) {
            const { numbers } = yield* listen(there, channel)
            const { isClosed, replies, send } = yield* byProtocol(servers[0], channel)
            send(channel, [...NUMBERS, "the end"])
            expect(yield* numbers).toEqual([accepted, accepted])
            const answers = yield* replies
            expect(answers.map(({ error, id }) => [id - 1000, error?.code])).toEqual(
              [...NUMBERS, COUNT].map((n) => [n, n === COUNT ? undefined : code(n)])
            )
            expect(isClosed()).toBe(false)
          }
          expect(asked).toEqual(CHANNELS.flatMap((channel) => NUMBERS.map((n) => `${channel} ${n}`)))
          expect(used()).toBeGreaterThan(0)
        })
      )
    }

    live("behind a publish that costs a plain socket its connection nothing is published", () =>
      Effect.gen(function* () {
        const onPublish = ({ data }: Hooks.PublishRequest) => (data === "20" ? Effect.die("a defect") : Effect.void)
        const { servers, used } = yield* start({ config: { channel }, hooks: { onPublish } })
        for (const channel of CHANNELS) {
          const { numbers } = yield* listen(servers[0], channel)
          const socket = yield* Socket.open(`${servers[0].ws}/channels/${channel}`)
          for (const n of NUMBERS) socket.send(JSON.stringify(n))
          expect((yield* socket.closed).code).toBe(1011)
          yield* servers[0].publisher.publish(channel, "the end")
          expect(yield* numbers).toEqual([NUMBERS.slice(0, 20), NUMBERS.slice(0, 20)])
        }
        expect(used()).toBeGreaterThan(0)
      })
    )
  })
}
