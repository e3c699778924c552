// Loaded into a server under test: on SIGUSR2 the machine's clock is an hour behind what it was. Timers go on.
const process = require("node:process")

const HOUR = 3_600_000
const Real = globalThis.Date
let behind = 0

globalThis.Date = class Date extends Real {
  constructor(...args) {
    super(...(args.length === 0 ? [Real.now() - behind] : args))
  }

  static now() {
    return Real.now() - behind
  }
}

process.on("SIGUSR2", () => {
  behind += HOUR
  process.stdout.write("the clock is an hour behind\n")
})
