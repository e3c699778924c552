import { cpu, withServers } from "../harness/process.mjs"
import { Load } from "../harness/Load.mjs"

const of = (id, connections, rate, title, peers) => ({
  id,
  title,
  peers,
  figures: { cpu: { title: "CPU-s per million deliveries", better: "less" } },
  run: (peer, { seconds }) =>
    withServers(peer, async (instances) => {
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
const GROWING = ["fanfare", "batched", "hand-written"]

export const cost = of("S5", 1000, 50, "cost at leisure: one room of 1,000, 50 messages a second")
export const small = of("S6 100", 100, 50, "growth: one room of 100, 50 messages a second", GROWING)
export const large = of("S6 10,000", 10_000, 50, "growth: one room of 10,000, 50 messages a second", GROWING)
// As many deliveries a second as in S5, so that nothing can be joined.
export const leisurely = of("S6 slow", 10_000, 5, "growth: one room of 10,000, 5 messages a second", GROWING)
