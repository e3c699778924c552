/**
 * What an error answer of Redis means. Redis begins it with a code in capitals
 * (`OOM command not allowed …`); Redis 6 wraps the one that a script met in a
 * sentence of its own, Redis 7 adds the script and the line.
 */

/** Whether a rejection is an answer of Redis, so that the connection itself lives. */
export const isReply = (cause: unknown): boolean => cause instanceof Error && cause.name === "ReplyError"

/** An error answer that came inside another answer. */
export const replyError = (message: string): Error => Object.assign(new Error(message), { name: "ReplyError" })

/** Longest text of Redis that is passed on, in characters. */
const LONGEST = 300

const MET_IN_SCRIPT = /^ERR Error running script .*@user_script: ?\d+: -?(?=[A-Z]{2,} )/s
const SCRIPT_AND_LINE = / script: [0-9a-f]{40}, on @user_script:\d+\.$/
// They are keys, publications and Lua; the part before them has the command.
const ARGUMENTS = /,? with args beginning with:.*$/s
const CONTROL = /\p{Cc}+/gu

/** Redis's words, on one line, without the arguments of the command. */
export const wordsOf = (cause: unknown): string => {
  const message = cause instanceof Error && cause.message !== "" ? cause.message : String(cause)
  const words = message
    .replace(ARGUMENTS, "")
    .replace(MET_IN_SCRIPT, "")
    .replace(SCRIPT_AND_LINE, "")
    .replace(CONTROL, " ")
    .trim()
  return words.length > LONGEST ? `${words.slice(0, LONGEST)}…` : words
}

/** Says that the ACL of the user who runs a script forbids what the script does; it has the code `ERR`. */
const FORBIDDEN_IN_SCRIPT = /^(?:ERR )?The user executing the script can't /

/** The code: `OOM`, `NOPERM`; `ERR` where Redis gives no other. */
export const codeOf = (cause: unknown): string => {
  const words = wordsOf(cause)
  if (FORBIDDEN_IN_SCRIPT.test(words)) return "NOPERM"
  return /^[A-Z][A-Z0-9_]*(?= |$)/.exec(words)?.[0] ?? "ERR"
}

/** Whether the user may not call a command, or Redis does not have it under this name. */
export const isDenied = (cause: unknown): boolean => ["NOPERM", "ERR"].includes(codeOf(cause))

/**
 * - `Ends`: the Redis at the other end is not the one to work with (a replica, a
 *   node of a cluster, one that asks for a password): the link ends.
 * - `Stalls`: it does no work for a time: the link waits.
 * - `Refuses`: it refuses this command, and does others.
 */
export type Verdict = "Ends" | "Stalls" | "Refuses"

const ENDS = new Set(["READONLY", "MASTERDOWN", "MOVED", "ASK", "CROSSSLOT", "CLUSTERDOWN", "NOAUTH"])
const STALLS = new Set(["LOADING", "BUSY"])

/** What an error answer says about the link. */
export const verdictOf = (cause: unknown): Verdict => {
  const code = codeOf(cause)
  if (ENDS.has(code)) return "Ends"
  return STALLS.has(code) ? "Stalls" : "Refuses"
}
