/**
 * How a publication travels between instances: one line of JSON about it, a
 * line feed, and its `data` as it is.
 *
 * `v` is the lowest version of this format that a reader must know. A newer
 * instance may add fields and keep `v`; older ones ignore them. So instances of
 * neighbouring versions understand each other during a rolling upgrade.
 */
import * as Either from "effect/Either"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import type { ClientInfo, Publication } from "../protocol/Publication.ts"
import * as Tracing from "../Tracing.ts"

/**
 * The newest version that this instance reads. A publication is written as
 * version 1, a join or a leave as version 2: an instance that knows only
 * version 1 would take it for a publication without `data`.
 */
export const VERSION = 2

// Not Schema.Record, which would lose a tag named `__proto__`.
const isTags = (value: unknown): value is Readonly<Record<string, string>> =>
  Predicate.isRecord(value) && Object.values(value).every(Predicate.isString)

const Header = Schema.Struct({
  v: Schema.Int,
  kind: Schema.optional(Schema.Literal("join", "leave")),
  /** `data` is not JSON. */
  text: Schema.optional(Schema.Boolean),
  info: Schema.optional(
    Schema.Struct({
      client: Schema.String,
      user: Schema.optional(Schema.String),
      connInfo: Schema.optional(Schema.String),
      chanInfo: Schema.optional(Schema.String)
    })
  ),
  offset: Schema.optional(Schema.NonNegativeInt),
  epoch: Schema.optional(Schema.String),
  tags: Schema.optional(Schema.declare(isTags)),
  /** The span that published it. What is none is left out: no publication is lost for it. */
  traceparent: Schema.optional(Schema.Unknown)
})

type Header = Schema.Schema.Type<typeof Header>

const decodeHeader = Schema.decodeUnknownEither(Header)

/** Writes an envelope. */
export const encode = (publication: Publication): string => {
  const { data, json, info, ...position } = publication
  const header: Header = {
    v: publication.kind === undefined ? 1 : 2,
    ...(json ? {} : { text: true }),
    ...(info === undefined ? {} : { info: info.user === "" ? { ...info, user: undefined } : info }),
    ...position
  }
  return `${JSON.stringify(header)}\n${data}`
}

const infoOf = ({ client, user = "", connInfo, chanInfo }: NonNullable<Header["info"]>): ClientInfo => ({
  client,
  user,
  ...(connInfo === undefined ? {} : { connInfo }),
  ...(chanInfo === undefined ? {} : { chanInfo })
})

const publicationOf = ({ kind, text, info, offset, epoch, tags, traceparent }: Header, data: string): Publication => ({
  ...(kind === undefined ? {} : { kind }),
  data,
  json: text !== true,
  ...(info === undefined ? {} : { info: infoOf(info) }),
  ...(offset === undefined ? {} : { offset }),
  ...(epoch === undefined ? {} : { epoch }),
  ...(tags === undefined ? {} : { tags }),
  ...(Tracing.isTraceparent(traceparent) ? { traceparent } : {})
})

/** Reads an envelope. Left: why it cannot be read. */
export const decode = (payload: string): Either.Either<Publication, string> => {
  const feed = payload.indexOf("\n")
  if (feed === -1) return Either.left("no header")
  return Either.try({
    try: (): unknown => JSON.parse(payload.slice(0, feed)),
    catch: () => "the header is not JSON"
  }).pipe(
    Either.flatMap((header) => Either.mapLeft(decodeHeader(header), () => "the header has fields of other types")),
    Either.flatMap((header) =>
      header.v > VERSION
        ? Either.left(`version ${header.v} is newer than ${VERSION}`)
        : Either.right(publicationOf(header, payload.slice(feed + 1)))
    )
  )
}
