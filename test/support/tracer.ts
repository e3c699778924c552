/** A tracer that notes what is traced. */
import * as Effect from "effect/Effect"
import * as Tracer from "effect/Tracer"

/** Over the tracer that there is; `names` of the spans so far. */
export const noting = Effect.map(Effect.tracer, (native) => {
  const names: Array<string> = []
  const tracer = Tracer.make({
    span: (name, ...rest) => {
      names.push(name)
      return native.span(name, ...rest)
    },
    context: (run, fiber) => native.context(run, fiber)
  })
  return { names, tracer }
})
