// A process of stock `centrifuge` clients that are cut off again and again, and
// keep a record of what they got. Started by jitter.ts; tells its parent over
// IPC when all are subscribed, when all have got the last message, and what
// each of them has seen.
import { Centrifuge } from "centrifuge"
import { WebSocket } from "ws"

const { url, channel, first, count, minReconnectDelay, maxReconnectDelay } = JSON.parse(process.argv[2])

const clock = () => performance.timeOrigin + performance.now()

/** How many connect at a time at the start, to instances that are cold. */
const AT_A_TIME = 20

const clients = []
let subscribed = 0
let last = Infinity
let done = 0

const lookWhetherDone = (client) => {
  if (client.isDone || client.newest < last) return
  client.isDone = true
  if (++done === count) process.send({ type: "done" })
}

const onPublication = (client, { data: number, offset }) => {
  // Every message is in the stream once, so its number is its offset.
  if (offset !== number) client.misplaced++
  client.counts[number] = (client.counts[number] ?? 0) + 1
  if (client.counts[number] > 1) client.duplicates++
  else if (number < client.newest) client.outOfOrder++
  else client.newest = number
  lookWhetherDone(client)
}

const onSubscribed = (client, { wasRecovering, recovered }) => {
  const at = clock()
  if (!client.isSubscribed) {
    client.isSubscribed = true
    if (++subscribed === count) process.send({ type: "subscribed" })
    if (clients.length < count) start(first + clients.length)
  } else {
    if (!wasRecovering || !recovered) client.unrecovered++
    const recovery = { lost: client.lost, open: client.open, at, replayed: 0 }
    client.recoveries.push(recovery)
    // What was missed is handed out in the step that says so.
    const before = client.newest
    queueMicrotask(() => (recovery.replayed = client.newest - before))
  }
  client.open = undefined
}

const start = (id) => {
  const client = {
    id,
    counts: [],
    newest: 0,
    duplicates: 0,
    outOfOrder: 0,
    misplaced: 0,
    unrecovered: 0,
    recoveries: [],
    trouble: {},
    isSubscribed: false,
    isDone: false,
    lost: undefined,
    open: undefined
  }
  clients.push(client)
  const trouble = (what) => {
    client.trouble[what] = (client.trouble[what] ?? 0) + 1
  }
  const centrifuge = new Centrifuge(`${url}?client=${id}`, {
    websocket: WebSocket,
    minReconnectDelay,
    maxReconnectDelay
  })
  // When `connect` and `subscribe` have been sent, in one frame.
  centrifuge.on("__centrifuge_debug:connect_frame_sent", () => {
    client.open = clock()
  })
  centrifuge.on("connecting", ({ code, reason }) => {
    // 0: the first time; 1: its socket was cut.
    if (code > 1) trouble(`reconnects: ${code} ${reason}`)
  })
  centrifuge.on("disconnected", ({ code, reason }) => trouble(`disconnected: ${code} ${reason}`))
  const subscription = centrifuge.newSubscription(channel)
  subscription.on("subscribing", ({ code, reason }) => {
    client.lost = clock()
    if (code > 1) trouble(`resubscribes: ${code} ${reason}`)
  })
  subscription.on("subscribed", (context) => onSubscribed(client, context))
  subscription.on("publication", (context) => onPublication(client, context))
  subscription.on("unsubscribed", ({ code, reason }) => trouble(`unsubscribed: ${code} ${reason}`))
  subscription.on("error", ({ error }) => {
    // 11: cut off before the answer.
    if (error.code !== 11) trouble(`subscribe: ${error.code} ${error.message}`)
  })
  subscription.subscribe()
  centrifuge.connect()
}

for (let id = first; id < first + Math.min(count, AT_A_TIME); id++) start(id)

const report = ({ counts, id, duplicates, outOfOrder, misplaced, unrecovered, recoveries, trouble }) => {
  let received = 0
  for (let number = 1; number <= last; number++) if (counts[number] > 0) received++
  return { id, received, duplicates, outOfOrder, misplaced, unrecovered, recoveries, trouble }
}

process.on("message", (message) => {
  if (message.type === "expect") {
    last = message.last
    for (const client of clients) lookWhetherDone(client)
  } else {
    process.send({ type: "report", seen: clients.map(report) })
  }
})
process.on("disconnect", () => process.exit(0))
