/** How a client of the client protocol is answered, and how often it may be refused. */
import * as Effect from "effect/Effect"
import type * as Broker from "../Broker.ts"
import type * as Hooks from "../Hooks.ts"
import { Bucket } from "../internal/Bucket.ts"
import * as Codes from "../protocol/Codes.ts"
import * as Json from "../protocol/Json.ts"
import type { Outlet, Services } from "../Session.ts"
import * as Tracing from "../Tracing.ts"

/** A command that is refused has not failed; its span says with which code. */
const refusal = (code: number): Effect.Effect<void> => Tracing.annotate(() => ({ "error.type": String(code) }))

/** Characters beside a channel name that the log says of a command at most: what a client sent may be as long as a message. */
const MOST_SAID = 64

/** The answers to one client. */
export class Answers {
  readonly #outlet: Outlet
  readonly #services: Pick<Services, "clock" | "config" | "metrics">
  /** Made with the first refusal. */
  #errors: Bucket | undefined

  constructor(services: Pick<Services, "clock" | "config" | "metrics">, outlet: Outlet) {
    this.#services = services
    this.#outlet = outlet
  }

  /** Carries the result, JSON text. */
  result(id: number, method: string, result: string): Effect.Effect<void> {
    return Effect.sync(() => this.#outlet.send(Json.reply(id, method, result)))
  }

  /** Refuses a command; `what` and `detail` are for the log. A client that is refused too often is disconnected. */
  refuse(id: number, error: Codes.ErrorCode, what: string, detail: string): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.#error(id, error)
      // What may succeed later is not the client's fault.
      if (error.temporary !== true) this.#count()
      return Effect.zipRight(refusal(error.code), Effect.logInfo(`refused ${this.#cut(what)}: ${detail}`))
    })
  }

  /** The decision of a hook against it. */
  reject(id: number, rejected: Hooks.Rejected, what: string, channel?: string): Effect.Effect<void> {
    const detail = rejected.detail ?? rejected.message
    if (rejected.disconnect === true) {
      return Effect.zipRight(
        refusal(rejected.code),
        Effect.sync(() =>
          this.#outlet.end({ code: rejected.code, reason: rejected.message }, `${what}: ${detail}`, channel)
        )
      )
    }
    const error = { code: rejected.code, message: rejected.message }
    return this.refuse(id, rejected.temporary === true ? { ...error, temporary: true } : error, what, detail)
  }

  /** The broker did not do it. An outage refuses every command of every client: its own log line and counters tell of it. */
  unavailable(id: number, error: Broker.BrokerError, what: string): Effect.Effect<void> {
    return Effect.zipRight(
      Effect.zipRight(
        refusal(Codes.internal.code),
        Effect.sync(() => this.#error(id, Codes.internal))
      ),
      Effect.logDebug(`refused ${what}: ${error.message}`)
    )
  }

  #cut(what: string): string {
    const most = this.#services.config.channel.max_length + MOST_SAID
    return what.length > most ? `${what.slice(0, most)}…` : what
  }

  #count(): void {
    const { error_limit } = this.#services.config.client
    if (error_limit === 0) return
    this.#errors ??= new Bucket(error_limit, error_limit / 60)
    if (this.#errors.take(this.#services.clock.monotonic()) >= 0) return
    this.#outlet.end(Codes.tooManyErrors, `client.error_limit is ${error_limit}`)
  }

  #error(id: number, refusal: Codes.ErrorCode): void {
    const error = Codes.forReply(refusal)
    this.#services.metrics.errors(error.code).add()
    this.#outlet.send(Json.error(id, error))
  }
}
