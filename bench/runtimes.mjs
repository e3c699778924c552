// npm run bench:runtimes [-- ROUNDS]: one room of 1,000 plain sockets, saturated, under Node and under Deno,
// beside a loop of `send` on Deno's own server. Loopback only; it ends by itself.
//
// Ten of the sockets publish, each with four messages on their way at a time. All messages have one size, so that
// what a socket got is known from its bytes: a round in which a socket got more or less than was published fails.
import { execFileSync, spawn } from "node:child_process"
import { randomBytes } from "node:crypto"
import { connect } from "node:net"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { tool } from "../scripts/tools.mjs"

const root = fileURLToPath(new URL("..", import.meta.url))
const CONNECTIONS = 1000
const PUBLISHERS = 10
const WINDOW = 4
const SIZE = 128
const SECONDS = 4
const ROUNDS = Number(process.argv[2] ?? 5)

const NAMESPACE = {
  name: "bench",
  allow_subscribe_for_client: true,
  allow_subscribe_for_anonymous: true,
  allow_publish_for_client: true,
  allow_publish_for_anonymous: true
}
// No pings: they would be taken for messages.
const env = {
  ...process.env,
  PORT: "0",
  FANFARE_CLIENT_PING_INTERVAL: "10000h",
  FANFARE_CHANNEL_NAMESPACES: JSON.stringify([NAMESPACE])
}

const deno = tool("deno")
const ALLOWED = ["--allow-net", "--allow-env", `--allow-read=${root}`]
const SERVERS = {
  "Fanfare, Node": [process.execPath, `${root}dist/main.js`],
  "Fanfare, Deno": [deno, "run", ...ALLOWED, `${root}src/main.ts`],
  "Deno.serve, a send for each": [deno, "run", ...ALLOWED, `${root}bench/deno-serve.ts`]
}

const pinned = (() => {
  try {
    execFileSync("taskset", ["-cp", "1", String(process.pid)], { stdio: "ignore" })
    return ["taskset", "-c", "0"]
  } catch {
    return []
  }
})()

const start = async (command) => {
  const [program, ...args] = [...pinned, ...command]
  const child = spawn(program, args, { env, stdio: ["ignore", "pipe", "inherit"] })
  const port = await new Promise((resolve, reject) => {
    let output = ""
    child.stdout.setEncoding("utf8").on("data", (text) => {
      output += text
      const found = /listening on http:\/\/[^\s]+:(\d+)/.exec(output)
      if (found) resolve(Number(found[1]))
    })
    child.once("exit", (code) => reject(new Error(`${command.join(" ")} ended with ${code}`)))
  })
  return { child, port }
}

const stop = (child) =>
  new Promise((resolve) => {
    child.removeAllListeners("exit")
    child.once("exit", resolve)
    child.kill("SIGKILL")
  })

/** Seconds of CPU that a process has had. */
const cpu = (pid) => {
  const [, after] = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")
  const fields = after.split(" ")
  return (Number(fields[11]) + Number(fields[12])) / 100
}

/** A masked text frame of `SIZE` bytes; what comes back is as long less its mask. */
const frame = () => {
  const payload = Buffer.alloc(SIZE, "x")
  const mask = randomBytes(4)
  const masked = payload.map((byte, index) => byte ^ mask[index % 4])
  return Buffer.concat([Buffer.from([0x81, 0xfe, SIZE >> 8, SIZE & 0xff]), mask, masked])
}
const FRAME = frame()
const REPLY = FRAME.length - 4

const open = (port) =>
  new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1")
    const one = { socket, bytes: 0, onBytes: () => undefined }
    socket.setNoDelay(true)
    socket.once("error", reject)
    socket.write(
      `GET /channels/bench:room HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
        `Sec-WebSocket-Key: ${randomBytes(16).toString("base64")}\r\nSec-WebSocket-Version: 13\r\n\r\n`
    )
    socket.once("data", (head) => {
      if (!head.toString("latin1").startsWith("HTTP/1.1 101")) return reject(new Error(head.toString("latin1")))
      socket.on("data", (chunk) => {
        one.bytes += chunk.length
        one.onBytes()
      })
      resolve(one)
    })
  })

const round = async (command) => {
  const { child, port } = await start(command)
  try {
    const sockets = []
    while (sockets.length < CONNECTIONS) {
      sockets.push(...(await Promise.all(Array.from({ length: 50 }, () => open(port)))))
    }
    let published = 0
    let running = true
    for (const one of sockets.slice(0, PUBLISHERS)) {
      // Each keeps its window open against what everybody has published: all get everything.
      one.onBytes = () => {
        if (!running) return
        while (published - Math.floor(one.bytes / REPLY) < PUBLISHERS * WINDOW) {
          published++
          one.socket.write(FRAME)
        }
      }
    }
    const began = performance.now()
    const cpuBefore = cpu(child.pid)
    for (const one of sockets.slice(0, PUBLISHERS)) one.onBytes()
    await new Promise((resolve) => setTimeout(resolve, SECONDS * 1000))
    running = false
    const deadline = performance.now() + 10_000
    while (sockets.some(({ bytes }) => bytes < published * REPLY) && performance.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    const seconds = (performance.now() - began) / 1000
    const used = cpu(child.pid) - cpuBefore
    const wrong = sockets.filter(({ bytes }) => bytes !== published * REPLY).length
    if (wrong > 0) throw new Error(`${wrong} sockets got more or less than the ${published} published`)
    for (const { socket } of sockets) socket.destroy()
    const deliveries = published * CONNECTIONS
    return { rate: deliveries / seconds, cpu: used / (deliveries / 1e6) }
  } finally {
    await stop(child)
  }
}

const median = (values) => values.toSorted((x, y) => x - y)[Math.floor(values.length / 2)]

const results = Object.fromEntries(Object.keys(SERVERS).map((name) => [name, []]))
for (let index = 0; index < ROUNDS; index++) {
  for (const [name, command] of Object.entries(SERVERS)) {
    const result = await round(command)
    results[name].push(result)
    process.stderr.write(`${index + 1}/${ROUNDS} ${name}: ${Math.round(result.rate / 1000)} thousand deliveries/s\n`)
  }
}

const base = median(results["Fanfare, Node"].map(({ rate }) => rate))
process.stdout.write(
  "| server | deliveries/s, median (least to most) | against Node | CPU-s per million |\n|---|---|---|---|\n"
)
for (const [name, runs] of Object.entries(results)) {
  const rates = runs.map(({ rate }) => rate)
  const [least, middle, most] = [Math.min(...rates), median(rates), Math.max(...rates)].map((rate) => Math.round(rate))
  const cost = median(runs.map((run) => run.cpu)).toFixed(2)
  process.stdout.write(`| ${name} | ${middle} (${least} to ${most}) | ${(middle / base).toFixed(2)} | ${cost} |\n`)
}
