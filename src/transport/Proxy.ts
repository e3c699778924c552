/** Who a request comes from, where proxies stand between. Their headers are believed from `http_server.trusted_proxies` only. */
import type { IncomingMessage } from "node:http"
import { BlockList, isIP } from "node:net"

/** Whether an address is that of a trusted proxy. */
export type Trusted = (address: string) => boolean

/** The addresses and CIDR ranges of trusted proxies, if there are any; `invalid` are those that are neither. */
export const parse = (
  entries: ReadonlyArray<string>
): { readonly trusted: Trusted | undefined; readonly invalid: ReadonlyArray<string> } => {
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
  return { trusted: entries.length === 0 ? undefined : trusted, invalid }
}

const plain = (address: string): string => (address.startsWith("::ffff:") ? address.slice("::ffff:".length) : address)

const header = (value: string | Array<string> | undefined): string =>
  Array.isArray(value) ? value.join(",") : (value ?? "")

/** Who a request comes from. */
export interface Client {
  /** The address of the client, as far as it can be trusted; empty once it has gone, or where nobody needs it. */
  readonly address: string
  /** The host that it asked for. */
  readonly host: string | undefined
}

/**
 * The client's address and the host it asked for, as far as they can be trusted.
 * `needsAddress`: see `Hooks.needsAddress`.
 */
export const client = (request: IncomingMessage, trusted: Trusted | undefined, needsAddress: boolean): Client => {
  const { headers, socket } = request
  if (trusted === undefined && !needsAddress) return { address: "", host: headers.host }
  const peer = plain(socket.remoteAddress ?? "")
  if (trusted === undefined || !trusted(peer)) return { address: peer, host: headers.host }
  // Each proxy appends the peer it saw: the last one that is not a proxy of ours is the client.
  const chain = header(headers["x-forwarded-for"])
    .split(",")
    .map((part) => plain(part.trim()))
    .filter((part) => part !== "")
  const address = chain.findLast((hop) => !trusted(hop)) ?? chain[0] ?? peer
  const host = header(headers["x-forwarded-host"]).split(",")[0]?.trim()
  return { address, host: host === undefined || host === "" ? headers.host : host }
}
