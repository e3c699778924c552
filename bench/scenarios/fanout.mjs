import { cpu, withServers } from "../harness/process.mjs"
import { Load } from "../harness/Load.mjs"

const PUBLISHERS = 10
/** Messages of its own that a publisher keeps on their way. */
const WINDOW = 4

export default {
  id: "S1",
  title: "saturated fan-out: one room of 1,000, ten publishers with four messages on their way each",
  figures: {
    rate: { title: "deliveries/s", better: "more" },
    cpu: { title: "CPU-s per million deliveries", better: "less" }
  },
  run: (peer, { seconds }) =>
    withServers(peer, async (instances) => {
      const load = new Load(peer, { connections: 1000, publishers: PUBLISHERS })
      await load.open(instances)
      await load.warmUp(seconds, WINDOW)
      const before = { at: performance.now(), received: load.received, cpu: cpu(instances) }
      await load.saturate(seconds, WINDOW)
      const deliveries = load.received - before.received
      const taken = (performance.now() - before.at) / 1000
      const used = cpu(instances) - before.cpu
      return { fault: await load.finish(), rate: deliveries / taken, cpu: used / (deliveries / 1e6) }
    })
}
