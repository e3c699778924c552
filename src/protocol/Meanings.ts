/** When the server sends each code: docs/protocol.md lists it beside the code. */
import type * as Codes from "./Codes.ts"

type Module = typeof Codes

/** The names of all codes. */
export type Name = { [K in keyof Module]: Module[K] extends { readonly code: number } ? K : never }[keyof Module]

/** When each is sent. A code that has no meaning here does not compile. */
export const meanings: Readonly<Record<Name, string>> = {
  internal:
    "the broker has not done it: it is not live, has too much to do, refused it, or did not answer in time, which leaves open whether it was done; or a hook failed in a way of its own",
  unauthorized: "by the server API alone: its key is missing or wrong",
  unknownChannel: "the channel's namespace is not configured",
  permissionDenied:
    "the namespace does not permit it; `subscribe` with a bad token, or with one for another channel or user; `sub_refresh` of a channel that the client is not subscribed to",
  methodNotFound: "a command that the server does not know",
  alreadySubscribed: "`subscribe` to a channel that the client, or the server for it, has subscribed to",
  limitExceeded:
    "`subscribe` beyond `client.channel_limit`; a `presence` larger than `client.reply_max_size`; a `publish` of more than 64 KiB; in the server API what is too large as well",
  badRequest:
    "a channel name that is empty, too long, or has control characters; `publish` without `data`; in the server API every body that is not what the method takes",
  notAvailable:
    "`history` where the namespace keeps none, `presence` and `presence_stats` where it keeps none; `rpc` without a hook `onRpc`; a `subscribe` with a `type` or a `tf`, a `publish` with a `type`, a `key` or `removed`, a `sub_refresh` with a `type`; in the server API an option of the reference server that is not there",
  tokenExpired:
    "`connect` or `subscribe` with a token that has expired, or is not valid yet; the SDK gets a new one and tries again",
  expired:
    "`sub_refresh` with a token that has expired, or is not valid yet; sent as temporary: the subscription goes on until it expires itself, and the SDK gets a new token and tries again",
  tooManyRequests: "a command beyond `client.command_rate`",
  unrecoverable:
    "`history` with a `since` in another stream than the present one; `subscribe` with `flag` 2 from a position that cannot be recovered from",
  serverUnsubscribe: "the server API has unsubscribed the client, or its user",
  insufficient:
    "a positioned subscription has missed something: its mailbox overflowed, this instance missed what history has not any more, or the stream was lost",
  subscriptionExpired: "the subscription has expired, and was not refreshed within `client.expired_close_delay`",
  connectionClosed: "`connect` was answered with an error, and the client has not left within a second",
  shutdown: "the instance drains",
  serverError:
    "a hook failed in a way of its own, in `connect` or `send`; the client was not let in within `client.stale_close_delay`",
  connectionExpired:
    "the connection has expired, and was not refreshed within `client.expired_close_delay`; `refresh` with a token that has expired, or is not valid yet; the server API ended it as expired",
  subscriptionExpiredDisconnect:
    "a subscription that the server has made has expired, and was not refreshed within `client.expired_close_delay`",
  slow: "the client took nothing for `client.write_timeout`; its mailbox overflowed with `client.overflow` at `disconnect`; the mailbox of a plain socket in a channel with history overflowed",
  insufficientState:
    "a subscription that the server has made has missed something; a plain socket in a channel with history missed what history has not any more",
  noPong: "a ping was not answered within `client.pong_timeout`",
  tooManyRequestsDisconnect:
    "commands went on beyond `client.command_rate`; the first one beyond it that has no answer, `send` or a frame of a plain socket",
  invalidToken:
    "`connect`, `refresh` or `sub_refresh` with a bad token; `refresh` or `sub_refresh` with one of another user or channel; `connect` without one where one is needed",
  badRequestDisconnect:
    "a frame that is not the protocol's: malformed JSON, a field of a wrong type, a command without an `id`, one before `connect`, a second `connect`, `data` nested deeper than 256",
  stale: "the client has not sent `connect` within `client.stale_close_delay`",
  forceDisconnect:
    "the server API has disconnected the client, without another code; it has unsubscribed a plain socket",
  connectionLimit: "the user has `client.user_connection_limit` connections to this instance already",
  channelLimit: "more than `client.channel_limit` subscriptions that the server makes with `connect`",
  permissionDeniedDisconnect: "the hook `onMessage` has refused a `send`; a plain socket may not publish what it did",
  notAvailableDisconnect: "`send` without a hook `onMessage`",
  tooManyErrors: "more refused commands than `client.error_limit`",
  unsupportedData: "a binary frame",
  publishFailed: "a plain socket's publication was not accepted"
}
