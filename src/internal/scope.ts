/**
 * Finalizers that cost what they do. `Effect.addFinalizer` and with it
 * `Effect.acquireRelease` see to it that a finalizer runs with the fiber refs of
 * the moment in which it was added; what that takes is compared and patched,
 * twice, at every close of the scope: 60 KB of garbage for each finalizer in a
 * program of this size. A finalizer that is synchronous, or logs for the same
 * client as the fiber that runs it, does not need it.
 */
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"

/** Runs `finalizer` when the scope closes. */
export const onClose = (finalizer: Effect.Effect<void>): Effect.Effect<void, never, Scope.Scope> =>
  Effect.flatMap(Effect.scope, (scope) => Scope.addFinalizer(scope, finalizer))

/** Does `acquire`, and in the same step has `release` done when the scope closes. */
export const acquire = <A>(
  acquire: () => A,
  release: (acquired: A) => Effect.Effect<void>
): Effect.Effect<A, never, Scope.Scope> =>
  Effect.uninterruptible(
    Effect.suspend(() => {
      const acquired = acquire()
      return Effect.as(onClose(Effect.suspend(() => release(acquired))), acquired)
    })
  )
