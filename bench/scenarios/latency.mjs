import { withServers } from "../harness/process.mjs"
import { Load } from "../harness/Load.mjs"
import { quantile } from "../report/statistics.mjs"

const RATE = 100
/**
 * With one for each publisher, the code that publishes is run a thousand times before it is measured: some servers have
 * it compiled by then, and others have not.
 */
const WARMING_WINDOW = 16

export default {
  id: "S2",
  title: "latency: one room of 200, 100 messages a second",
  figures: {
    p50: { title: "p50, ms", better: "less" },
    p99: { title: "p99, ms", better: "less" }
  },
  run: (peer, { seconds }) =>
    withServers(peer, async (instances) => {
      const load = new Load(peer, { connections: 200, publishers: 10 })
      await load.open(instances)
      await load.warmUp(seconds, WARMING_WINDOW)
      await load.pace(seconds / 4, RATE)
      const latencies = load.keepLatencies()
      await load.pace(seconds, RATE)
      return { fault: await load.finish(), p50: quantile(latencies, 0.5) / 1000, p99: quantile(latencies, 0.99) / 1000 }
    })
}
