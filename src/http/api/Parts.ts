/** Finds the text of the values in an array or object, in JSON text that is known to be valid. One pass, no recursion. */

const QUOTE = 0x22
const BACKSLASH = 0x5c
const COMMA = 0x2c
const COLON = 0x3a
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d

/** Calls `mark` with every comma and colon that belongs to the outermost array or object, and with its end. */
const scan = (text: string, mark: (code: number, at: number) => void): void => {
  let depth = 0
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code === QUOTE) {
      at++
      while (text.charCodeAt(at) !== QUOTE) at += text.charCodeAt(at) === BACKSLASH ? 2 : 1
    } else if (code === OPEN_BRACE || code === OPEN_BRACKET) {
      depth++
    } else if (code === CLOSE_BRACE || code === CLOSE_BRACKET) {
      if (--depth === 0) return mark(code, at)
    } else if (depth === 1 && (code === COMMA || code === COLON)) {
      mark(code, at)
    }
  }
}

/** The elements of an array, each as it stands there. */
export const elements = (text: string): ReadonlyArray<string> => {
  const found: Array<string> = []
  let start = text.indexOf("[") + 1
  scan(text, (_, at) => {
    const element = text.slice(start, at).trim()
    if (element !== "") found.push(element)
    start = at + 1
  })
  return found
}

/** The member of an object with a name, as `JSON.parse` would take it: the last one. */
export const member = (text: string, name: string): string | undefined => {
  let found: string | undefined
  let start = text.indexOf("{") + 1
  let key = ""
  scan(text, (code, at) => {
    const part = text.slice(start, at).trim()
    start = at + 1
    if (code === COLON) key = JSON.parse(part) as string
    else if (part !== "" && key === name) found = part
  })
  return found
}
