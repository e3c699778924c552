// A process of a stock client whose `publication` handler throws in the middle
// of a replay: a process of its own, since what the handler throws may end as an
// unhandled rejection. Tells its parent over IPC what it is up to, and in the
// end which publications its handler has handled.
import { WebSocket } from "ws"

const { url, token, channel, sdk, throwsAt, last, isServerSide } = JSON.parse(process.argv[2])
const { Centrifuge } = await import(sdk)

const handled = []
let throws = true

const say = (type, more = {}) => process.send({ type, ...more })

const onPublication = ({ data }) => {
  if (data === throwsAt && throws) {
    throws = false
    setImmediate(() => {
      client.disconnect()
      // 5.7 dispatches nothing more once a handler has thrown: another client goes on from its position.
      if (sdk === "centrifuge-5.7") ({ client, subscription } = make(client, subscription))
      say("threw")
    })
    throw new Error("the handler throws")
  }
  handled.push(data)
  if (data === last) say("seen", { handled })
}

const make = (before, subscriptionBefore) => {
  const client = new Centrifuge(url, { websocket: WebSocket, token })
  if (isServerSide) {
    client.on("subscribed", () => say("subscribed"))
    client.on("publication", onPublication)
    if (before !== undefined) Reflect.set(client, "_serverSubs", Reflect.get(before, "_serverSubs"))
    return { client }
  }
  const since = subscriptionBefore && {
    offset: Reflect.get(subscriptionBefore, "_offset"),
    epoch: Reflect.get(subscriptionBefore, "_epoch")
  }
  const subscription = client.newSubscription(channel, { since })
  subscription.on("subscribed", () => say("subscribed"))
  subscription.on("publication", onPublication)
  subscription.subscribe()
  return { client, subscription }
}

process.on("unhandledRejection", () => undefined)
process.on("uncaughtException", () => undefined)

let { client, subscription } = make()
process.on("message", ({ type }) => {
  if (type === "connect") return client.connect()
  client.disconnect()
  say("left")
})
client.connect()
