// Loaded into a server under test: the second server that listens in its process never finishes closing, and no wait of a second or more ends.
const { Server } = require("node:net")
const process = require("node:process")

const say = (text) => process.stdout.write(`${text}\n`)

const { clearTimeout, setTimeout } = globalThis
globalThis.setTimeout = (callback, delay = 0, ...rest) => {
  const timer = setTimeout(callback, delay, ...rest)
  if (delay >= 1000) clearTimeout(timer)
  return timer
}

/** Has the event loop come round so many times: time for all that does not wait for something. */
const turns = (count, done) => (count === 0 ? done() : setImmediate(() => turns(count - 1, done)))

const { close, listen } = Server.prototype
const listening = []

Server.prototype.listen = function (...args) {
  listening.push(this)
  this.once("listening", () => {
    if (listening.indexOf(this) === 1) say("a second server listens")
  })
  return listen.apply(this, args)
}

Server.prototype.close = function (done) {
  if (listening.indexOf(this) === 1) {
    // The process would end where nothing else is waited for.
    setInterval(() => undefined, 2 ** 30)
    return close.call(this)
  }
  return close.call(this, (error) => {
    done?.(error)
    turns(100, () => say("the first server has closed"))
  })
}
