/** The answers of a server to a case, in lines that are the same at each run: without ids, epochs and times. */
import { Buffer } from "node:buffer"

/** Lines in the order of the steps; behind them the pushes and the end of each connection. */
export type Transcript = ReadonlyArray<string>

/** Ids of the player's own commands: no case has them, and their answers are left out. */
const FIRST_OWN_ID = 4_294_900_000
const LAST_OWN_ID = 4_294_967_294

/** The id of a command of the player's own. */
export const ownId = (nth: number): number => FIRST_OWN_ID + nth

export const isOwn = (id: unknown): boolean => typeof id === "number" && id >= FIRST_OWN_ID && id <= LAST_OWN_ID

export const parsed = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** The members of a result of `connect` or `refresh` that say which server it was. */
const WHICH_SERVER = new Set(["node", "session", "version", "time"])

const YEAR = 365 * 86_400

/** Seconds go by while a case is played, and servers round them in their own ways. */
const aboutSo = (seconds: number): number | string => {
  if (seconds > YEAR) return "(more than a year)"
  return seconds <= 5 ? "(soon)" : Math.ceil(seconds / 60) * 60
}

const tidied = (name: string, value: unknown): unknown =>
  name === "ttl" && typeof value === "number" ? aboutSo(value) : tidy(value)

/** The same with its members in one order, and without those that say which server it was. */
const tidy = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(tidy)
  if (!isObject(value)) return value
  const isAnswer = "client" in value && "version" in value
  const members = Object.entries(value)
    .filter(([name]) => !isAnswer || !WHICH_SERVER.has(name))
    .toSorted(([one], [other]) => (one < other ? -1 : 1))
  // Not by assignment: a member may be called `__proto__`.
  return Object.fromEntries(members.map(([name, member]) => [name, tidied(name, member)]))
}

/** Names for the ids and epochs of a run, in the order in which they were first seen. */
export class Names {
  readonly #own: string
  readonly #given = new Map<string, string>()
  readonly #clients = new Map<string, string>()
  #epoch = ""

  constructor(own: string) {
    this.#own = own
  }

  /** Notes the epochs in a text of a server. */
  see(text: string): void {
    for (const [, epoch = ""] of text.matchAll(/"epoch":"([^"]+)"/g)) {
      this.#epoch = epoch
      const nth = Array.from(this.#given.values()).filter((name) => name.startsWith("(epoch")).length + 1
      if (!this.#given.has(epoch)) this.#given.set(epoch, `(epoch ${nth})`)
    }
  }

  /** The connection with this name has got this id. */
  connected(socket: string, client: string): void {
    this.#given.set(client, `(client ${socket})`)
    this.#clients.set(socket, client)
  }

  /** Puts into a text of a case what its placeholders stand for. */
  fill(text: string): string {
    return text
      .replaceAll("{{epoch}}", this.#epoch)
      .replaceAll(/\{\{client (\w+)\}\}/g, (_, socket: string) => this.#clients.get(socket) ?? "")
  }

  /** A text of a server, as it stands in a transcript. */
  tell(text: string): string {
    let told = text.replaceAll(this.#own, "@")
    for (const [given, name] of this.#given) told = told.replaceAll(given, name)
    return told.length > 2000 ? `${told.slice(0, 200)}… of ${Buffer.byteLength(told)} bytes` : told
  }
}

/** JSON text in one form; what is none stays as it is. */
export const canonical = (text: string): string => {
  const value = parsed(text)
  return value === undefined ? text : JSON.stringify(tidy(value))
}

const messageless = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(messageless)
  if (!isObject(value)) return value
  return Object.fromEntries(
    Object.entries(value).map(([name, member]) =>
      name === "error" && isObject(member) ? [name, { code: member["code"] }] : [name, messageless(member)]
    )
  )
}

/** An answer of the server API without what is for people: the messages of errors, and texts that are no JSON. */
export const withoutMessages = (text: string): string => {
  const value = parsed(text)
  return value === undefined ? "(text)" : JSON.stringify(messageless(value))
}
