// Loaded into a server under test: on SIGUSR2 it prints how many root fibers and resources it has. Not over IPC, which keeps Deno from starting.
const process = require("node:process")
const roots = () => globalThis["effect/GlobalValue"]?.get(Symbol.for("effect/FiberScope/Global"))?.roots.size
process.on("SIGUSR2", () => {
  const census = { fibers: roots() }
  // A timer comes and goes with each beat of the link; an immediate is due in this very turn.
  for (const name of process.getActiveResourcesInfo()) {
    if (name !== "Timeout" && name !== "Immediate") census[name] = (census[name] ?? 0) + 1
  }
  process.stdout.write(`census: ${JSON.stringify(census)}\n`)
})
