/** What a connected client of the client protocol asks for, command by command; `connect` is not among them. */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import type * as Broker from "../Broker.ts"
import * as History from "../History.ts"
import type * as Hooks from "../Hooks.ts"
import { value } from "../internal/exit.ts"
import * as Namespace from "../Namespace.ts"
import * as Codes from "../protocol/Codes.ts"
import type * as Command from "../protocol/Command.ts"
import * as Json from "../protocol/Json.ts"
import * as Publication from "../protocol/Publication.ts"
import type * as Publisher from "../Publisher.ts"
import * as ServerConfig from "../ServerConfig.ts"
import { type Outlet, type Services, ttl, type Turn } from "../Session.ts"
import { version } from "../version.ts"
import type { Answers } from "./Answers.ts"
import type { Subscriptions } from "./Subscriptions.ts"

type Of<M extends Command.Command["method"]> = Extract<Command.Command, { method: M }>

/** Whom a command is carried out for. */
export interface Asker {
  readonly outlet: Outlet
  readonly answers: Answers
  readonly subscriptions: Subscriptions
  readonly info: () => Publication.ClientInfo
  /** How long the connection holds from now on. */
  readonly refreshed: (refreshed: Hooks.Refreshed) => Effect.Effect<void>
}

const refusalOfPublication = (error: Publisher.InvalidPublication): Codes.ErrorCode =>
  error.reason === "UnknownNamespace"
    ? Codes.unknownChannel
    : error.reason === "TooLarge"
      ? Codes.limitExceeded
      : Codes.badRequest

/** A command on a channel, for the log. */
const whatOf = ({
  method,
  params
}: Pick<Extract<Command.Command, { params: { channel: string } }>, "method" | "params">): string =>
  `${method} ${JSON.stringify(params.channel)}`

/** A command that is being carried out. */
export interface Deciding {
  /** What a hook has decided of it, which is asked once, whichever way it takes. */
  readonly decided: <A>(ask: () => Effect.Effect<A, Hooks.Rejected>) => Effect.Effect<A, Hooks.Rejected>
}

/** How the commands of all clients are carried out, but for `connect`; see `Task`. None of it fails. */
export interface Commands {
  readonly run: (asker: Asker, command: Carried, deciding: Deciding) => Effect.Effect<void>
  readonly now: (asker: Asker, command: Carried, deciding: Deciding, turn: Turn) => boolean
}

type Carried = Exclude<Command.Command, { method: "connect" }>

/** Whether it is for a map (`client.proto`, `PublishRequest`); as an ordinary publication it would be something else. */
const isForMap = ({ params: { key, removed, type } }: Of<"publish">): boolean => type !== 0 || key !== "" || removed

const invalid = (
  { answers }: Asker,
  { id }: Of<"publish">,
  error: Publisher.InvalidPublication,
  what: string
): Effect.Effect<void> => answers.refuse(id, refusalOfPublication(error), what, error.message)

/** A publish without a fiber: a single object, see `Broker/InFlight`. */
class Publish implements Broker.Publishing<Broker.BrokerError | Publisher.InvalidPublication> {
  readonly #asker: Asker
  readonly #command: Of<"publish">
  readonly #turn: Turn

  constructor(asker: Asker, command: Of<"publish">, turn: Turn) {
    this.#asker = asker
    this.#command = command
    this.#turn = turn
  }

  sent(): void {
    this.#turn.passOn()
  }

  done(result: Exit.Exit<unknown, Broker.BrokerError | Publisher.InvalidPublication>): void {
    const { answers, outlet } = this.#asker
    const { id } = this.#command
    if (Exit.isSuccess(result)) {
      outlet.send(Json.reply(id, "publish", Json.EMPTY))
      return this.#turn.done()
    }
    const failed = Effect.catchAll(result, (error) =>
      error._tag === "InvalidPublication"
        ? invalid(this.#asker, this.#command, error, whatOf(this.#command))
        : answers.unavailable(id, error, whatOf(this.#command))
    )
    this.#turn.done(Effect.asVoid(failed))
  }
}

/** Whether a command may start before the one before it is answered. */
export const isPipelined = ({ method }: Command.Command): boolean => method === "publish"

export const make = (services: Services): Commands => {
  const { config, hooks, hub, metrics, presence, publisher } = services
  /** Runs a command on a channel; what it fails with is its answer. */
  const onChannel = <E extends Hooks.Rejected | Broker.BrokerError>(
    asker: Asker,
    { id, method, params }: Extract<Command.Command, { params: { channel: string } }>,
    run: (channel: string, what: string) => Effect.Effect<void, E>
  ): Effect.Effect<void> => {
    const what = whatOf({ method, params })
    return Either.match(ServerConfig.parseChannel(config, params.channel), {
      onLeft: (problem) => asker.answers.refuse(id, Codes.badRequest, what, problem),
      onRight: (channel) =>
        Effect.catchAll(run(channel, what), (error) =>
          error._tag === "Rejected"
            ? asker.answers.reject(id, error, what, channel)
            : asker.answers.unavailable(id, error, what)
        )
    })
  }

  const maySubscribe = (
    asker: Asker,
    { data, params: { channel, token } }: Of<"subscribe">,
    deciding: Deciding
  ): Effect.Effect<Hooks.Granted | void, Hooks.Rejected> =>
    deciding.decided(() => hooks.onSubscribe({ client: asker.info(), channel, token, data }))

  /** Tells a client that it has joined; what is left to do where it has not. */
  const joined = (
    asker: Asker,
    command: Of<"subscribe">,
    result: Either.Either<string, Codes.ErrorCode>
  ): Effect.Effect<void> | undefined => {
    const { answers, outlet } = asker
    if (Either.isLeft(result)) return answers.refuse(command.id, result.left, whatOf(command), result.left.message)
    outlet.send(Json.reply(command.id, "subscribe", result.right))
    return undefined
  }

  const subscribe = (asker: Asker, command: Of<"subscribe">, deciding: Deciding): Effect.Effect<void> =>
    onChannel(asker, command, (channel, what) => {
      const { id, params } = command
      const { answers, subscriptions } = asker
      if (subscriptions.has(channel)) return answers.refuse(id, Codes.alreadySubscribed, what, "already subscribed")
      // As an ordinary subscription it would get something else than what it relies on.
      if (params.type !== 0) return answers.refuse(id, Codes.notAvailable, what, "only streams can be subscribed to")
      if (params.tf !== null) return answers.refuse(id, Codes.notAvailable, what, "there is no filter by tags")
      return Effect.gen(function* () {
        if (!(yield* subscriptions.place(channel))) {
          const limit = `client.channel_limit is ${config.client.channel_limit}`
          return yield* answers.refuse(id, Codes.limitExceeded, what, limit)
        }
        const granted = yield* maySubscribe(asker, command, deciding)
        const join = yield* subscriptions.prepare(channel, params, "client", granted ?? {})
        const refused = joined(asker, command, join())
        yield* refused ?? subscriptions.announce(channel)
      }).pipe(Effect.scoped)
    })

  const subscribeNow = (asker: Asker, command: Of<"subscribe">, deciding: Deciding, turn: Turn): boolean => {
    const { params } = command
    const { channel } = params
    const { answers, subscriptions } = asker
    if (Either.isLeft(ServerConfig.parseChannel(config, channel)) || subscriptions.has(channel)) return false
    if (params.type !== 0 || params.tf !== null || publisher.isTraced) return false
    if (!subscriptions.take(channel)) return false
    const decided = value(maySubscribe(asker, command, deciding))
    const isUnderWay =
      decided !== undefined &&
      subscriptions.unsafeSubscribe(channel, params, decided.value ?? {}, (result) => {
        subscriptions.give(channel)
        if (result === undefined) return turn.done()
        if (Exit.isSuccess(result)) return turn.done(joined(asker, command, result.value))
        turn.done(
          Effect.catchAll(Effect.asVoid(result), (error) => answers.unavailable(command.id, error, whatOf(command)))
        )
      })
    if (!isUnderWay) subscriptions.give(channel)
    return isUnderWay
  }

  const unsubscribe = (asker: Asker, command: Of<"unsubscribe">) =>
    onChannel(asker, command, (channel) =>
      Effect.zipRight(asker.subscriptions.leave(channel), asker.answers.result(command.id, "unsubscribe", Json.EMPTY))
    )

  const subRefresh = (asker: Asker, command: Of<"sub_refresh">) =>
    onChannel(asker, command, (channel, what) => {
      const { id, params } = command
      if (params.type !== 0) return asker.answers.refuse(id, Codes.notAvailable, what, "no keys are tracked")
      if (!asker.subscriptions.has(channel))
        return asker.answers.refuse(id, Codes.permissionDenied, what, "not subscribed")
      return Effect.flatMap(hooks.onSubRefresh({ client: asker.info(), channel, token: params.token }), (refreshed) =>
        Effect.zipRight(
          asker.subscriptions.refresh(channel, refreshed),
          asker.answers.result(id, "sub_refresh", Json.subRefreshResult(ttl(services, refreshed.expiresAt)))
        )
      )
    })

  const mayPublish = (
    asker: Asker,
    channel: string,
    data: string,
    deciding: Deciding
  ): Effect.Effect<void, Hooks.Rejected> =>
    deciding.decided(() =>
      hooks.onPublish({ client: asker.info(), channel, data, subscribed: asker.subscriptions.has(channel) })
    )

  const publish = (asker: Asker, command: Of<"publish">, deciding: Deciding): Effect.Effect<void> =>
    onChannel(asker, command, (channel, what) => {
      const { id, data } = command
      const { answers, subscriptions } = asker
      if (data === undefined) return answers.refuse(id, Codes.badRequest, what, "no data")
      if (isForMap(command)) return answers.refuse(id, Codes.notAvailable, what, "there are no maps to publish to")
      return Effect.zipRight(
        mayPublish(asker, channel, data, deciding),
        Effect.suspend(() =>
          publisher.publishRaw(channel, Publication.fromJson(data, subscriptions.infoIn(channel)))
        ).pipe(
          Effect.zipRight(answers.result(id, "publish", Json.EMPTY)),
          Effect.catchTag("InvalidPublication", (error) => invalid(asker, command, error, what))
        )
      )
    })

  const publishNow = (asker: Asker, command: Of<"publish">, deciding: Deciding, turn: Turn): boolean => {
    const { data } = command
    const { channel } = command.params
    // What is refused is logged, in a fiber.
    if (data === undefined || isForMap(command)) return false
    if (Either.isLeft(ServerConfig.parseChannel(config, channel))) return false
    if (value(mayPublish(asker, channel, data, deciding)) === undefined) return false
    const publication = Publication.fromJson(data, asker.subscriptions.infoIn(channel))
    return publisher.unsafePublishRaw(channel, publication, new Publish(asker, command, turn))
  }

  const history = (asker: Asker, command: Of<"history">) =>
    onChannel(asker, command, (channel, what) => {
      const { id, params } = command
      const { history_max_publication_limit, reply_max_size } = config.client
      const retention = Namespace.retention(config.channel, channel)
      return Effect.flatMap(
        hooks.onHistory({ client: asker.info(), channel, subscribed: asker.subscriptions.has(channel) }),
        () => {
          if (retention === undefined)
            return asker.answers.refuse(id, Codes.notAvailable, what, "the channel has no history")
          const range = History.bounded(params, history_max_publication_limit, reply_max_size)
          return Effect.flatMap(hub.history({ channel, retention }, range), (page) => {
            if (History.isOfAnother(page, params)) {
              return asker.answers.refuse(id, Codes.unrecoverable, what, `the epoch is ${page.epoch} by now`)
            }
            const texts = Json.page(page.publications, reply_max_size)
            if (History.isCut(page, range, texts.length)) metrics.limits.reply_size.add()
            return asker.answers.result(id, "history", Json.historyResult(page, texts))
          })
        }
      )
    })

  const onPresence = <E extends Hooks.Rejected | Broker.BrokerError>(
    asker: Asker,
    command: Of<"presence"> | Of<"presence_stats">,
    run: (channel: string, what: string) => Effect.Effect<void, E>
  ) =>
    onChannel(asker, command, (channel, what) =>
      Effect.flatMap(
        hooks.onPresence({ client: asker.info(), channel, subscribed: asker.subscriptions.has(channel) }),
        (): Effect.Effect<void, E> =>
          Namespace.find(config.channel, channel)?.presence === true
            ? run(channel, what)
            : asker.answers.refuse(command.id, Codes.notAvailable, what, "the channel has no presence")
      )
    )

  const listPresence = (asker: Asker, command: Of<"presence">) =>
    onPresence(asker, command, (channel, what) =>
      presence.list(channel, config.client.reply_max_size).pipe(
        Effect.flatMap((clients) => asker.answers.result(command.id, "presence", Json.presenceResult(clients))),
        Effect.catchTag("TooManyPresent", (error) =>
          asker.answers.refuse(command.id, Codes.limitExceeded, what, error.message)
        )
      )
    )

  const presenceStats = (asker: Asker, command: Of<"presence_stats">) =>
    onPresence(asker, command, (channel) =>
      Effect.flatMap(presence.stats(channel), ({ clients, users }) =>
        asker.answers.result(command.id, "presence_stats", Json.presenceStatsResult(clients, users))
      )
    )

  const refresh = (asker: Asker, { id, params }: Of<"refresh">): Effect.Effect<void> =>
    Effect.matchEffect(hooks.onRefresh({ client: asker.info(), token: params.token }), {
      onFailure: (rejected) => asker.answers.reject(id, rejected, "refresh"),
      onSuccess: (refreshed) =>
        Effect.zipRight(
          Effect.suspend(() => {
            const result = Json.refreshResult(asker.info().client, version, ttl(services, refreshed.expiresAt))
            return asker.answers.result(id, "refresh", result)
          }),
          asker.refreshed(refreshed)
        )
    })

  const rpc = (asker: Asker, { id, data, params }: Of<"rpc">): Effect.Effect<void> =>
    Effect.matchEffect(hooks.onRpc({ client: asker.info(), method: params.method, data }), {
      onFailure: (rejected) => asker.answers.reject(id, rejected, `rpc "${params.method}"`),
      onSuccess: (result) => asker.answers.result(id, "rpc", Json.object({ data: Json.raw(result) }))
    })

  // It has no answer: what is refused costs the connection, or it would be lost silently.
  const send = (asker: Asker, { data = "null" }: Of<"send">): Effect.Effect<void> =>
    Effect.catchAll(hooks.onMessage({ client: asker.info(), data }), (rejected) =>
      Effect.sync(() =>
        asker.outlet.end(
          {
            code: rejected.disconnect === true ? rejected.code : Codes.permissionDeniedDisconnect.code,
            reason: rejected.message
          },
          `send: ${rejected.detail ?? rejected.message}`
        )
      )
    )

  const run: Commands["run"] = (asker, command, deciding) => {
    switch (command.method) {
      case "subscribe":
        return subscribe(asker, command, deciding)
      case "publish":
        return publish(asker, command, deciding)
      case "unsubscribe":
        return unsubscribe(asker, command)
      case "sub_refresh":
        return subRefresh(asker, command)
      case "history":
        return history(asker, command)
      case "presence":
        return listPresence(asker, command)
      case "presence_stats":
        return presenceStats(asker, command)
      case "refresh":
        return refresh(asker, command)
      case "rpc":
        return rpc(asker, command)
      case "send":
        return send(asker, command)
      case "ping":
        return asker.answers.result(command.id, "ping", Json.EMPTY)
    }
  }

  return {
    run,
    now: (asker, command, deciding, turn) =>
      command.method === "publish"
        ? publishNow(asker, command, deciding, turn)
        : command.method === "subscribe" && subscribeNow(asker, command, deciding, turn)
  }
}
