/** Who a request comes from, where proxies stand between. Their headers are believed from `http_server.trusted_proxies` only. */
import { constFalse } from "effect/Function"
import type { IncomingMessage } from "node:http"
import { BlockList, isIP } from "node:net"

/** Whether an address is that of a trusted proxy. */
export type Trusted = (address: string) => boolean

/** The addresses and CIDR ranges of trusted proxies; `invalid` are those that are neither. */
export const parse = (
  entries: ReadonlyArray<string>
): { readonly trusted: Trusted; readonly invalid: ReadonlyArray<string> } => {
  const known = new BlockList()
  const invalid: Array<string> = []
  for (const entry of entries) {
    const [address = "", bits, ...rest] = entry.split("/")
    const family = isIP(address)
    const prefix = bits === undefined ? (family === 4 ? 32 : 128) : /^\d+$/.test(bits) ? Number(bits) : Number.NaN
    const fits = Number.isInteger(prefix) && prefix >= 0 && prefix <= (family === 4 ? 32 : 128) && bits !== ""
    if (family === 0 || !fits || rest.length > 0) invalid.push(entry)
    else known.addSubnet(address, prefix, family === 4 ? "ipv4" : "ipv6")
  }
  const trusted = (address: string): boolean => {
    const family = isIP(address)
    return family !== 0 && known.check(address, family === 4 ? "ipv4" : "ipv6")
  }
  // A look at the list takes 10 µs, also where it is empty.
  return { trusted: entries.length === 0 ? constFalse : trusted, invalid }
}

const plain = (address: string): string => (address.startsWith("::ffff:") ? address.slice("::ffff:".length) : address)

const header = (value: string | Array<string> | undefined): string =>
  Array.isArray(value) ? value.join(",") : (value ?? "")

/** The client's address and the host it asked for, as far as they can be trusted. */
export const client = (
  request: IncomingMessage,
  trusted: Trusted
): { readonly address: string; readonly host: string | undefined } => {
  const peer = plain(request.socket.remoteAddress ?? "")
  if (!trusted(peer)) return { address: peer, host: request.headers.host }
  // Each proxy appends the peer it saw: the last one that is not a proxy of ours is the client.
  const chain = header(request.headers["x-forwarded-for"])
    .split(",")
    .map((part) => plain(part.trim()))
    .filter((part) => part !== "")
  const address = chain.findLast((hop) => !trusted(hop)) ?? chain[0] ?? peer
  const host = header(request.headers["x-forwarded-host"]).split(",")[0]?.trim()
  return { address, host: host === undefined || host === "" ? request.headers.host : host }
}
