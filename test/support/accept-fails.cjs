// Loaded into a server under test: on SIGUSR2 the system has a connection that it cannot hand over, on every server that listens.
const { Server } = require("node:net")
const process = require("node:process")

const listening = []
const { listen } = Server.prototype

Server.prototype.listen = function (...args) {
  this.once("listening", () => listening.push(this))
  return listen.apply(this, args)
}

process.on("SIGUSR2", () => {
  for (const server of listening) {
    // As `onconnection` of node:net does.
    server.emit("error", Object.assign(new Error("accept ENOBUFS"), { code: "ENOBUFS", syscall: "accept" }))
  }
})
