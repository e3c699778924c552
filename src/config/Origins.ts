/** The entries of `client.allowed_origins`: those that no origin of a browser can match, and what would. */

const PARTS = /^([^:/]+):\/\/([^/]*)(.*)$/

const DEFAULT_PORT: Readonly<Record<string, string>> = { http: "80", https: "443" }

/** A browser's origin is that of the page, which has another scheme than its WebSockets. */
const PAGE_SCHEME: Readonly<Record<string, string>> = { ws: "http", wss: "https" }

/** A host and port as a browser writes them; as it is where `*` stands in it. */
const canonical = (scheme: string, host: string): string => {
  const bare = host.endsWith(`:${DEFAULT_PORT[scheme]}`) ? host.slice(0, host.lastIndexOf(":")) : host
  if (bare.includes("*") || DEFAULT_PORT[scheme] === undefined) return bare
  const url = `${scheme}://${bare}`
  return URL.canParse(url) ? new URL(url).host : bare
}

const quoted = (text: string): string => JSON.stringify(text)

/** What would have to be written in place of an entry, in words; `undefined` where it is an origin. */
export const expected = (entry: string): string | undefined => {
  if (entry === "*") return undefined
  if (entry === "null") return '"*": the origin null is permitted with all others only'
  const [, given = "", authority = "", rest = ""] = PARTS.exec(entry) ?? []
  if (given === "" || authority === "") {
    const host = entry.replace(/^\/*/, "").replace(/\/.*$/, "")
    return `an origin with its scheme, such as ${quoted(`https://${host === "" ? "app.example.com" : host}`)}`
  }
  const scheme = PAGE_SCHEME[given.toLowerCase()] ?? given
  const host = canonical(scheme.toLowerCase(), authority.slice(authority.lastIndexOf("@") + 1).replace(/[?#].*$/, ""))
  const right = `${scheme}://${host}`
  if (right.toLowerCase() === entry.toLowerCase()) return undefined
  const why =
    scheme !== given
      ? "an origin is that of a page"
      : rest !== ""
        ? rest === "/"
          ? "an origin has no slash at its end"
          : "an origin has no path"
        : "as browsers write it"
  return `${quoted(right)}: ${why}`
}
