import { withServers } from "../harness/process.mjs"
import { Load, pause } from "../harness/Load.mjs"

const CONNECTIONS = 5000
const ROOMS = 50
/** What is published in every room while everybody is away. */
const MISSED = 5

/** Why a client that came back has not all that it missed; of a peer without recovery nothing is asked. */
const incomplete = (peer, load) => {
  if (peer.recovers !== true) return undefined
  const wrong = load.heard.filter(({ missed, recovered }) => recovered !== true || missed !== MISSED).length
  return wrong === 0 ? undefined : `${wrong} clients did not recover`
}

export default {
  id: "S7",
  title: "reconnect storm: 5,000 clients in 50 rooms come back at once; where the peer can, with what they missed",
  figures: {
    seconds: { title: "until the last is live, s", better: "less" },
    again: { title: "the same when they come back again, s", better: "less" }
  },
  peers: ["fanfare", "batched", "hand-written", "socket-io"],
  needsRecovery: true,
  run: (peer) =>
    withServers(peer, async (instances) => {
      const load = new Load(peer, { connections: CONNECTIONS, rooms: ROOMS, publishers: ROOMS })
      const author = new Load(peer, { connections: ROOMS, rooms: ROOMS, publishers: ROOMS })
      const faults = []
      await author.open(instances)
      await load.open(instances)
      const storm = async () => {
        load.close()
        for (let count = 0; count < MISSED; count++) await author.once()
        await pause(1)
        const began = performance.now()
        await load.open(instances, { again: ({ heard }) => heard.position })
        const seconds = (performance.now() - began) / 1000
        faults.push(incomplete(peer, load))
        return seconds
      }
      const seconds = await storm()
      // What the first one has that this one has not is mostly the compiler.
      const again = await storm()
      faults.push(await load.finish(), await author.finish())
      return { fault: faults.find((one) => one !== undefined), seconds, again }
    })
}
