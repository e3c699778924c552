/** Patterns for names, in which `*` is any text, also none, and `?` any character. */

/** Whether a name matches; in time that grows with the product of both lengths at most, whatever the pattern is. */
export const matches = (pattern: string, name: string): boolean => {
  let at = 0
  let inName = 0
  let star = -1
  let resumed = 0
  while (inName < name.length) {
    if (pattern[at] === "*") {
      star = at++
      resumed = inName
    } else if (pattern[at] === "?" || pattern[at] === name[inName]) {
      at++
      inName++
    } else if (star >= 0) {
      // The last star takes one character more.
      at = star + 1
      inName = ++resumed
    } else {
      return false
    }
  }
  while (pattern[at] === "*") at++
  return at === pattern.length
}
