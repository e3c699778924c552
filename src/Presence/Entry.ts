/**
 * What is kept of a connection that is in a channel: one line of JSON about it,
 * a line feed, and its user as it is, so that Redis' scripts find the user
 * without parsing anything.
 *
 * `v` is the lowest version of this format that a reader must know. A newer
 * instance may add fields and keep `v`; older ones ignore them. What stands
 * behind the first line feed is the user in every version.
 */
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import { Buffer } from "node:buffer"
import type { ClientInfo } from "../protocol/Publication.ts"

/** The version that this instance writes, and the newest that it reads. */
export const VERSION = 1

const Header = Schema.Struct({
  v: Schema.Int,
  connInfo: Schema.optional(Schema.String),
  chanInfo: Schema.optional(Schema.String)
})

const decodeHeader = Schema.decodeUnknownEither(Header)

/** Writes an entry; the client is what it is kept under. */
export const encode = ({ user, connInfo, chanInfo }: ClientInfo): string => {
  const header: Schema.Schema.Type<typeof Header> = {
    v: VERSION,
    ...(connInfo === undefined ? {} : { connInfo }),
    ...(chanInfo === undefined ? {} : { chanInfo })
  }
  return `${JSON.stringify(header)}\n${user}`
}

/** Reads the entry of a client. Left: why it cannot be read. */
export const decode = (client: string, entry: string): Either.Either<ClientInfo, string> => {
  const feed = entry.indexOf("\n")
  if (feed === -1) return Either.left("no header")
  return Either.try({
    try: (): unknown => JSON.parse(entry.slice(0, feed)),
    catch: () => "the header is not JSON"
  }).pipe(
    Either.flatMap((header) => Either.mapLeft(decodeHeader(header), () => "the header has fields of other types")),
    Either.flatMap(({ v, connInfo, chanInfo }) =>
      v > VERSION
        ? Either.left(`version ${v} is newer than ${VERSION}`)
        : Either.right({
            client,
            user: entry.slice(feed + 1),
            ...(connInfo === undefined ? {} : { connInfo }),
            ...(chanInfo === undefined ? {} : { chanInfo })
          })
    )
  )
}

/** How many bytes an entry and its client have. */
export const sizeOf = (info: ClientInfo): number => Buffer.byteLength(info.client) + Buffer.byteLength(encode(info))
