/**
 * The timers that are set and hold the process, and where each was set. The
 * runtime counts timers too, but those of the test runner among them, which come
 * and go.
 */
import { syncBuiltinESMExports } from "node:module"
import timers from "node:timers"

type Callback = (...args: Array<unknown>) => void

const { clearTimeout, setTimeout } = timers
const pending = new Map<NodeJS.Timeout, { readonly stack?: string }>()

const set = (callback: Callback, delay?: number, ...rest: Array<unknown>): NodeJS.Timeout => {
  const trace = {}
  Error.captureStackTrace(trace, set)
  const timer = setTimeout(
    (...args: Array<unknown>) => {
      pending.delete(timer)
      callback(...args)
    },
    delay,
    ...rest
  )
  pending.set(timer, trace)
  return timer
}

const clear = (timer?: NodeJS.Timeout | string | number): void => {
  pending.delete(timer as NodeJS.Timeout)
  clearTimeout(timer)
}

// The runner has taken its own before any test is loaded. Effect and ws take the global ones when they set a timer.
const own = { setTimeout: Object.assign(set, setTimeout), clearTimeout: clear }
Object.assign(globalThis, own)
Object.assign(timers, own)
syncBuiltinESMExports()

/** Those that are set now: the first lines of where that was. */
export const held = (): ReadonlyArray<string> =>
  Array.from(pending)
    .filter(([timer]) => timer.hasRef())
    .map(([, { stack = "" }]) => `Timeout ${stack.split("\n").slice(1, 6).join(" ")}`)
