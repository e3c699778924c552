/** Every case played to Fanfare. */
import * as Effect from "effect/Effect"
import * as Server from "../support/server.ts"
import { corpus } from "./corpus.ts"
import { playAll } from "./play.ts"
import { ours } from "./profiles.ts"
import type { Transcript } from "./Transcript.ts"

export const answers: Effect.Effect<ReadonlyMap<string, Transcript>, unknown> = playAll(
  (profile) =>
    Effect.map(Server.start({ config: ours(profile) }), ({ http, ws }) => ({ http, ws, patience: "20 seconds" })),
  corpus
)
