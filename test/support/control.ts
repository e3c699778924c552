/** Control messages as any instance could send them, and an instance that sends them. */
import * as Effect from "effect/Effect"
import { FROM } from "../fixtures/control-v1.ts"
import * as Redis from "./redis.ts"
import { Watched } from "./wait.ts"

export const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** The same JSON with a field more in every object. */
export const widened = (value: unknown): unknown =>
  Array.isArray(value)
    ? value.map(widened)
    : isRecord(value)
      ? { added: { later: [1] }, ...Object.fromEntries(Object.entries(value).map(([key, one]) => [key, widened(one)])) }
      : value

export interface Control {
  readonly v: number
  readonly from: string
  readonly id?: string
  readonly re?: string
  readonly ask?: { readonly type: string }
  readonly answer?: { readonly type: string }
}

const isControl = (value: unknown): value is Control => isRecord(value) && typeof value["from"] === "string"

/** Plays another instance by hand: hears what instances hear, and answers as it is told to. */
export const playInstance = (redis: Redis.Redis, id: string = FROM) =>
  Effect.gen(function* () {
    const ears = yield* Redis.client(redis)
    const mouth = yield* Redis.client(redis)
    const watched = new Watched()
    const heard: Array<Control> = []
    let answers: (request: Control) => ReadonlyArray<string> = () => []
    const say = (to: string | undefined, text: string) =>
      mouth.publish(to === undefined ? "fanfare:control" : `fanfare:control:${to}`, text)
    ears.on("message", (_topic: string, payload: string) => {
      const message: unknown = JSON.parse(payload)
      if (!isControl(message) || message.from === id) return
      heard.push(message)
      if (message.id !== undefined) for (const one of answers(message)) void say(message.from, one)
      watched.changed()
    })
    yield* Effect.promise(() => ears.subscribe("fanfare:control", `fanfare:control:${id}`))
    return {
      heard,
      /** To everybody, or to one instance. */
      say: (text: string, to?: string) => Effect.promise(() => say(to, text)),
      /** Answers every request from now on. */
      answer: (how: (request: Control) => ReadonlyArray<string>) => {
        answers = how
      },
      /** Waits for a request of a type. */
      isAsked: (type: string) =>
        Effect.flatMap(
          watched.until(
            () => heard.some(({ ask }) => ask?.type === type),
            () => `a request ${type}; heard: ${JSON.stringify(heard)}`
          ),
          () => Effect.fromNullable(heard.find(({ ask }) => ask?.type === type))
        ),
      /** Waits for an answer to what it has asked. */
      isAnswered: (re: string) =>
        Effect.map(
          watched.until(
            () => heard.some((message) => message.re === re),
            () => `an answer to ${re}; heard: ${JSON.stringify(heard)}`
          ),
          () => heard.filter((message) => message.re === re)
        )
    }
  })
