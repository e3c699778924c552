/**
 * The text of the page at `/`. The build puts a module in place of this one
 * that holds the text, so that `dist` reads no file and can be bundled.
 */
import * as Effect from "effect/Effect"
import { readFile } from "node:fs/promises"

/** Reads the file beside this module. */
export const html: Effect.Effect<string> = Effect.promise(() =>
  readFile(new URL("./page.html", import.meta.url), "utf8")
)
