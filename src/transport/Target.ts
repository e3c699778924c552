/** The targets of requests: the paths of the sockets, below `http_server.handler_prefix`, and what is near to them. */
import * as Either from "effect/Either"

const PROTOCOL_PATH = "/connection/websocket"
const PLAIN_PATH = "/channels/"

/** What an upgrade asks for. */
export type Target =
  | { readonly _tag: "Protocol" }
  | { readonly _tag: "Plain"; readonly channel: string; readonly parameters: URLSearchParams }
  | { readonly _tag: "Malformed"; readonly detail: string }
  | { readonly _tag: "Unknown"; readonly detail: string }

export const PROTOCOL: Target = { _tag: "Protocol" }

/** The scheme and host of a target in absolute form (RFC 9112, section 3.2.2). */
const ORIGIN = /^https?:\/\/[^/?]*/i

/** The path and query of a target below a prefix; `undefined` where it is elsewhere. */
export const below = (prefix: string, url: string): string | undefined => {
  const target = url.startsWith("/") ? url : url.replace(ORIGIN, "")
  if (!target.startsWith(prefix)) return undefined
  const rest = target.slice(prefix.length)
  if (rest.startsWith("/")) return rest
  return rest === "" || rest.startsWith("?") ? `/${rest}` : undefined
}

const pathOf = (target: string): string => target.split("?", 1)[0] ?? ""

const PLAIN = /^\/channels\/[^/?]+(?:\?|$)/

/** Whose a path is: of clients that speak the client protocol, of plain sockets, or of no socket. */
export const kindOf = (target: string): "protocol" | "plain" | undefined => {
  if (pathOf(target) === PROTOCOL_PATH) return "protocol"
  return PLAIN.test(target) ? "plain" : undefined
}

/** A path that would be a socket's with something before it, or a slash behind it. */
const NEAR = /^(?<before>.*?)(?<socket>\/connection\/websocket|\/channels\/[^/]+)\/*$/

const quoted = JSON.stringify

/** What may be wrong with a path that is nearly a socket's; `undefined` where it is far from that. */
export const hint = (prefix: string, url: string): string | undefined => {
  const path = pathOf(url.replace(ORIGIN, ""))
  const { before, socket } = NEAR.exec(path)?.groups ?? {}
  if (before === undefined || socket === undefined) return undefined
  if (before === prefix) return `${prefix}${socket} is served, without a slash at its end`
  const expected = `${prefix}${socket} is served`
  if (before === "") return `${expected}: http_server.handler_prefix is ${quoted(prefix)}`
  return prefix === ""
    ? `${expected}: have the proxy in front strip ${quoted(before)}, or set http_server.handler_prefix to it`
    : `${expected}: http_server.handler_prefix is ${quoted(prefix)}, not ${quoted(before)}`
}

/** What an upgrade to `url` asks for. */
export const parse = (prefix: string, url: string): Target => {
  const target = below(prefix, url)
  if (target === PROTOCOL_PATH) return PROTOCOL
  const [path = "", query = ""] = target?.split("?", 2) ?? []
  if (path === PROTOCOL_PATH) return PROTOCOL
  if (!path.startsWith(PLAIN_PATH)) {
    const sockets = `sockets are at ${prefix}${PROTOCOL_PATH} and ${prefix}${PLAIN_PATH}{channel}`
    return { _tag: "Unknown", detail: hint(prefix, url) ?? sockets }
  }
  const segment = path.slice(PLAIN_PATH.length)
  if (segment === "" || segment.includes("/")) {
    const detail = hint(prefix, url) ?? `expected ${prefix}${PLAIN_PATH}{channel}, percent-encoded`
    return { _tag: "Malformed", detail }
  }
  return Either.match(
    Either.try(() => decodeURIComponent(segment)),
    {
      onLeft: () => ({ _tag: "Malformed", detail: "the channel is not percent-encoded UTF-8" }),
      onRight: (channel) => ({ _tag: "Plain", channel, parameters: new URLSearchParams(query) })
    }
  )
}
