/** `GET /`: a page to try the server with. */
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as Effect from "effect/Effect"
import { once } from "../internal/once.ts"
import * as Api from "./Api.ts"
import { html } from "./Html.ts"

/** The handler of the group `page`. An embedded server has it and never calls it: the text is read for the first request. */
export const layer = HttpApiBuilder.group(Api.Api, "page", (handlers) =>
  Effect.map(once(html), (text) => handlers.handle("index", () => text))
)
