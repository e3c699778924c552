/**
 * What the program prints: its log, what a command of the command line answers, and
 * why it does not start.
 *
 * Nobody promises that it can be written. The reader of a pipe goes away (`| head`,
 * a log shipper that restarts), a disk is full. Without a listener such an error
 * would end the process, and with it every connection. Node emits it, Deno throws
 * some of them in the write. Each line is tried: a named pipe may get another
 * reader, and a disk room.
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import process from "node:process"

type Name = "stdout" | "stderr"

/** Those of which it is known that they cannot be written. */
const lost = new Set<Name>()

/** Whether what goes to stdout is what the command was started for, not a log beside its work. */
let isAnswer = false

const isReaderGone = (error: unknown): boolean => error instanceof Error && "code" in error && error.code === "EPIPE"

const write = (name: Name, text: string): void => {
  const written = Either.try(() => process[name].write(text))
  if (Either.isLeft(written)) failed(name, written.left)
}

const failed = (name: Name, error: unknown): void => {
  const isUnwanted = isReaderGone(error)
  if (isAnswer && !isUnwanted) process.exitCode = 1
  if (lost.has(name)) return
  lost.add(name)
  // A reader that takes no more of an answer has what it wanted.
  if (name === "stderr" || (isAnswer && isUnwanted)) return
  const why = error instanceof Error ? error.message : String(error)
  write(
    "stderr",
    isAnswer
      ? `fanfare: stdout cannot be written: ${why}\n`
      : `fanfare: the log cannot be written to stdout: ${why}; the server goes on without it\n`
  )
}

/** Has what goes wrong with stdout and stderr handled here. Once, before anything is written. */
export const listen: Effect.Effect<void> = Effect.sync(() => {
  for (const name of ["stdout", "stderr"] as const) process[name].on("error", (error) => failed(name, error))
})

/** Writes a line of the log to stdout. Where that fails, it says so once on stderr, and nothing else happens. */
export const log = (line: string): void => write("stdout", `${line}\n`)

/** Writes a line to stderr. Where that fails, nothing happens. */
export const problem = (line: string): void => write("stderr", `${line}\n`)

/**
 * Writes to stdout what the command was started for. Where its reader has gone the
 * program ends as usual; where it cannot be written for another reason, with code 1
 * and a line on stderr.
 */
export const answer = (text: string): Effect.Effect<void> =>
  Effect.sync(() => {
    isAnswer = true
    write("stdout", `${text}\n`)
  })
