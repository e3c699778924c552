/**
 * The timers that are set and hold the process, and where each was set. The
 * runtime counts timers too, but those of the test runner among them, which come
 * and go.
 */
import { syncBuiltinESMExports } from "node:module"
import timers from "node:timers"

type Callback = (...args: Array<unknown>) => void

const { clearTimeout, setInterval, setTimeout } = timers
const pending = new Map<NodeJS.Timeout, { readonly stack?: string }>()

const keep = (timer: NodeJS.Timeout, by: object): NodeJS.Timeout => {
  const trace = {}
  Error.captureStackTrace(trace, by as () => void)
  pending.set(timer, trace)
  return timer
}

const once = (callback: Callback, delay?: number, ...rest: Array<unknown>): NodeJS.Timeout => {
  const timer = setTimeout(
    (...args: Array<unknown>) => {
      pending.delete(timer)
      callback(...args)
    },
    delay,
    ...rest
  )
  return keep(timer, once)
}

const again = (callback: Callback, delay?: number, ...rest: Array<unknown>): NodeJS.Timeout =>
  keep(setInterval(callback, delay, ...rest), again)

// One clears what the other has set, too.
const clear = (timer?: NodeJS.Timeout | string | number): void => {
  pending.delete(timer as NodeJS.Timeout)
  clearTimeout(timer)
}

// The runner has taken its own before any test is loaded. Effect and ws take the global ones when they set a timer.
const own = {
  setTimeout: Object.assign(once, setTimeout),
  setInterval: again,
  clearTimeout: clear,
  clearInterval: clear
}
Object.assign(globalThis, own)
Object.assign(timers, own)
syncBuiltinESMExports()

/** Those that are set now: the first lines of where that was. */
export const held = (): ReadonlyArray<string> =>
  Array.from(pending)
    // Closed in another way: by itself, or by its number.
    .filter(([timer]) => timer.hasRef() && Reflect.get(timer, "_destroyed") !== true)
    .map(([, { stack = "" }]) => `Timeout ${stack.split("\n").slice(1, 6).join(" ")}`)
