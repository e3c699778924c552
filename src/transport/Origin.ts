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

/** Where the server listens that got the request. */
export interface Bound {
  /** On an address of this machine alone. */
  readonly toLoopback: boolean
  /** The option `host`, of a server that listens on it by itself; `undefined` where a program listens. */
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

/** Longest origin or host that a pattern may match: a host name has 253 characters at most (RFC 1035). */
const LONGEST = 320

/**
 * `https://*.example.com` matches any host below it; a pattern without a `*`
 * matches itself. The time grows with the length to the power of the number of `*`.
 */
const matches = (pattern: string, text: string): boolean =>
  text.length <= LONGEST &&
  new RegExp(`^${escape(pattern.toLowerCase()).replaceAll("*", "[^/]*")}$`).test(text.toLowerCase())

/** The host name of a pattern: without scheme and port. */
const nameIn = (pattern: string): string => pattern.replace(/^[^/]*:\/\//, "").replace(/:[\d*]+$/, "")

/**
 * Whether a server on a loopback address may be asked for under the name `host`.
 * Not, where a page made another name of its own mean this machine (DNS
 * rebinding): its origin equals that `Host`. A name of `allowed` is no page's
 * own; docs/decisions/0021 has the cases.
 */
const isOwnName = (host: string | undefined, allowed: ReadonlyArray<string>, own: string | undefined): boolean => {
  const name = hostname(host ?? "") ?? ""
  if (name === "") return false
  return isLoopback(name) || name === own?.toLowerCase() || allowed.some((pattern) => matches(nameIn(pattern), name))
}

/** What would permit a request that was refused for its `Host`; true for the server that refuses it. */
const permitHost = ({ host, origin }: Request, bound: Bound): string => {
  const page = origin ?? (hostname(host ?? "") === undefined ? undefined : `https://${host}`)
  const listed = page === "null" ? "*" : page !== undefined && URL.canParse(page) ? page : undefined
  const allow = listed === undefined ? "" : `client.allowed_origins with ${JSON.stringify(listed)} would permit it; `
  const beyond =
    bound.host === undefined
      ? "listening on an address beyond this machine"
      : "the option host (HOST) with 0.0.0.0, which listens beyond it,"
  return `${allow}${beyond} would permit any`
}

/**
 * The rule. No `Origin`: passes. Otherwise it matches one of `allowed`, or its
 * host and port equal `Host`; `null` needs `*`.
 *
 * On a loopback address any page can reach the server under a name of its own,
 * by DNS rebinding, and then its origin equals `Host`. There `Host` must be a
 * loopback name, or the name of an allowed origin, or the origin itself must be
 * allowed; under a loopback name any loopback origin passes.
 */
export const check = (request: Request, allowed: ReadonlyArray<string>, bound: Bound): Refusal | undefined => {
  const { origin, host } = request
  if (allowed.includes("*")) return undefined
  const isUrl = origin !== undefined && URL.canParse(origin)
  if (isUrl && allowed.some((pattern) => matches(pattern, origin))) return undefined
  if (bound.toLoopback && !isOwnName(host, allowed, bound.host)) {
    return {
      reason: "host",
      detail: `Host ${JSON.stringify(host ?? "")} is not this machine: ${permitHost(request, bound)}`
    }
  }
  if (origin === undefined) return undefined
  if (origin === "null")
    return { reason: "origin", detail: 'origin null; client.allowed_origins with "*" would permit it' }
  if (!isUrl) return { reason: "origin", detail: `origin ${JSON.stringify(origin)} is not a URL` }
  const url = new URL(origin)
  // Under the name of an allowed origin, on loopback, that origin alone: another one of this name
  // (http beside https) may be a page of whoever answers for the name on this network.
  const isUnderAllowed = bound.toLoopback && !isOwnName(host, [], bound.host)
  if (!isUnderAllowed) {
    if (host !== undefined && sameHost(url, host)) return undefined
    if (bound.toLoopback && isLoopback(url.hostname)) return undefined
  }
  return {
    reason: "origin",
    detail: `origin ${origin}; client.allowed_origins with ${JSON.stringify(origin)} would permit it`
  }
}

/** How many requests of those that passed are remembered. */
const REMEMBERED = 8

/** Requests that passed under one kind of address. */
class Passed {
  readonly #requests: Array<Request> = []
  #next = 0

  has({ host, origin }: Request): boolean {
    for (const known of this.#requests) if (known.host === host && known.origin === origin) return true
    return false
  }

  add({ host, origin }: Request): void {
    this.#requests[this.#next] = { origin, host }
    this.#next = (this.#next + 1) % REMEMBERED
  }
}

/**
 * The rule of one server. Nearly all of its requests have the same few origins
 * and hosts, and to parse them takes up to 6 µs and 0.6 KB: the last few pairs
 * that passed are remembered. No header is longer than Node takes them (16 KB).
 */
export const make = (allowed: ReadonlyArray<string>): ((request: Request, bound: Bound) => Refusal | undefined) => {
  // A server may listen elsewhere later.
  const [loopback, beyond] = [new Passed(), new Passed()]
  return (request, bound) => {
    const passed = bound.toLoopback ? loopback : beyond
    if (passed.has(request)) return undefined
    const refusal = check(request, allowed, bound)
    if (refusal === undefined) passed.add(request)
    return refusal
  }
}
