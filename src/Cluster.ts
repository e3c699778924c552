/**
 * All instances together: what is done with the connections of a user wherever
 * they are, and what the instances tell of themselves.
 *
 * An instance does its own part at once, and asks the others through the
 * broker, which says how many it has handed the request to. The wait for their
 * answers is bounded; an instance that is stopped, too busy, of an older
 * version, or not linked while this one is not, makes the outcome partial.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import { randomUUID } from "node:crypto"
import * as Broker from "./Broker.ts"
import * as Clients from "./Clients.ts"
import * as Glob from "./Cluster/Glob.ts"
import * as Message from "./Cluster/Message.ts"
import * as Hub from "./Hub.ts"
import * as Instance from "./Instance.ts"
import { atMost } from "./internal/time.ts"
import * as Metrics from "./Metrics.ts"
import * as Codes from "./protocol/Codes.ts"
import { version } from "./version.ts"

export type { Node, Operation } from "./Cluster/Message.ts"

/** What came of something that was asked of all instances. */
export interface Outcome {
  /** Connections that it was done with. */
  readonly clients: number
  /** Not every instance has confirmed that it has done its part. */
  readonly isPartial: boolean
}

/** The channels of all instances. */
export interface Channels {
  /** Subscribers on all instances, by channel. */
  readonly channels: ReadonlyMap<string, number>
  /** Not every instance has answered, or there are more than `MAX_CHANNELS`. */
  readonly isPartial: boolean
}

/** The instances that have answered. */
export interface Nodes {
  readonly nodes: ReadonlyArray<Message.Node>
  /** Not every instance has answered. */
  readonly isPartial: boolean
}

/** All instances together. None of this fails or waits for longer than `REPLY_TIMEOUT`: without a broker, the outcome is partial. */
export class Cluster extends Context.Tag("fanfare/Cluster")<
  Cluster,
  {
    /** Does something with the connections of a user, on every instance. */
    readonly perform: (operation: Message.Operation) => Effect.Effect<Outcome>
    /** The channels with subscribers whose names match a pattern, `*` any text, `?` any character. */
    readonly channels: (pattern: string) => Effect.Effect<Channels>
    /** The instances and their figures. */
    readonly nodes: Effect.Effect<Nodes>
    /**
     * Pushes raw JSON to the connections of a user, on every instance. Success
     * means that the broker has accepted it; nobody confirms it.
     */
    readonly message: (user: string, data: string) => Effect.Effect<void, Broker.BrokerError>
    /**
     * The history of a channel was removed: makes every instance forget what it
     * remembers of that. Whoever subscribes once this has completed recovers
     * nothing of what was removed.
     */
    readonly forget: (channel: string) => Effect.Effect<void>
  }
>() {}

/** How long answers are waited for. */
export const REPLY_TIMEOUT = Duration.millis(1500)

/** How long an instance works on a request; what is not done by then is reported as not done. */
const WORK_TIMEOUT = Duration.seconds(1)

/** Channels in one answer, at most. */
export const MAX_CHANNELS = 10_000

/** Characters of their names, at most. */
const MAX_CHARACTERS = 512 * 1024

/** Requests of others that an instance works on at a time; it says of further ones that it is unable. */
const WORKING = 256

/** Connections of a user that are worked on at a time. */
const CONNECTIONS = 32

/** Requests of this instance that wait for answers; further ones are done here alone. */
const ASKING = 1024

interface Asking {
  /** By instance: what one says twice is not the answer of another. */
  readonly answers: Map<string, Message.Answer>
  readonly changed: () => void
}

const UNABLE: Message.Answer = { type: "unable" }

const FORGOTTEN: Message.Answer = { type: "done", clients: 0, isPartial: false }

const make = Effect.gen(function* () {
  const broker = yield* Broker.Broker
  const clients = yield* Clients.Clients
  const hub = yield* Hub.Hub
  const instance = yield* Instance.Instance
  const metrics = yield* Metrics.Metrics
  const asking = new Map<string, Asking>()
  const fork = yield* FiberSet.makeRuntime<never>()
  let working = 0

  // ── What this instance does and tells ────────────────────────────────────

  const act = (operation: Message.Operation, client: Clients.Client): Effect.Effect<boolean> => {
    switch (operation.type) {
      case "subscribe": {
        const { channel, data, expiresAt, info } = operation
        return client.subscribe(channel, {
          ...(data === undefined ? {} : { data }),
          ...(expiresAt === undefined ? {} : { expiresAt }),
          ...(info === undefined ? {} : { info })
        })
      }
      case "unsubscribe":
        return client.unsubscribe(operation.channel, { code: operation.code, reason: operation.reason })
      case "disconnect":
        return Effect.as(
          Effect.sync(() => client.disconnect({ code: operation.code, reason: operation.reason }, "by the server API")),
          true
        )
      case "refresh": {
        const { expired, expiresAt, info } = operation
        return Effect.sync(() => {
          if (expired) {
            client.disconnect(Codes.connectionExpired, "by the server API")
            return true
          }
          return client.refresh({
            ...(expiresAt === undefined ? {} : { expiresAt }),
            ...(info === undefined ? {} : { info })
          })
        })
      }
      case "message":
        return Effect.as(
          Effect.sync(() => client.send(operation.data)),
          true
        )
    }
  }

  const perform = (operation: Message.Operation): Effect.Effect<Outcome> =>
    Effect.suspend(() => {
      const whitelist = operation.type === "disconnect" ? operation.whitelist : []
      const chosen = clients
        .of(operation.user, operation.type === "message" ? undefined : operation.client)
        .filter((client) => !whitelist.includes(client.info().client))
      let done = 0
      const one = (client: Clients.Client) =>
        Effect.map(act(operation, client), (isDone) => {
          if (isDone) done++
        })
      return Effect.forEach(chosen, one, { concurrency: CONNECTIONS, discard: true }).pipe(
        atMost(WORK_TIMEOUT),
        Effect.map(() => ({ clients: done, isPartial: done < chosen.length }))
      )
    })

  const tell = (question: Message.Question): Effect.Effect<Message.Answer> => {
    if (question.type === "channels") {
      return Effect.sync(() => {
        const channels: Array<readonly [string, number]> = []
        let characters = 0
        for (const [channel, subscribers] of hub.channels()) {
          if (subscribers === 0 || !Glob.matches(question.pattern, channel)) continue
          characters += channel.length
          if (channels.length === question.limit || characters > MAX_CHARACTERS) {
            return { type: "channels", channels, isPartial: true }
          }
          channels.push([channel, subscribers])
        }
        return { type: "channels", channels, isPartial: false }
      })
    }
    return Effect.sync(() => ({
      type: "info",
      node: {
        id: instance.id,
        name: instance.name,
        version,
        uptime: Math.round(instance.uptime() / 1000),
        clients: metrics.connections.protocol.value + metrics.connections.plain.value,
        users: clients.users(),
        subscriptions: metrics.subscriptions.value,
        channels: metrics.channels.value
      }
    }))
  }

  const forget = (channel: string): Effect.Effect<void> => Effect.sync(() => hub.forget(channel))

  const answer = (ask: Message.Ask): Effect.Effect<Message.Answer> => {
    switch (ask.type) {
      case "channels":
      case "info":
        return tell(ask)
      case "forget":
        return Effect.as(forget(ask.channel), FORGOTTEN)
      default:
        return Effect.map(perform(ask), (outcome) => ({ type: "done", ...outcome }))
    }
  }

  // ── What comes from the others ───────────────────────────────────────────

  const reply = (to: string, id: string | undefined, answer: Effect.Effect<Message.Answer>): Effect.Effect<void> =>
    Effect.flatMap(answer, (one) =>
      id === undefined ? Effect.void : Effect.ignore(broker.sendControl(Message.reply(instance.id, id, one), to))
    ).pipe(Effect.catchAllCause((cause) => Effect.logError("a control message failed", cause)))

  const hear = (text: string): void => {
    const message = Message.decode(text)
    if (message?._tag === "Reply") {
      const { answer, from, re } = message.reply
      const one = asking.get(re)
      if (from === instance.id) return
      one?.answers.set(from, answer)
      one?.changed()
      return
    }
    const from = message?._tag === "Request" ? message.request.from : message?.from
    // This instance has done its own part before it asked.
    if (message === undefined || from === undefined || from === instance.id) return
    const { ask, id } = message._tag === "Request" ? message.request : { ask: undefined, id: message.id }
    // To forget is over at once, and must not be put off.
    const isAble = ask !== undefined && (working < WORKING || ask.type === "forget")
    working++
    const done = Effect.sync(() => void working--)
    fork(Effect.ensuring(reply(from, id, isAble ? answer(ask) : Effect.succeed(UNABLE)), done))
  }

  yield* broker.listenControl(instance.id, hear)

  // ── What is asked of the others ──────────────────────────────────────────

  /** Asks all others; `undefined` stands for those that have not answered. */
  const ask = (what: Message.Ask): Effect.Effect<ReadonlyArray<Message.Answer | undefined>> =>
    Effect.suspend(() => {
      const id = randomUUID()
      const answers = new Map<string, Message.Answer>()
      let others: number | undefined
      const asked = Effect.gen(function* () {
        const changed = yield* Effect.makeLatch(false)
        asking.set(id, { answers, changed: () => changed.unsafeOpen() })
        // It has been handed to this instance as well.
        const expected = (yield* broker.sendControl(Message.request(instance.id, id, what))) - 1
        others = expected
        yield* changed.await.pipe(
          Effect.tap(() => Effect.sync(() => changed.unsafeClose())),
          Effect.repeat({ while: () => answers.size < expected }),
          Effect.when(() => answers.size < expected)
        )
      })
      return Effect.suspend(() => (asking.size >= ASKING ? Effect.void : asked)).pipe(
        Effect.catchTag("BrokerError", (error) =>
          Effect.logDebug(`the other instances were not asked: ${error.message}`)
        ),
        atMost(REPLY_TIMEOUT),
        Effect.map(() => {
          const missing = others === undefined ? 1 : Math.max(0, others - answers.size)
          return [...answers.values(), ...Array.from({ length: missing }, () => undefined)]
        }),
        Effect.ensuring(Effect.sync(() => asking.delete(id)))
      )
    })

  const everywhere = <A>(
    what: Message.Ask,
    here: Effect.Effect<A>
  ): Effect.Effect<readonly [A, ReadonlyArray<Message.Answer | undefined>]> =>
    Effect.all([here, ask(what)], { concurrency: "unbounded" })

  return Cluster.of({
    perform: (operation) =>
      Effect.map(everywhere(operation, perform(operation)), ([own, others]) => ({
        clients: others.reduce((sum, one) => sum + (one?.type === "done" ? one.clients : 0), own.clients),
        isPartial: own.isPartial || others.some((one) => one?.type !== "done" || one.isPartial)
      })),
    channels: (pattern) => {
      const question = { type: "channels", pattern, limit: MAX_CHANNELS } as const
      return Effect.map(everywhere(question, tell(question)), ([own, others]) => {
        const channels = new Map<string, number>()
        let isPartial = false
        for (const one of [own, ...others]) {
          if (one?.type !== "channels" || one.isPartial) isPartial = true
          if (one?.type !== "channels") continue
          for (const [channel, subscribers] of one.channels) {
            const known = channels.get(channel)
            if (known === undefined && channels.size === MAX_CHANNELS) isPartial = true
            else channels.set(channel, (known ?? 0) + subscribers)
          }
        }
        return { channels, isPartial }
      })
    },
    nodes: Effect.suspend(() => {
      const question = { type: "info" } as const
      return Effect.map(everywhere(question, tell(question)), ([own, others]) => ({
        nodes: [own, ...others].flatMap((one) => (one?.type === "info" ? [one.node] : [])),
        isPartial: others.some((one) => one?.type !== "info")
      }))
    }),
    message: (user, data) =>
      Effect.suspend(() => {
        const operation = { type: "message", user, data } as const
        return Effect.zipRight(
          broker.sendControl(Message.request(instance.id, undefined, operation)),
          Effect.asVoid(perform(operation))
        )
      }),
    // What they answer does not matter. One of an older version remembers nothing;
    // one without a link forgets when it has another. One that is silent, or could
    // not be asked, has forgotten by itself once the wait for it is over: that is
    // longer than what was read is remembered (`Hub/Newcomers`).
    forget: (channel) =>
      Effect.flatMap(Effect.timed(everywhere({ type: "forget", channel }, forget(channel))), ([took, [, others]]) =>
        others.includes(undefined) ? Effect.sleep(Duration.subtract(REPLY_TIMEOUT, took)) : Effect.void
      )
  })
})

/** All instances that are linked by the broker. */
export const layer: Layer.Layer<
  Cluster,
  never,
  Broker.Broker | Clients.Clients | Hub.Hub | Instance.Instance | Metrics.Metrics
> = Layer.scoped(Cluster, make)
