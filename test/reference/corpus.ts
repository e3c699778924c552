/** All cases. */
import type { Case } from "./Case.ts"
import { api } from "./cases/api.ts"
import { fields } from "./cases/fields.ts"
import { frames } from "./cases/frames.ts"
import { streams } from "./cases/streams.ts"
import { tokens } from "./cases/tokens.ts"

/** Their order is that in which they are played. */
export const corpus: ReadonlyArray<Case> = [...tokens, ...frames, ...fields, ...streams, ...api]
