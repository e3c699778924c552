/** The link to Redis as others than the broker use it: one link for all, supervised by the broker. */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as SubscriptionRef from "effect/SubscriptionRef"
import type { BrokerError, BrokerState } from "../Broker.ts"
import type { OnRefusal } from "./InFlight.ts"
import type { Target } from "./RedisStreams.ts"

/** Runs commands on the broker's link. They are sent in the order in which they are run. */
export class Link extends Context.Tag("fanfare/Broker/Link")<
  Link,
  {
    /**
     * Runs a command that concerns a channel; `what` it does, for the message.
     * Fails at once as `NotLive` without a link and as `Overloaded` with too
     * much in flight, as `Failed` where Redis refuses it, as `Timeout` after a
     * second. With `changes`, a link that breaks before the answer is
     * `Failed`; without, `NotLive`.
     */
    readonly run: <A>(
      channel: string,
      what: string,
      changes: boolean,
      command: (at: Target) => Promise<A>
    ) => Effect.Effect<A, BrokerError>
    /** Counts and warns of a refusal in the midst of a command that has others to do. */
    readonly refused: OnRefusal
    readonly state: SubscriptionRef.SubscriptionRef<BrokerState>
  }
>() {}
