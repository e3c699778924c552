import { cpu, withServers } from "../harness/process.mjs"
import { Load } from "../harness/Load.mjs"

/** In all scenarios of this file; so that size is all that grows, and nothing can be joined. */
const DELIVERIES_PER_SECOND = 50_000

const of = (id, connections, title, peers) => ({
  id,
  title,
  peers,
  figures: { cpu: { title: "CPU-s per million deliveries", better: "less" } },
  run: (peer, { seconds }) =>
    withServers(peer, async (instances) => {
      const rate = DELIVERIES_PER_SECOND / connections
      const load = new Load(peer, { connections, publishers: 10 })
      await load.open(instances)
      await load.warmUp(seconds, 1)
      await load.pace(seconds / 4, rate)
      const before = { received: load.received, cpu: cpu(instances) }
      await load.pace(seconds, rate)
      const used = cpu(instances) - before.cpu
      return { fault: await load.finish(), cpu: used / ((load.received - before.received) / 1e6) }
    })
})

/** How the others grow is beside the point. */
const GROWING = ["fanfare", "hand-written"]

export const cost = of("S5", 1000, "cost at leisure: one room of 1,000, 50 messages a second")
export const small = of("S6 100", 100, "growth: one room of 100, 500 messages a second", GROWING)
export const large = of("S6 10,000", 10_000, "growth: one room of 10,000, 5 messages a second", GROWING)
