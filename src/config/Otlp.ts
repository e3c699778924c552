/** Where traces are sent and with what headers, as OpenTelemetry's own variables have it. */
import * as Either from "effect/Either"

/** Whether a text is the base URL of a collector. What authorizes belongs in a header: a URL is printed. */
export const isEndpoint = (text: string): boolean => {
  if (!/^https?:\/\//.test(text) || !URL.canParse(text)) return false
  const url = new URL(text)
  return url.username === "" && url.password === "" && url.search === "" && url.hash === ""
}

/** The name of a header, https://www.rfc-editor.org/rfc/rfc9110#name-tokens */
const NAME = /^[\w!#$%&'*+.^`|~-]+$/

/** `key=value,key2=value2`, the values percent-encoded; `undefined` where it is something else. */
export const parseHeaders = (text: string): Readonly<Record<string, string>> | undefined => {
  const headers: Array<readonly [string, string]> = []
  for (const member of text.split(",").map((one) => one.trim())) {
    if (member === "") continue
    const equals = member.indexOf("=")
    const name = member.slice(0, Math.max(equals, 0)).trim()
    const value = Either.getOrUndefined(Either.try(() => decodeURIComponent(member.slice(equals + 1).trim())))
    if (!NAME.test(name) || value === undefined || !/^[\t\x20-\x7e\x80-\xff]*$/.test(value)) return undefined
    headers.push([name, value])
  }
  return headers.length === 0 ? undefined : Object.fromEntries(headers)
}
