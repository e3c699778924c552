import { cpu, withServers } from "../harness/process.mjs"
import { Load } from "../harness/Load.mjs"

export default {
  id: "S3",
  title: "200 rooms of 5, everybody publishes as soon as their last message is back",
  figures: {
    rate: { title: "messages/s", better: "more" },
    cpu: { title: "CPU-ms per thousand messages", better: "less" }
  },
  run: (peer, { seconds }) =>
    withServers(peer, async (instances) => {
      const load = new Load(peer, { connections: 1000, rooms: 200, publishers: 1000 })
      await load.open(instances)
      await load.warmUp(seconds, 1)
      const before = { at: performance.now(), published: load.published, cpu: cpu(instances) }
      await load.saturate(seconds, 1)
      const messages = load.published - before.published
      const taken = (performance.now() - before.at) / 1000
      const used = cpu(instances) - before.cpu
      return { fault: await load.finish(), rate: messages / taken, cpu: (used * 1000) / (messages / 1000) }
    })
}
