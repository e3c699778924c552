/**
 * A case: what is sent to a server, step by step. The same cases are played to
 * Fanfare and to the reference server.
 */

/** One step of a case. `socket` names a connection of the client protocol; its first step opens it. */
export type Step =
  | { readonly do: "send"; readonly socket: string; readonly frame: string | Uint8Array }
  /** Waits until so many pushes have come to it in all. */
  | { readonly do: "pushes"; readonly socket: string; readonly count: number }
  /** Waits until the server has closed it. */
  | { readonly do: "closed"; readonly socket: string }
  | {
      readonly do: "call"
      readonly method: string
      readonly body: string
      readonly headers: Readonly<Record<string, string>>
      /** Whether it only prepares what the case is about: its answer is not looked at. */
      readonly isSilent?: boolean
    }

/** Which of the configurations a case is for: see `profiles.ts`. */
export type Profile = "open" | "strict" | "narrow"

export interface Case {
  /** Unique. */
  readonly name: string
  readonly profile: Profile
  /** Whether pushes are compared as text, for what JSON in memory does not keep. */
  readonly isRaw: boolean
  /** Whether the reference server does not survive it: then it is played to one of its own. */
  readonly isDeadly: boolean
  /**
   * Its steps. `own` is a text that no other case has, for its channels and
   * users. `{{epoch}}` in a text stands for the last epoch that a server has
   * named in this case, `{{client a}}` for the id of the connection `a`.
   */
  readonly steps: (own: string) => ReadonlyArray<Step>
}

export type Value = string | number | boolean | null | ReadonlyArray<unknown> | object

/** A command, by its method and fields; `undefined` leaves a field out. */
export const command = (id: number, method: string, fields: object = {}): string =>
  JSON.stringify({ id, [method]: fields })

/** Sends a frame: texts that are joined by line feeds. */
export const send = (...lines: ReadonlyArray<string>): Step => on("a", ...lines)

/** The same on another connection. */
export const on = (socket: string, ...lines: ReadonlyArray<string>): Step => ({
  do: "send",
  socket,
  frame: lines.join("\n")
})

/** Connects as an anonymous client, or with a token. */
export const connect = (fields: object = {}, socket = "a"): Step => on(socket, command(1, "connect", fields))

export const pushes = (count: number, socket = "a"): Step => ({ do: "pushes", socket, count })

export const closed = (socket = "a"): Step => ({ do: "closed", socket })

/** Calls a method of the server API; the body is JSON text or a value. */
export const call = (
  method: string,
  body: unknown,
  headers: Readonly<Record<string, string>> = { "X-API-Key": API_KEY }
): Extract<Step, { do: "call" }> => ({
  do: "call",
  method,
  body: typeof body === "string" ? body : JSON.stringify(body),
  headers
})

export const API_KEY = "the key of the server API"

/** Publishes numbers from 1 to `count` by the server API; then `{{epoch}}` is that of the channel. */
export const filled = (channel: string, count: number): Step => {
  const commands = Array.from({ length: count }, (_, index) => ({ publish: { channel, data: index + 1 } }))
  return { ...call("batch", { commands }), isSilent: true }
}

interface Options {
  readonly profile?: Profile
  readonly isRaw?: boolean
  readonly isDeadly?: boolean
}

export const make = (name: string, steps: Case["steps"], options: Options = {}): Case => ({
  name,
  steps,
  profile: options.profile ?? "open",
  isRaw: options.isRaw ?? false,
  isDeadly: options.isDeadly ?? false
})
