/**
 * A publication: one message in a channel.
 *
 * `data` travels as the text that the publisher sent, from its socket through
 * the broker to every subscriber; it is never parsed and written again, so
 * numbers, key order and white space survive, and nothing in it can cost more
 * than its length.
 */
import * as Either from "effect/Either"
import * as Raw from "./Raw.ts"

/** Who published, or who is in a channel. `connInfo` and `chanInfo` are raw JSON. */
export interface ClientInfo {
  /** The connection's id. */
  readonly client: string
  /** Empty for an anonymous client. */
  readonly user: string
  readonly connInfo?: string
  readonly chanInfo?: string
}

/** One message in a channel. */
export interface Publication {
  /** Not a message, but news of who is there: `info` has joined or left. Without `data` and position. */
  readonly kind?: "join" | "leave"
  /** The payload as its publisher sent it. */
  readonly data: string
  /** Whether `data` is JSON text. If not, protocol clients get it as a JSON string. */
  readonly json: boolean
  /** The client that published it; none when the server API or the application did. */
  readonly info?: ClientInfo
  /** Position in the channel's stream, in channels with history. */
  readonly offset?: number
  /** The stream that `offset` counts in. */
  readonly epoch?: string
  readonly tags?: Readonly<Record<string, string>>
  /** The span that published it, where that is recorded; not a part of what is kept in history. */
  readonly traceparent?: string
}

/** A publication as it is kept: one that is read from history later has its trace behind it. */
export const untraced = (publication: Publication): Publication => {
  if (publication.traceparent === undefined) return publication
  const { traceparent: _, ...kept } = publication
  return kept
}

// What is nested too deep for common JSON readers is carried as text.
const isJson = (text: string): boolean =>
  Either.isRight(Either.try((): unknown => JSON.parse(text))) && Raw.isShallow(text)

/** About how much memory it takes, in characters: what bounds are measured in. */
export const weight = ({ data, info, tags }: Publication): number =>
  data.length +
  (info === undefined ? 0 : info.user.length + (info.connInfo?.length ?? 0) + (info.chanInfo?.length ?? 0)) +
  (tags === undefined ? 0 : JSON.stringify(tags).length)

/** Tells of a client that has joined or left. */
export const attendance = (kind: "join" | "leave", info: ClientInfo): Publication => ({
  kind,
  data: "",
  json: true,
  info
})

/** A publication of a text that may or may not be JSON. */
export const fromText = (data: string, info?: ClientInfo): Publication =>
  info === undefined ? { data, json: isJson(data) } : { data, json: isJson(data), info }

/** A publication of a text that is known to be JSON. */
export const fromJson = (data: string, info?: ClientInfo): Publication =>
  info === undefined ? { data, json: true } : { data, json: true, info }
