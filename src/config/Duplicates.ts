/** Keys that an object of a JSON text has twice. A parser takes the last one and says nothing. */

/** A key that stands twice in one object. */
export interface Duplicate {
  /** The path of the key: `client.ping_interval`, `channel.namespaces[0].name`. */
  readonly path: string
  /** The lines of the first and of the second, from 1. */
  readonly lines: readonly [number, number]
}

/** An object or a list that is being read. */
interface Level {
  readonly path: string
  /** The line of each key so far; `undefined` in a list. */
  readonly keys: Map<string, number> | undefined
  /** The key, or the index, that a value belongs to. */
  at: string
  index: number
}

const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\],:]|\n/g

/** The first duplicate of a text that is JSON. */
export const find = (text: string): Duplicate | undefined => {
  const levels: Array<Level> = []
  let line = 1
  let isKey = false
  for (const [token] of text.matchAll(TOKEN)) {
    const level = levels.at(-1)
    if (token === "\n") {
      line++
    } else if (token === "{" || token === "[") {
      const path = level === undefined ? "" : level.at
      levels.push({ path, keys: token === "{" ? new Map() : undefined, at: `${path}[0]`, index: 0 })
      isKey = token === "{"
    } else if (token === "}" || token === "]") {
      levels.pop()
      isKey = false
    } else if (token === ",") {
      isKey = level?.keys !== undefined
      if (level !== undefined && !isKey) level.at = `${level.path}[${++level.index}]`
    } else if (token !== ":" && isKey && level?.keys !== undefined) {
      const key = String(JSON.parse(token))
      level.at = level.path === "" ? key : `${level.path}.${key}`
      const first = level.keys.get(key)
      if (first !== undefined) return { path: level.at, lines: [first, line] }
      level.keys.set(key, line)
      isKey = false
    }
  }
  return undefined
}
