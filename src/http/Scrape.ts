/** What `/metrics` answers: what this server counts, then what the program around it does. */
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Record from "effect/Record"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as Broker from "../Broker.ts"
import * as Connections from "../Connections.ts"
import * as Metrics from "../Metrics.ts"
import * as Exposition from "../Metrics/Exposition.ts"
import * as Process from "../Metrics/Process.ts"

/** Reads what is read only now, and shows all of it. */
export const make: Effect.Effect<
  Effect.Effect<string>,
  never,
  Broker.Broker | Connections.Connections | Metrics.Metrics
> = Effect.gen(function* () {
  const broker = yield* Broker.Broker
  const connections = yield* Connections.Connections
  const metrics = yield* Metrics.Metrics

  return Effect.map(SubscriptionRef.get(broker.state), ({ _tag }) => {
    const { blocked, bytes, frames } = connections.backlog()
    metrics.connectionsBlocked.set(blocked)
    metrics.mailboxBytes.set(bytes)
    metrics.mailboxFrames.set(frames)
    const state = _tag.toLowerCase()
    for (const [name, gauge] of Record.toEntries(metrics.brokerState)) gauge.set(name === state ? 1 : 0)
    const { cpuSeconds, heapBytes, residentBytes } = Process.usage()
    metrics.cpuSeconds.add(cpuSeconds - metrics.cpuSeconds.value)
    metrics.heapBytes.set(heapBytes)
    metrics.residentBytes.set(residentBytes)
    return Exposition.render([...metrics.registry.snapshot(), ...Metric.unsafeSnapshot()])
  })
})
