// Programs of a run: started on core 0 where `taskset` exists, measured by /proc, and always stopped.
import { execFileSync, spawn } from "node:child_process"
import { readFileSync } from "node:fs"
import { createServer } from "node:net"
import { constants } from "node:os"
import { program } from "../../scripts/tools.mjs"

const pin = () => {
  try {
    execFileSync("taskset", ["-cp", "1", String(process.pid)], { stdio: "ignore" })
    return ["taskset", "-c", "0"]
  } catch {
    return []
  }
}

/** What stands before a server's command: this process, which makes the load, keeps the other core for itself. */
const onItsCore = pin()

export const isPinned = onItsCore.length > 0

const running = new Set()

/** Kills every program that runs. */
export const killAll = () => {
  for (const child of running) child.kill("SIGKILL")
}

process.on("exit", killAll)

// Without a listener a signal ends this process alone.
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(128 + constants.signals[signal]))

export const freePort = () =>
  new Promise((resolve, reject) => {
    const server = createServer()
    server.once("error", reject)
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address()
      server.close(() => resolve(port))
    })
  })

/** Starts a program and waits for a line of its output; how long that took is in `seconds`. */
const start = (command, env, awaited) =>
  new Promise((resolve, reject) => {
    const began = performance.now()
    const [name, ...args] = [...onItsCore, ...command]
    const child = spawn(name, args, { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] })
    running.add(child)
    let output = ""
    const onOutput = (text) => {
      if (output.length < 100_000) output += text
      if (!awaited.test(output)) return
      child.removeListener("exit", onExit)
      child.removeListener("error", onError)
      resolve({ child, pid: child.pid, seconds: (performance.now() - began) / 1000 })
    }
    const onExit = (code) => {
      running.delete(child)
      reject(new Error(`${command.join(" ")} ended with ${code}: ${output.slice(-2000)}`))
    }
    const onError = (error) => {
      running.delete(child)
      reject(error)
    }
    child.stdout.setEncoding("utf8").on("data", onOutput)
    child.stderr.setEncoding("utf8").on("data", onOutput)
    child.once("exit", onExit)
    child.once("error", onError)
  })

const stop = ({ child }) =>
  new Promise((resolve) => {
    const ended = () => {
      running.delete(child)
      resolve()
    }
    if (child.exitCode !== null || child.signalCode !== null) return ended()
    child.once("exit", ended)
    child.kill("SIGKILL")
  })

const LISTENING = /listening on http:\/\/[^\s]+:\d+/

const answered = async (url, { child }) => {
  while (child.exitCode === null && child.signalCode === null) {
    const { ok } = await fetch(url).catch(() => ({ ok: false }))
    if (ok) return
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  throw new Error(`${url} is not there: the server has ended`)
}

/** Two instances of a peer and their Redis, for as long as `use` takes. */
export const withServers = async (peer, use) => {
  const started = []
  try {
    const redisPort = await freePort()
    const redis = program("REDIS_SERVER_BIN", "redis-server", "redis-server")
    const quiet = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    started.push(await start([redis, "--port", String(redisPort), ...quiet], {}, /Ready to accept/))
    const instances = []
    for (let index = 0; index < 2; index++) {
      const port = await freePort()
      const { command, env } = peer.server({ port, redisPort })
      const instance = { ...(await start(command, env, LISTENING)), port }
      started.push(instance)
      if (peer.ready !== undefined) await answered(`http://127.0.0.1:${port}${peer.ready}`, instance)
      instances.push(instance)
    }
    return await use(instances)
  } finally {
    await Promise.all(started.map(stop))
  }
}

/** Seconds of CPU that processes have had, to 10 ms. */
export const cpu = (instances) =>
  instances.reduce((sum, { pid }) => {
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ")
    return sum + (Number(fields[11]) + Number(fields[12])) / 100
  }, 0)

/** Bytes of memory that processes have resident. */
export const rss = (instances) =>
  instances.reduce((sum, { pid }) => {
    const kilobytes = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1]
    return sum + Number(kilobytes) * 1024
  }, 0)
