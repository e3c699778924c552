// Loaded into a server under test: answers "memory" with what is left after a collection.
process.channel.unref()
process.on("message", () => {
  globalThis.gc()
  globalThis.gc()
  const { external, heapUsed } = process.memoryUsage()
  process.send(heapUsed + external)
})
