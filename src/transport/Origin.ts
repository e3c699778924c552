/**
 * Which pages may connect. A browser sends the origin of the page with every
 * WebSocket handshake and lets any page connect to any host, so the server has
 * to ask (cross-site WebSocket hijacking; RFC 6455, section 10.2).
 */
import { BlockList, isIP } from "node:net"

/** What the rule looks at. */
export interface Request {
  /** The `Origin` header. */
  readonly origin: string | undefined
  /** The `Host` header, or what a trusted proxy says it was. */
  readonly host: string | undefined
}

/** Against the request: what kind, why, and what would permit it. */
export interface Refusal {
  readonly reason: "origin" | "host"
  readonly detail: string
}

const hostname = (host: string): string | undefined => {
  const url = `http://${host}`
  return URL.canParse(url) ? new URL(url).hostname : undefined
}

const LOOPBACK = new BlockList()
LOOPBACK.addSubnet("127.0.0.0", 8, "ipv4")
LOOPBACK.addAddress("::1", "ipv6")

/** Whether an address or host name means this machine alone. */
export const isLoopback = (name: string): boolean => {
  const bare = name.replace(/^\[|\]$/g, "").toLowerCase()
  if (bare === "localhost" || bare.endsWith(".localhost")) return true
  const family = isIP(bare)
  return family !== 0 && LOOPBACK.check(bare, family === 4 ? "ipv4" : "ipv6")
}

const withPort = (url: URL): string => {
  const port = url.port === "" ? (url.protocol === "https:" || url.protocol === "wss:" ? "443" : "80") : url.port
  return `${url.hostname}:${port}`
}

/** Whether `origin` has the host and port of the `Host` header; a missing port is that of the origin's scheme. */
const sameHost = (origin: URL, host: string): boolean => {
  const url = `${origin.protocol}//${host}`
  return URL.canParse(url) && withPort(new URL(url)) === withPort(origin)
}

const escape = (text: string): string => text.replace(/[.+?^${}()|[\]\\]/g, "\\$&")

/** `https://*.example.com` matches any host below it; a pattern without a `*` matches itself. */
const matches = (pattern: string, origin: string): boolean =>
  new RegExp(`^${escape(pattern.toLowerCase()).replaceAll("*", "[^/]*")}$`).test(origin.toLowerCase())

/**
 * The rule. No `Origin`: passes. Otherwise its host and port equal `Host`, or it
 * matches one of `allowed`; on a loopback address any loopback origin passes,
 * and `Host` must be a loopback name itself (against DNS rebinding). `null`
 * needs `*`.
 */
export const check = (
  request: Request,
  allowed: ReadonlyArray<string>,
  boundToLoopback: boolean
): Refusal | undefined => {
  const { origin, host } = request
  const everyone = allowed.includes("*")
  if (boundToLoopback && !everyone && !isLoopback(hostname(host ?? "") ?? "")) {
    return {
      reason: "host",
      detail: `Host ${JSON.stringify(host ?? "")} is not this machine; HOST=0.0.0.0 listens beyond it`
    }
  }
  if (origin === undefined || everyone) return undefined
  const permit = `client.allowed_origins with ${JSON.stringify(origin)} would permit it`
  if (origin === "null")
    return { reason: "origin", detail: 'origin null; client.allowed_origins with "*" would permit it' }
  if (!URL.canParse(origin)) return { reason: "origin", detail: `origin ${JSON.stringify(origin)} is not a URL` }
  const url = new URL(origin)
  if (host !== undefined && sameHost(url, host)) return undefined
  if (boundToLoopback && isLoopback(url.hostname)) return undefined
  return allowed.some((pattern) => matches(pattern, origin))
    ? undefined
    : { reason: "origin", detail: `origin ${origin}; ${permit}` }
}

/** How many requests of those that passed are remembered. */
const REMEMBERED = 8

/**
 * The rule of one server. Nearly all of its requests have the same few origins
 * and hosts, and to parse them takes up to 6 µs and 0.6 KB: the last few pairs
 * that passed are remembered. No header is longer than Node takes them (16 KB).
 */
export const make = (
  allowed: ReadonlyArray<string>,
  boundToLoopback: boolean
): ((request: Request) => Refusal | undefined) => {
  const passed: Array<Request> = []
  let next = 0
  return (request) => {
    const { origin, host } = request
    for (const known of passed) if (known.host === host && known.origin === origin) return undefined
    const refusal = check(request, allowed, boundToLoopback)
    if (refusal !== undefined) return refusal
    passed[next] = { origin, host }
    next = (next + 1) % REMEMBERED
    return undefined
  }
}
