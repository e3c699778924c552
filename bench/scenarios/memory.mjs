import { rss, withServers } from "../harness/process.mjs"
import { Load, pause } from "../harness/Load.mjs"

/** All at once would measure how much garbage that leaves, which is another question. */
const PER_SECOND = 700

/** What a server takes to warm up it gives back within half a minute: no part of what a connection takes. */
const cold = (peer) => ({
  ...peer,
  server: (options) => {
    const { command, env } = peer.server(options)
    return { command, env: { ...env, FANFARE_WARM_UP: "false" } }
  }
})

const of = (id, connections) => ({
  id,
  title: `idle memory: ${connections.toLocaleString("en")} connections, opened at 700 a second, each in one of 200 rooms`,
  peers: ["fanfare", "hand-written", "socket-io", "bun"],
  figures: { bytes: { title: "bytes RSS per connection", better: "less" } },
  run: (peer) =>
    withServers(cold(peer), async (instances) => {
      const load = new Load(peer, { connections, rooms: 200 })
      const before = rss(instances)
      await load.open(instances, { perSecond: PER_SECOND })
      await pause(5)
      const bytes = (rss(instances) - before) / connections
      return { fault: await load.finish(), bytes }
    })
})

export const few = of("S4 2,000", 2000)
export const many = of("S4 10,000", 10_000)
