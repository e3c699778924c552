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
  // What was missed is in the same frame: after it the client is at the last of it.
  hear: (text, room, position) => {
    const { subscribed, ...heard } = hear(text, room, position)
    if (subscribed === undefined) return heard
    const { epoch, offset = 0, publications = [], recovered = false } = subscribed
    return {
      ...heard,
      position: { offset: publications.at(-1)?.offset ?? offset, epoch },
      recovered,
      missed: publications.length
    }
  }
}
