/** `batch`: many commands in one request. */
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import * as Codes from "../../protocol/Codes.ts"
import * as Raw from "../../protocol/Raw.ts"
import * as Schemas from "../schema/Batch.ts"
import * as Method from "./Method.ts"
import * as Parts from "./Parts.ts"

/** Commands that are carried out at a time, where they may be. */
const CONCURRENCY = 16

/** The methods whose results may be large. */
const LARGE: ReadonlySet<string> = new Set(["channels", "history", "presence"])

/** A command of a batch. */
interface Command {
  readonly method: string
  readonly text: string
  readonly body: unknown
}

/** The one method that a command names. */
const commandOf = (value: unknown, text: string): Command | Method.Refused => {
  // A member that is `null` is absent.
  const names = Predicate.isRecord(value) ? Object.keys(value).filter((name) => value[name] !== null) : []
  const [method] = names
  if (!Predicate.isRecord(value) || method === undefined || names.length > 1) {
    return Method.malformed("a command is an object with one member: the method's name, and the body that it takes")
  }
  return { method, body: value[method], text: Parts.member(text, method) ?? "" }
}

/** Carries out commands by these methods. */
export const make = (methods: ReadonlyMap<string, Method.Method>): Method.Method =>
  Method.make(Schemas.Commands, (batch, { text, maxBytes }) =>
    Effect.suspend(() => {
      if (batch.commands.length > Schemas.MAX_COMMANDS) {
        return Effect.fail(
          Method.refused(
            Codes.limitExceeded,
            `a batch has at most ${Schemas.MAX_COMMANDS} commands, this one ${batch.commands.length}`
          )
        )
      }
      const texts = Parts.elements(Parts.member(text, "commands") ?? "[]")
      const commands = batch.commands.map((value, index) => commandOf(value, Raw.copy(texts[index] ?? "")))
      // So that the whole reply is no larger than a single one, but for a publication in each page.
      const large = commands.filter((command) => "method" in command && LARGE.has(command.method)).length
      const share = Math.floor(maxBytes / Math.max(1, large))

      const reply = (command: Command | Method.Refused): Effect.Effect<string> => {
        if (command instanceof Method.Refused) return Effect.succeed(`{"error":${Method.errorOf(command)}}`)
        const method = methods.get(command.method)
        if (method === undefined) {
          return reply(Method.malformed(`no method ${JSON.stringify(command.method.slice(0, 64))} in a batch`))
        }
        return Effect.match(method({ ...command, maxBytes: share }), {
          onFailure: (refused) => `{"error":${Method.errorOf(refused)}}`,
          onSuccess: (result) => Method.objectOf([[command.method, result]])
        })
      }

      const concurrency = batch.parallel === true ? CONCURRENCY : 1
      return Effect.map(
        Effect.forEach(commands, reply, { concurrency }),
        (replies) => `{"replies":[${replies.join(",")}]}`
      )
    })
  )
