// The client's half of the Centrifugal client protocol in its JSON encoding, of which a frame may hold several lines.
// Rooms are channels of the namespace "bench".

/** Open to clients without a user, as all other peers are open to everybody. */
export const NAMESPACE = {
  name: "bench",
  allow_subscribe_for_client: true,
  allow_subscribe_for_anonymous: true,
  allow_publish_for_client: true,
  allow_publish_for_anonymous: true
}

// A ping may stand in one frame with publications; no other line begins with an empty object.
const pings = (text) => text.startsWith("{}") || text.includes("\n{}")

const PONG = "{}"

const answer = (text) => (pings(text) ? PONG : undefined)

const CONNECT = '{"id":1,"connect":{}}'

const subscribe = (room, position) =>
  JSON.stringify({
    id: 2,
    subscribe: { channel: `bench:${room}`, ...(position === undefined ? {} : { recover: true, ...position }) }
  })

/** Both commands in one frame: a round trip less for each of thousands of clients. `position`: what to recover from. */
export const greet = (room, position) => [`${CONNECT}\n${subscribe(room, position)}`]

/** What a frame tells a client that joins: the result of its subscribe in `subscribed`, what to answer in `send`. */
export const hear = (text, room, position) => {
  const heard = { send: pings(text) ? [PONG] : [] }
  for (const line of text.split("\n")) {
    const { id, error, subscribe: subscribed } = JSON.parse(line)
    if (subscribed !== undefined) Object.assign(heard, { ready: true, subscribed })
    // As the SDKs do. Anything else would be refused again, and the client would wait for ever.
    else if (error?.temporary && id === 2) heard.send.push(subscribe(room, position))
    else if (error !== undefined) throw new Error(`refused: ${line}`)
  }
  return heard
}

export const centrifugal = {
  path: "/connection/websocket",
  greet: (room) => greet(room),
  hear: (text, room) => hear(text, room),
  publish: (room, payload) => `{"id":3,"publish":{"channel":"bench:${room}","data":"${payload}"}}`,
  answer
}
