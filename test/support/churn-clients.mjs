// A process of clients of the client protocol that come to one of several
// instances, subscribe and unsubscribe, leave in one way or another and come
// back, at random. Started by test/PresenceChurn.test.ts; told to stop over
// IPC, it says where each of them is then: the truth about presence.
import { createHmac } from "node:crypto"
import { setTimeout as sleep } from "node:timers/promises"
import { WebSocket } from "ws"

// `ramp`: milliseconds in which they come; `pause`: milliseconds between two acts of one, at most. `isProper`: nobody is cut off.
// `least`: the figures at which enough has happened.
const { urls, channels, count, users, key, seed, ramp, pause, isProper, least } = JSON.parse(process.argv[2])

// ── Chance: each client has its own, so that no other's pace changes it ──────

/** Mulberry32. */
const chanceOf = (start) => {
  let state = start
  const next = () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  return { next, below: (bound) => Math.floor(next() * bound), is: (probability) => next() < probability }
}

const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url")

const token = (claims) => {
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`
  return `${signed}.${createHmac("sha256", key).update(signed).digest("base64url")}`
}

// ── What came of it ──────────────────────────────────────────────────────────

const figures = {
  connects: 0,
  subscribes: 0,
  unsubscribes: 0,
  closes: 0,
  cuts: 0,
  inFlight: 0,
  pings: 0,
  unavailable: 0
}
const looking = setInterval(() => {
  if (Object.entries(least).some(([what, enough]) => figures[what] < enough)) return
  clearInterval(looking)
  process.send({ type: "enough" })
}, 100)

/** What must not be, how often. */
const trouble = {}
const troubled = (what) => {
  trouble[what] = (trouble[what] ?? 0) + 1
}

/** On a busy machine Redis may not answer in time: then it is not done. */
const refused = (what, error) => {
  if (error.temporary === true) figures.unavailable++
  else troubled(`${what}: ${JSON.stringify(error)}`)
}

/** Open ones that have been asked to be one. */
const connections = new Set()
const state = { isStopped: false, stop: () => undefined }
const stopped = new Promise((resolve) => {
  state.stop = resolve
})

/** Until then, or until all stop. */
const rest = (milliseconds) => Promise.race([sleep(milliseconds), stopped])

// ── A connection ─────────────────────────────────────────────────────────────

/** Sends commands in one frame; answers with their replies, `undefined` for what gets none any more. */
const command = (connection, ...commands) => {
  if (connection.socket.readyState !== WebSocket.OPEN) return Promise.resolve(commands.map(() => undefined))
  const lines = []
  const replies = commands.map((one) => {
    const id = ++connection.lastId
    lines.push(JSON.stringify({ id, ...one }))
    return new Promise((resolve) => {
      connection.pending.set(id, resolve)
    })
  })
  connection.socket.send(lines.join("\n"))
  return Promise.all(replies)
}

/** Waits until every act is answered, and that has had its effect. */
const answered = async ({ acts }) => {
  while (acts.size > 0) await Promise.all(acts)
}

const onLine = (connection, line) => {
  if (line === "{}") {
    figures.pings++
    connection.socket.send("{}")
    return
  }
  const { id, push, ...reply } = JSON.parse(line)
  if (push !== undefined) {
    if (push.unsubscribe !== undefined || push.disconnect !== undefined) troubled(JSON.stringify(push))
    return
  }
  connection.pending.get(id)?.(reply)
  connection.pending.delete(id)
}

const connect = async (client) => {
  const { chance, user, index } = client
  const socket = new WebSocket(urls[chance.below(urls.length)], { perMessageDeflate: false })
  const connection = {
    client,
    socket,
    id: undefined,
    lastId: 0,
    pending: new Map(),
    /** What it does at present. */
    acts: new Set(),
    /** What it is in by the replies, and what is shown of it there. */
    channels: new Map(),
    /** What it will be in once all is answered. */
    wanted: new Set(),
    isLeaving: false
  }
  connection.closed = new Promise((resolve) => {
    socket.on("close", (code) => {
      connections.delete(connection)
      if (!connection.isLeaving) troubled(`closed with ${code}`)
      for (const settle of connection.pending.values()) settle(undefined)
      connection.pending.clear()
      resolve()
    })
  })
  socket.on("error", ({ message }) => troubled(message))
  socket.on("message", (data) => {
    for (const line of String(data).split("\n")) onLine(connection, line)
  })
  const isOpen = await new Promise((resolve) => {
    socket.once("open", () => resolve(true))
    socket.once("close", () => resolve(false))
  })
  if (!isOpen) return undefined
  connections.add(connection)
  figures.connects++
  const [reply] = await command(connection, {
    connect: user === "" ? {} : { token: token({ sub: user, info: { n: index } }) }
  })
  connection.id = reply?.connect?.client
  if (connection.id === undefined) troubled(`connect: ${JSON.stringify(reply)}`)
  return connection
}

/** A command that takes a connection into a channel or out of it, and what its reply means. */
const turn = (connection, channel) => {
  const { chance, user } = connection.client
  if (connection.wanted.delete(channel)) {
    return {
      command: { unsubscribe: { channel } },
      done: (reply) => {
        if (reply === undefined) return
        if (reply.error !== undefined) return refused("unsubscribe", reply.error)
        figures.unsubscribes++
        connection.channels.delete(channel)
      }
    }
  }
  connection.wanted.add(channel)
  // Some show something of themselves in the channel.
  const shown = chance.is(0.2) ? { info: { n: chance.below(1000) } } : undefined
  return {
    command: {
      subscribe: shown === undefined ? { channel } : { channel, token: token({ sub: user, channel, ...shown }) }
    },
    done: (reply) => {
      if (reply === undefined) return
      if (reply.error !== undefined) return refused("subscribe", reply.error)
      figures.subscribes++
      connection.channels.set(channel, shown?.info)
    }
  }
}

/** Goes into a channel or out of it; now and then back and forth, in one frame. */
const go = async (connection) => {
  const { chance } = connection.client
  const channel = channels[chance.below(channels.length)]
  const turns = Array.from({ length: chance.is(0.2) ? 2 + chance.below(3) : 1 }, () => turn(connection, channel))
  const replies = await command(connection, ...turns.map((one) => one.command))
  turns.forEach((one, index) => one.done(replies[index]))
}

/** The same, so that it can be waited for. */
const act = (connection) => {
  const acting = go(connection).finally(() => connection.acts.delete(acting))
  connection.acts.add(acting)
  return acting
}

const leave = async (connection) => {
  const { chance } = connection.client
  connection.isLeaving = true
  if (isProper || chance.is(0.5)) {
    if (chance.is(0.5)) {
      for (const channel of connection.wanted) {
        const one = turn(connection, channel)
        const [reply] = await command(connection, one.command)
        one.done(reply)
      }
    }
    if (isProper) await answered(connection)
    figures.closes++
    connection.socket.close(1000)
  } else {
    figures.cuts++
    if (chance.is(0.5)) {
      // It is gone before it is answered.
      figures.inFlight++
      void act(connection)
      if (chance.is(0.5)) await sleep(chance.below(5))
    }
    connection.socket.terminate()
  }
  await connection.closed
}

const live = async (client) => {
  const { chance } = client
  await rest(chance.below(ramp))
  while (!state.isStopped) {
    const connection = await connect(client)
    if (connection === undefined) continue
    const acts = 1 + chance.below(8)
    for (let done = 0; done < acts && !state.isStopped; done++) {
      // Not every act waits for the one before it.
      if (chance.is(0.3)) void act(connection)
      else await act(connection)
      await rest(chance.below(pause))
    }
    if (!state.isStopped) await leave(connection)
  }
}

const clients = Array.from({ length: count }, (_, index) => {
  const chance = chanceOf(seed * 100_003 + index)
  // A third has no user, the others share theirs.
  const user = index % 3 === 0 ? "" : `user-${index % users}`
  return { index, chance, user }
})

const lives = clients.map((client) => live(client))

const truth = async () => {
  state.isStopped = true
  state.stop()
  await Promise.all(lives)
  await Promise.all(Array.from(connections, (connection) => answered(connection)))
  process.send({
    type: "truth",
    figures,
    trouble,
    present: Array.from(connections, ({ channels, client, id }) => ({
      client: id,
      user: client.user,
      ...(client.user === "" ? {} : { conn_info: { n: client.index } }),
      channels: Array.from(channels, ([channel, chan_info]) =>
        chan_info === undefined ? { channel } : { channel, chan_info }
      )
    }))
  })
}

const leaveAll = async () => {
  await Promise.all(Array.from(connections, (connection) => leave(connection)))
  process.send({ type: "gone", figures, trouble })
}

process.on("message", ({ type }) => {
  if (type === "stop") void truth()
  else void leaveAll()
})
process.on("disconnect", () => process.exit(0))
