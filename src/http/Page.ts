/** `GET /`: a page to try the server with. */
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as Effect from "effect/Effect"
import { readFile } from "node:fs/promises"
import * as Api from "./Api.ts"

/** The handler of the group `page`; the page is read once, when the server starts. */
export const layer = HttpApiBuilder.group(Api.Api, "page", (handlers) =>
  Effect.map(
    Effect.promise(() => readFile(new URL("./page.html", import.meta.url), "utf8")),
    (html) => handlers.handle("index", () => Effect.succeed(html))
  )
)
