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
import type { ClientInfo, Publication } from "../protocol/Publication.ts"
import * as Tracing from "../Tracing.ts"

/**
 * The newest version that this instance reads. A publication is written as
 * version 1, a join or a leave as version 2: an instance that knows only
 * version 1 would take it for a publication without `data`.
 */
export const VERSION = 2

/** What is said of a publication. Checked by hand: every instance reads every publication, and a schema takes 4 µs for it. */
interface Header {
  readonly v: number
  readonly kind?: "join" | "leave"
  /** `data` is not JSON. */
  readonly text?: boolean
  readonly info?: {
    readonly client: string
    readonly user?: string | undefined
    readonly connInfo?: string
    readonly chanInfo?: string
  }
  readonly offset?: number
  readonly epoch?: string
  readonly tags?: Readonly<Record<string, string>>
  /** The span that published it. What is none is left out: no publication is lost for it. */
  readonly traceparent?: unknown
}

type Check = (value: unknown) => boolean

const optional =
  (check: Check): Check =>
  (value) =>
    value === undefined || check(value)

const hasFields = (value: unknown, fields: ReadonlyArray<readonly [name: string, check: Check]>): boolean =>
  Predicate.isRecord(value) && fields.every(([name, check]) => check(value[name]))

const INFO_FIELDS = Object.entries({
  client: Predicate.isString,
  user: optional(Predicate.isString),
  connInfo: optional(Predicate.isString),
  chanInfo: optional(Predicate.isString)
})

const HEADER_FIELDS = Object.entries({
  v: Number.isSafeInteger,
  kind: optional((value) => value === "join" || value === "leave"),
  text: optional(Predicate.isBoolean),
  info: optional((value) => hasFields(value, INFO_FIELDS)),
  offset: optional((value) => Number.isSafeInteger(value) && (value as number) >= 0),
  epoch: optional(Predicate.isString),
  tags: optional((value) => Predicate.isRecord(value) && Object.values(value).every(Predicate.isString))
})

const isHeader = (value: unknown): value is Header => hasFields(value, HEADER_FIELDS)

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

const publicationOf = ({ kind, text, info, offset, epoch, tags, traceparent }: Header, data: string): Publication => {
  const one: { -readonly [K in keyof Publication]: Publication[K] } = { data, json: text !== true }
  if (kind !== undefined) one.kind = kind
  if (info !== undefined) one.info = infoOf(info)
  if (offset !== undefined) one.offset = offset
  if (epoch !== undefined) one.epoch = epoch
  if (tags !== undefined) one.tags = tags
  if (Tracing.isTraceparent(traceparent)) one.traceparent = traceparent
  return one
}

const parse = (text: string): Either.Either<unknown, unknown> => Either.try((): unknown => JSON.parse(text))

/** Reads an envelope. Left: why it cannot be read. */
export const decode = (payload: string): Either.Either<Publication, string> => {
  const feed = payload.indexOf("\n")
  if (feed === -1) return Either.left("no header")
  const parsed = parse(payload.slice(0, feed))
  if (Either.isLeft(parsed)) return Either.left("the header is not JSON")
  const header = parsed.right
  if (!isHeader(header)) return Either.left("the header has fields of other types")
  if (header.v > VERSION) return Either.left(`version ${header.v} is newer than ${VERSION}`)
  return Either.right(publicationOf(header, payload.slice(feed + 1)))
}
