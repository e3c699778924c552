// Loaded into a server under test: on SIGUSR2 it prints what is left after a collection. Not over IPC, which keeps Deno from starting.
const process = require("node:process")
process.on("SIGUSR2", () => {
  globalThis.gc()
  globalThis.gc()
  const { external, heapUsed } = process.memoryUsage()
  process.stdout.write(`memory: ${heapUsed + external}\n`)
})
