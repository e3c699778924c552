/** What a connected client of the client protocol asks for, command by command; `connect` is not among them. */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import type * as Broker from "../Broker.ts"
import * as History from "../History.ts"
import * as Hooks from "../Hooks.ts"
import * as Namespace from "../Namespace.ts"
import * as Codes from "../protocol/Codes.ts"
import type * as Command from "../protocol/Command.ts"
import * as Json from "../protocol/Json.ts"
import * as Publication from "../protocol/Publication.ts"
import type * as Publisher from "../Publisher.ts"
import * as ServerConfig from "../ServerConfig.ts"
import { type Outlet, type Services, type Task, ttl } from "../Session.ts"
import { version } from "../version.ts"
import type { Answers } from "./Answers.ts"
import type { Subscriptions } from "./Subscriptions.ts"

type Of<M extends Command.Command["method"]> = Extract<Command.Command, { method: M }>

/** What a command is carried out for and with. */
export interface Asker {
  readonly services: Services
  readonly outlet: Outlet
  readonly answers: Answers
  readonly subscriptions: Subscriptions
  readonly client: () => Publication.ClientInfo
  /** How long the connection holds from now on. */
  readonly refreshed: (refreshed: Hooks.Refreshed) => Effect.Effect<void>
}

const refusalOfPublication = (error: Publisher.InvalidPublication): Codes.ErrorCode =>
  error.reason === "UnknownNamespace" ? Codes.unknownChannel : Codes.badRequest

/** A command on a channel, for the log. */
const whatOf = ({ method, params }: Pick<Extract<Command.Command, { params: { channel: string } }>, "method" | "params">) =>
  `${method} ${JSON.stringify(params.channel)}`

/** How a command is carried out; see `Task`. */
export type Carried = Pick<Task, "run" | "now">

/** How the commands of one client are carried out. None of them fails. */
export const make = (asker: Asker): ((command: Exclude<Command.Command, { method: "connect" }>) => Carried) => {
  const { answers, client, outlet, services, subscriptions } = asker
  const { config, hooks, hub, metrics, presence, publisher } = services
  /** Runs a command on a channel; what it fails with is its answer. */
  const onChannel = <E extends Hooks.Rejected | Broker.BrokerError>(
    { id, method, params }: Extract<Command.Command, { params: { channel: string } }>,
    run: (channel: string, what: string) => Effect.Effect<void, E>
  ): Effect.Effect<void> => {
    const what = whatOf({ method, params })
    return Either.match(ServerConfig.parseChannel(config, params.channel), {
      onLeft: (problem) => answers.refuse(id, Codes.badRequest, what, problem),
      onRight: (channel) =>
        Effect.catchAll(run(channel, what), (error) =>
          error._tag === "Rejected" ? answers.reject(id, error, what, channel) : answers.unavailable(id, error, what)
        )
    })
  }

  const subscribe = (command: Of<"subscribe">) =>
    onChannel(command, (channel, what) => {
      const { id, data, params } = command
      if (subscriptions.has(channel)) return answers.refuse(id, Codes.alreadySubscribed, what, "already subscribed")
      // As an ordinary subscription it would get something else than what it relies on.
      if (params.type !== 0) return answers.refuse(id, Codes.notAvailable, what, "only streams can be subscribed to")
      if (params.tf !== null) return answers.refuse(id, Codes.notAvailable, what, "there is no filter by tags")
      return Effect.gen(function* () {
        if (!(yield* subscriptions.place(channel))) {
          const limit = `client.channel_limit is ${config.client.channel_limit}`
          return yield* answers.refuse(id, Codes.limitExceeded, what, limit)
        }
        const granted = yield* hooks.onSubscribe({ client: client(), channel, token: params.token, data })
        const join = yield* subscriptions.prepare(channel, params, "client", granted ?? {})
        const joined = join()
        if (Either.isLeft(joined)) return yield* answers.refuse(id, joined.left, what, joined.left.message)
        outlet.send(Json.reply(id, "subscribe", joined.right))
        yield* subscriptions.announce(channel)
      }).pipe(Effect.scoped)
    })

  const unsubscribe = (command: Of<"unsubscribe">) =>
    onChannel(command, (channel) =>
      Effect.zipRight(subscriptions.leave(channel), answers.result(command.id, "unsubscribe", Json.EMPTY))
    )

  const subRefresh = (command: Of<"sub_refresh">) =>
    onChannel(command, (channel, what) => {
      const { id, params } = command
      if (!subscriptions.has(channel)) return answers.refuse(id, Codes.permissionDenied, what, "not subscribed")
      return Effect.flatMap(hooks.onSubRefresh({ client: client(), channel, token: params.token }), (refreshed) =>
        Effect.zipRight(
          subscriptions.refresh(channel, refreshed),
          answers.result(id, "sub_refresh", Json.subRefreshResult(ttl(services, refreshed.expiresAt)))
        )
      )
    })

  const publish = (command: Of<"publish">): Carried => {
    const { id, data } = command
    const { channel } = command.params
    // Asked once, whichever way the command takes.
    let decision: Effect.Effect<void, Hooks.Rejected> | undefined
    const ask = (raw: string) =>
      (decision ??= Hooks.ask(() =>
        hooks.onPublish({ client: client(), channel, data: raw, subscribed: subscriptions.has(channel) })
      ))
    const publication = (raw: string) => Publication.fromJson(raw, subscriptions.infoIn(channel))
    const invalid = (error: Publisher.InvalidPublication, what: string) =>
      answers.refuse(id, refusalOfPublication(error), what, error.message)

    return {
      run: (onSent) =>
        onChannel(command, (_, what) => {
          if (data === undefined) return answers.refuse(id, Codes.badRequest, what, "no data")
          return Effect.zipRight(
            ask(data),
            Effect.suspend(() => publisher.publishRaw(channel, publication(data), { onSent })).pipe(
              Effect.zipRight(answers.result(id, "publish", Json.EMPTY)),
              Effect.catchTag("InvalidPublication", (error) => invalid(error, what))
            )
          )
        }),
      now: (onSent, done) => {
        // What is refused is logged, in a fiber.
        if (data === undefined || Either.isLeft(ServerConfig.parseChannel(config, channel))) return false
        const decided = ask(data)
        if (!Exit.isExit(decided) || Exit.isFailure(decided)) return false
        return publisher.unsafePublishRaw(channel, publication(data), { onSent }, (result) => {
          if (Exit.isSuccess(result)) {
            outlet.send(Json.reply(id, "publish", Json.EMPTY))
            return done()
          }
          const failed = Effect.catchAll(result, (error) =>
            error._tag === "InvalidPublication"
              ? invalid(error, whatOf(command))
              : answers.unavailable(id, error, whatOf(command))
          )
          done(Effect.asVoid(failed))
        })
      }
    }
  }

  const history = (command: Of<"history">) =>
    onChannel(command, (channel, what) => {
      const { id, params } = command
      const { history_max_publication_limit, reply_max_size } = config.client
      const retention = Namespace.retention(config.channel, channel)
      return Effect.flatMap(
        hooks.onHistory({ client: client(), channel, subscribed: subscriptions.has(channel) }),
        () => {
          if (retention === undefined) return answers.refuse(id, Codes.notAvailable, what, "the channel has no history")
          const range = History.bounded(params, history_max_publication_limit, reply_max_size)
          return Effect.flatMap(hub.history({ channel, retention }, range), (page) => {
            if (History.isOfAnother(page, params)) {
              return answers.refuse(id, Codes.unrecoverable, what, `the epoch is ${page.epoch} by now`)
            }
            const texts = Json.page(page.publications, reply_max_size)
            if (History.isCut(page, range, texts.length)) metrics.limits.reply_size.add()
            return answers.result(id, "history", Json.historyResult(page, texts))
          })
        }
      )
    })

  const onPresence = <E extends Hooks.Rejected | Broker.BrokerError>(
    command: Of<"presence"> | Of<"presence_stats">,
    run: (channel: string, what: string) => Effect.Effect<void, E>
  ) =>
    onChannel(command, (channel, what) =>
      Effect.flatMap(
        hooks.onPresence({ client: client(), channel, subscribed: subscriptions.has(channel) }),
        (): Effect.Effect<void, E> =>
          Namespace.find(config.channel, channel)?.presence === true
            ? run(channel, what)
            : answers.refuse(command.id, Codes.notAvailable, what, "the channel has no presence")
      )
    )

  const listPresence = (command: Of<"presence">) =>
    onPresence(command, (channel, what) =>
      presence.list(channel, config.client.reply_max_size).pipe(
        Effect.flatMap((clients) => answers.result(command.id, "presence", Json.presenceResult(clients))),
        Effect.catchTag("TooManyPresent", (error) =>
          answers.refuse(command.id, Codes.limitExceeded, what, error.message)
        )
      )
    )

  const presenceStats = (command: Of<"presence_stats">) =>
    onPresence(command, (channel) =>
      Effect.flatMap(presence.stats(channel), ({ clients, users }) =>
        answers.result(command.id, "presence_stats", Json.presenceStatsResult(clients, users))
      )
    )

  const refresh = ({ id, params }: Of<"refresh">): Effect.Effect<void> =>
    Effect.matchEffect(hooks.onRefresh({ client: client(), token: params.token }), {
      onFailure: (rejected) => answers.reject(id, rejected, "refresh"),
      onSuccess: (refreshed) =>
        Effect.zipRight(
          Effect.suspend(() => {
            const result = Json.refreshResult(client().client, version, ttl(services, refreshed.expiresAt))
            return answers.result(id, "refresh", result)
          }),
          asker.refreshed(refreshed)
        )
    })

  const rpc = ({ id, data, params }: Of<"rpc">): Effect.Effect<void> =>
    Effect.matchEffect(hooks.onRpc({ client: client(), method: params.method, data }), {
      onFailure: (rejected) => answers.reject(id, rejected, `rpc "${params.method}"`),
      onSuccess: (result) => answers.result(id, "rpc", Json.object({ data: Json.raw(result) }))
    })

  // It has no answer: what is refused costs the connection, or it would be lost silently.
  const send = ({ data = "null" }: Of<"send">): Effect.Effect<void> =>
    Effect.catchAll(hooks.onMessage({ client: client(), data }), (rejected) =>
      Effect.sync(() =>
        outlet.end(
          {
            code: rejected.disconnect === true ? rejected.code : Codes.permissionDeniedDisconnect.code,
            reason: rejected.message
          },
          `send: ${rejected.detail ?? rejected.message}`
        )
      )
    )

  const others = (command: Exclude<Command.Command, { method: "connect" | "publish" }>): Effect.Effect<void> => {
    switch (command.method) {
      case "subscribe":
        return subscribe(command)
      case "unsubscribe":
        return unsubscribe(command)
      case "sub_refresh":
        return subRefresh(command)
      case "history":
        return history(command)
      case "presence":
        return listPresence(command)
      case "presence_stats":
        return presenceStats(command)
      case "refresh":
        return refresh(command)
      case "rpc":
        return rpc(command)
      case "send":
        return send(command)
      case "ping":
        return answers.result(command.id, "ping", Json.EMPTY)
    }
  }

  return (command) => (command.method === "publish" ? publish(command) : { run: () => others(command) })
}
