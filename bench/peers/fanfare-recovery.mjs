import { centrifugal, greet, hear, NAMESPACE } from "./internal/centrifugal.mjs"
import { ready, server, unavailable } from "./internal/fanfare-server.mjs"
import { ownVersion } from "./internal/installed.mjs"

export default {
  ...centrifugal,
  name: "Fanfare with history",
  about: `Fanfare ${ownVersion()}, client protocol in JSON, a history of 100 publications, recovery`,
  unavailable,
  ready,
  server: server({ ...NAMESPACE, history_size: 100, history_ttl: "300s", force_recovery: true }),
  // `position` is the last one that the client knows: asks for what it has missed since.
  greet,
  // The position is the stream's top; what was missed up to there is in the same frame.
  hear: (text, room, position) => {
    const { subscribed, ...heard } = hear(text, room, position)
    if (subscribed === undefined) return heard
    const { epoch, offset = 0, publications = [], recovered = false } = subscribed
    return { ...heard, position: { offset, epoch }, recovered, missed: publications.length }
  }
}
