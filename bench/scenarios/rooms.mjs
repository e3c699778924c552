import { cpu, withServers } from "../harness/process.mjs"
import { Load } from "../harness/Load.mjs"

/** `window`: messages of its own that everybody keeps on their way. */
const of = (id, window, title) => ({
  id,
  title,
  figures: {
    rate: { title: "messages/s", better: "more" },
    cpu: { title: "CPU-ms per thousand messages", better: "less" }
  },
  run: (peer, { seconds }) =>
    withServers(peer, async (instances) => {
      const load = new Load(peer, { connections: 1000, rooms: 200, publishers: 1000 })
      await load.open(instances)
      await load.warmUp(seconds, window)
      const before = { at: performance.now(), published: load.published, cpu: cpu(instances) }
      await load.saturate(seconds, window)
      const messages = load.published - before.published
      const taken = (performance.now() - before.at) / 1000
      const used = cpu(instances) - before.cpu
      return { fault: await load.finish(), rate: messages / taken, cpu: (used * 1000) / (messages / 1000) }
    })
})

// More on their way is more to join, for a server that joins; others are as fast with one.
export const saturated = of("S3 16", 16, "200 rooms of 5, everybody publishes, with sixteen messages on their way each")
export const single = of("S3 1", 1, "200 rooms of 5, everybody publishes as soon as their last message is back")
