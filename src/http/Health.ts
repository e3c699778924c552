/** Whether the server is alive, whether it should get traffic, and what it counts. */
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as Broker from "../Broker.ts"
import * as Connections from "../Connections.ts"
import { monotonic } from "../internal/clock.ts"
import * as ServerConfig from "../ServerConfig.ts"
import * as Api from "./Api.ts"
import * as Scrape from "./Scrape.ts"

/** Since when the broker has not been live. */
class Outage extends Context.Tag("fanfare/http/Outage")<
  Outage,
  {
    /** Milliseconds of the monotonic clock; `undefined` while it is live. */
    since: number | undefined
  }
>() {}

const layerOutage: Layer.Layer<Outage, never, Broker.Broker> = Layer.scoped(
  Outage,
  Effect.gen(function* () {
    const broker = yield* Broker.Broker
    const outage: Context.Tag.Service<Outage> = { since: undefined }
    const observe = (state: Broker.BrokerState) =>
      Effect.map(monotonic, (now) => {
        outage.since = state._tag === "Live" ? undefined : (outage.since ?? now)
      })
    yield* Effect.flatMap(SubscriptionRef.get(broker.state), observe)
    yield* Effect.forkScoped(Stream.runForEach(broker.state.changes, observe))
    return outage
  })
)

/** The handlers of the group `health`. */
export const layer = HttpApiBuilder.group(Api.Api, "health", (handlers) =>
  Effect.gen(function* () {
    const broker = yield* Broker.Broker
    const config = yield* ServerConfig.ServerConfig
    const connections = yield* Connections.Connections
    const scrape = yield* Scrape.make
    const outage = yield* Outage

    const describe = (status: "ok" | "draining" | "broker") =>
      Effect.map(SubscriptionRef.get(broker.state), (state) => ({
        status,
        broker: { name: broker.name, state: state._tag }
      }))

    const ready = Effect.gen(function* () {
      if (connections.phase() !== "Open")
        return yield* Effect.flatMap(describe("draining"), (body) => Effect.fail(new Api.NotReady(body)))
      const state = yield* SubscriptionRef.get(broker.state)
      if (state._tag === "Live") return yield* describe("ok")
      const now = yield* monotonic
      const away = now - (outage.since ?? now)
      if (away < Duration.toMillis(config.health.broker_grace)) return yield* describe("ok")
      return yield* Effect.flatMap(describe("broker"), (body) => Effect.fail(new Api.NotReady(body)))
    })

    return handlers
      .handle("live", () => describe("ok"))
      .handle("ready", () => ready)
      .handle("metrics", () => scrape)
  })
).pipe(Layer.provide(layerOutage))
