// A process of subscribers, publishers and presence watchers of a chaos run,
// each of which keeps a log. Started by chaos.ts; what it is told and what it
// says over IPC stands in cast.ts.
import { Centrifuge } from "centrifuge"
import { Agent, request } from "node:http"
import { WebSocket } from "ws"

// `port`: of the proxy before the nodes. `members`: the subscribers, `{ client, promised, channels }`.
const { port, apiKey, members, publishers, channels, seed, timing } = JSON.parse(process.argv[2])

/** Milliseconds of a clock that all processes of a machine share, and that nobody sets. */
const clock = () => Number(process.hrtime.bigint() / 1000n) / 1000

/** Mulberry32. */
const chanceOf = (start) => {
  let state = start >>> 0
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  const below = (bound) => Math.floor(next() * bound)
  return { next, below, pick: (all) => all[below(all.length)] }
}

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds))

const say = (type, rest = {}) => process.send({ type, ...rest })

// ── Subscribers ──────────────────────────────────────────────────────────────

/** The log of one subscription, as the checker reads it. */
const logs = []

/** What each channel's subscribers have to get before they are done, once that is known. */
let last = new Map()

const changed = () => {
  if (last.size > 0 && logs.every((log) => log.isSubscribed && log.newest.has(last.get(log.channel)))) {
    last = new Map()
    say("done")
  }
}

const open = (client, channel, promised) => {
  const log = { client, channel, promised, events: [], isSubscribed: false, wasSubscribed: false, newest: new Set() }
  logs.push(log)
  return log
}

let unready = Infinity

const subscribed = (log, rest = {}) => {
  log.events.push({ type: "subscribed", at: clock(), ...rest })
  log.isSubscribed = true
  if (!log.wasSubscribed) {
    log.wasSubscribed = true
    if (--unready === 0) say("subscribed")
  }
  changed()
}

const received = (log, id, offset) => {
  log.events.push({ type: "received", at: clock(), id, ...(offset === undefined ? {} : { offset }) })
  if (last.get(log.channel) !== id) return
  log.newest.add(id)
  changed()
}

const interrupted = (log, code) => {
  log.events.push({ type: "interrupted", at: clock(), code })
  log.isSubscribed = false
}

/** Whether there is nothing more to do but to listen. */
const publishing = { isOver: false }

/** What should not be, how often; and what is only counted. */
const figures = { retries: 0, presences: 0 }
const trouble = {}
const troubled = (what) => {
  trouble[what] = (trouble[what] ?? 0) + 1
}

/** Subscribers, and what ends them. */
const actors = []

/**
 * As in browsers, where a socket that was told to close has no messages any
 * more. The SDK relies on it: it takes what comes from the connection before
 * this one for what comes now.
 */
class BrowserSocket extends WebSocket {
  close(code, reason) {
    this.removeAllListeners("message")
    super.close(code, reason)
  }
}

const sdk = (name) => {
  const centrifuge = new Centrifuge(`ws://127.0.0.1:${port}/connection/websocket?client=${name}`, {
    websocket: BrowserSocket,
    minReconnectDelay: 50,
    maxReconnectDelay: 1000,
    maxServerPingDelay: timing.pingDelay,
    timeout: 3000
  })
  centrifuge.on("disconnected", ({ code, reason }) => troubled(`disconnected: ${code} ${reason}`))
  return centrifuge
}

const follow = (centrifuge, log) => {
  const subscription = centrifuge.newSubscription(log.channel, { minResubscribeDelay: 50, maxResubscribeDelay: 1000 })
  subscription.on("subscribed", ({ wasRecovering, recovered, streamPosition }) =>
    subscribed(log, {
      ...(streamPosition === undefined
        ? {}
        : { position: { epoch: streamPosition.epoch, offset: streamPosition.offset } }),
      ...(wasRecovering ? { recovered } : {})
    })
  )
  subscription.on("publication", ({ data, offset }) =>
    received(log, data.id, log.promised === "lossy" ? undefined : offset)
  )
  subscription.on("subscribing", ({ code }) => {
    if (log.wasSubscribed) interrupted(log, code)
  })
  subscription.on("unsubscribed", ({ code, reason }) => {
    interrupted(log, code)
    troubled(`unsubscribed: ${code} ${reason}`)
  })
  subscription.subscribe()
  return subscription
}

const stock = ({ client, promised, channels: names }) => {
  const centrifuge = sdk(client)
  // A room's subscriptions are at most once, whatever those beside it are.
  const followed = names.map((channel) =>
    follow(centrifuge, open(client, channel, channel.startsWith("room:") ? "lossy" : promised))
  )
  const present = () => {
    const rooms = followed.filter(({ channel, state }) => channel.startsWith("room:") && state === "subscribed")
    return rooms.map(({ channel }) => ({ channel, client: centrifuge._client }))
  }
  centrifuge.connect()
  return { centrifuge, present, leave: () => centrifuge.disconnect() }
}

const plain = ({ client, promised, channels: [channel] }) => {
  const log = open(client, channel, promised)
  const chance = chanceOf(seed + logs.length)
  let socket
  /** When it was pinged last; not by a node that does not ping. */
  let pinged
  let isLeaving = false
  const connect = () => {
    const current = new WebSocket(`ws://127.0.0.1:${port}/channels/${channel}`, {
      perMessageDeflate: false,
      handshakeTimeout: 3000
    })
    socket = current
    pinged = undefined
    current.on("open", () => subscribed(log))
    current.on("message", (data) => {
      received(log, JSON.parse(String(data)).id)
    })
    current.on("ping", () => {
      pinged = clock()
    })
    current.on("error", () => undefined)
    current.on("close", (code) => {
      if (log.isSubscribed) interrupted(log, code)
      if (!isLeaving) setTimeout(connect, 50 + chance.below(450))
    })
  }
  connect()
  return {
    present: () => [],
    // Its server is gone without a goodbye.
    look: () => {
      if (clock() - pinged > timing.pingInterval + timing.pingDelay) socket.terminate()
    },
    leave: () => {
      isLeaving = true
      socket.close(1000)
    }
  }
}

/** Reads presence again and again, while joins and leaves come. */
const watcher = ({ client, promised, channels: [channel] }) => {
  const centrifuge = sdk(client)
  const log = open(client, channel, promised)
  const subscription = follow(centrifuge, log)
  let isAsking = false
  const ask = () => {
    if (isAsking || publishing.isOver || subscription.state !== "subscribed") return
    isAsking = true
    subscription
      .presence()
      .then(
        () => figures.presences++,
        ({ code, message }) => {
          if (REFUSED.has(code)) troubled(`presence: ${code} ${message}`)
        }
      )
      .finally(() => {
        isAsking = false
      })
  }
  centrifuge.connect()
  return {
    look: ask,
    present: () => (subscription.state === "subscribed" ? [{ channel, client: centrifuge._client }] : []),
    leave: () => centrifuge.disconnect()
  }
}

const KINDS = { plain, "plain lossy": plain, watcher }

// ── Publishers ───────────────────────────────────────────────────────────────

const published = []

/** Of some length: most are short, some are longer than a slow client takes. */
const padding = (chance) => "x".repeat(chance.next() < 0.05 ? 4000 : chance.below(200))

const entry = (id, channel) => {
  const one = { id, channel, at: clock(), outcome: { type: "unknown", at: 0 } }
  published.push(one)
  return one
}

const ended = (one, type, rest = {}) => {
  one.outcome = { type, at: clock(), ...rest }
}

const agent = new Agent({ keepAlive: false })

/** The answer of the server API; `undefined` where there is none, or none that says more than that it failed. */
const post = (body) =>
  new Promise((resolve) => {
    const outgoing = request(
      {
        port,
        host: "127.0.0.1",
        method: "POST",
        path: "/api/publish",
        agent,
        timeout: 2500,
        headers: { "x-api-key": apiKey }
      },
      (incoming) => {
        let text = ""
        incoming.setEncoding("utf8")
        incoming.on("data", (part) => {
          text += part
        })
        incoming.on("end", () => resolve(incoming.statusCode === 200 ? JSON.parse(text) : undefined))
        incoming.on("error", () => resolve(undefined))
      }
    )
    outgoing.on("timeout", () => outgoing.destroy())
    outgoing.on("error", () => resolve(undefined))
    outgoing.end(JSON.stringify(body))
  })

/** Errors after which a publication is not accepted, whatever happens. */
const REFUSED = new Set([101, 102, 103, 104, 106, 107, 108, 109, 110])

/** Publishes one after another, each again under its key until it is acknowledged. */
const overHttp = async ({ client, rate }, index) => {
  const chance = chanceOf(seed * 31 + index)
  for (let number = 1; !publishing.isOver; number++) {
    await sleep(-Math.log(1 - chance.next()) * (1000 / rate))
    const channel = chance.pick(channels)
    const one = entry(`${client}:${number}`, channel)
    const body = { channel, data: { id: one.id, pad: padding(chance) }, idempotency_key: one.id }
    const until = one.at + timing.patience
    while (one.outcome.at === 0) {
      const answer = await post(body)
      const { epoch, offset } = answer?.result ?? {}
      if (answer?.result !== undefined)
        ended(
          one,
          "acknowledged",
          epoch === undefined || offset === undefined || epoch === "" ? {} : { position: { epoch, offset } }
        )
      else if (REFUSED.has(answer?.error?.code)) {
        troubled(`api: ${JSON.stringify(answer.error)}`)
        ended(one, "refused")
      } else if (clock() > until) ended(one, "unknown")
      else {
        figures.retries++
        await sleep(100)
      }
    }
  }
}

/** Publishes several in one step, without waiting for their answers. */
const overSdk = async ({ client, rate }, index) => {
  const chance = chanceOf(seed * 37 + index)
  const centrifuge = sdk(client)
  centrifuge.connect()
  actors.push({ present: () => [], leave: () => centrifuge.disconnect() })
  const answers = new Set()
  let number = 0
  while (!publishing.isOver) {
    const burst = 1 + chance.below(5)
    await sleep(-Math.log(1 - chance.next()) * ((1000 * burst) / rate))
    if (centrifuge.state !== "connected" || publishing.isOver) continue
    const channel = chance.pick(channels)
    for (let count = 0; count < burst; count++) {
      const one = entry(`${client}:${++number}`, channel)
      one.sent = { connection: centrifuge._client, number }
      const answer = centrifuge.publish(channel, { id: one.id, pad: padding(chance) }).then(
        () => ended(one, "acknowledged"),
        ({ code, message }) => {
          if (REFUSED.has(code)) troubled(`publish: ${code} ${message}`)
          ended(one, REFUSED.has(code) ? "refused" : "unknown")
        }
      )
      answers.add(answer)
      void answer.finally(() => answers.delete(answer))
    }
  }
  await Promise.all(answers)
}

// ── What it is told ──────────────────────────────────────────────────────────

let working = []

const PART = 20_000

const report = () => {
  for (const { client, channel, promised, events } of logs) {
    for (let from = 0; from === 0 || from < events.length; from += PART) {
      say("log", { client, channel, promised, events: events.slice(from, from + PART) })
    }
  }
  for (let from = 0; from < published.length; from += PART)
    say("published", { published: published.slice(from, from + PART) })
  say("reported", { trouble, figures })
}

const TOLD = {
  publish: () => {
    working = publishers.map((one, index) => (one.over === "http" ? overHttp(one, index) : overSdk(one, index)))
  },
  stop: () => {
    publishing.isOver = true
    void Promise.all(working).then(() => say("stopped"))
  },
  expect: (message) => {
    last = new Map(message.last)
    changed()
  },
  report,
  present: () => say("present", { present: actors.flatMap(({ present }) => present()) }),
  leave: () => {
    for (const { leave } of actors) leave()
    say("left")
  }
}

process.on("message", (message) => TOLD[message.type](message))
process.on("disconnect", () => process.exit(0))

const start = async () => {
  unready = members.reduce((sum, { channels: names }) => sum + names.length, 0)
  for (const [index, member] of members.entries()) {
    actors.push((KINDS[member.kind] ?? stock)(member))
    // Not all in one instant, to nodes that are cold.
    if (index % 10 === 9) await sleep(20)
  }
}
setInterval(() => actors.forEach(({ look }) => look?.()), 500)
void start()
