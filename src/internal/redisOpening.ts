/** Why a Redis cannot be used, in one sentence: what it is or says, and what to write instead. */
import * as Reply from "./redisReply.ts"

const field = (info: string, name: string): string | undefined => new RegExp(`^${name}:(\\S+)`, "m").exec(info)?.[1]

/** The id of the Redis process, by its `INFO server`; empty where it has none. */
export const runIdOf = (server: string): string => field(server, "run_id") ?? ""

/** What `INFO server` says against a link. */
export const unfitMode = (server: string): string | undefined => {
  switch (field(server, "redis_mode")) {
    case "cluster":
      return "it is a node of a Redis Cluster (redis_mode:cluster), which is not supported: redis_url has to name a Redis with cluster-enabled no"
    case "sentinel":
      return "it is a Sentinel (redis_mode:sentinel): redis_url has to name the Redis that it watches"
    default:
      return undefined
  }
}

/** What `INFO replication` says against a link. */
export const unfitRole = (replication: string): string | undefined => {
  if (field(replication, "role") !== "slave") return undefined
  const master = `${field(replication, "master_host")}:${field(replication, "master_port")}`
  return `it is a replica of ${master} (role:slave): redis_url has to name the master`
}

/** A step of opening that Redis refuses. */
export const refusalOf = (step: string, cause: unknown): string => {
  const words = Reply.wordsOf(cause)
  switch (Reply.codeOf(cause)) {
    case "NOAUTH":
      return "NOAUTH Authentication required: redis_url has no password; write redis://:PASSWORD@HOST or redis://USER:PASSWORD@HOST"
    case "WRONGPASS":
      return `${words.replace(/\.$/, "")}: user and password are those of redis_url`
    default:
      // Said before Redis has read a command: HELLO is not what is refused.
      return step === "HELLO" ? words : `${step} is refused: ${words}`
  }
}

/** How far a connection has come that is not open yet. */
export interface Stage {
  readonly isTls: boolean
  /** The network connection is there. */
  readonly isConnected: boolean
  /** HELLO was sent: with TLS, its handshake is done. */
  readonly isGreeted: boolean
}

const TWO_SCHEMES = "rediss:// is for a port with TLS, redis:// for one without"

/** What a Redis has not answered to in time. */
export const silenceOf = ({ isConnected, isGreeted, isTls }: Stage, limit: string): string => {
  if (!isConnected) return `no connection within ${limit}`
  return isTls && !isGreeted
    ? `no answer to the TLS handshake within ${limit}: ${TWO_SCHEMES}`
    : `no answer to HELLO within ${limit}`
}

/** What OpenSSL, and what Deno's TLS, say of an answer that is not TLS. */
const NO_TLS = /wrong version number|packet length too long|record overflow|InvalidContentType|InvalidMessage/i

/** Why a connection has ended before it was open. */
export const failureOf = ({ isGreeted, isTls }: Stage, problem: unknown): string => {
  const words = Reply.wordsOf(problem)
  if (Reply.isReply(problem)) return refusalOf("HELLO", problem)
  if (isTls) return NO_TLS.test(words) ? `no TLS at this port (${words}): ${TWO_SCHEMES}` : words
  return isGreeted ? `it ended the connection instead of answering HELLO (${words}): ${TWO_SCHEMES}` : words
}
