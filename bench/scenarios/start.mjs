import { rss, withServers } from "../harness/process.mjs"
import { pause } from "../harness/Load.mjs"

export default {
  id: "start",
  title: "start of an instance, and its memory without a connection",
  figures: {
    seconds: { title: "to listening, s", better: "less" },
    megabytes: { title: "MB RSS", better: "less" }
  },
  run: (peer) =>
    withServers(peer, async (instances) => {
      await pause(1)
      const seconds = instances.reduce((sum, one) => sum + one.seconds, 0) / instances.length
      return { fault: undefined, seconds, megabytes: rss(instances) / instances.length / 1e6 }
    })
}
