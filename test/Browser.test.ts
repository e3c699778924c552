import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Browser from "./support/browser.ts"
import { live } from "./support/it.ts"
import * as Program from "./support/program.ts"
import { eventually } from "./support/wait.ts"

const CONNECTED = "connected to public:lobby"

/** Opens the page; what throws in it is kept. */
const open = (browser: Browser.Browser, url: string, errors: Array<string>) =>
  Effect.promise(async () => {
    const page = await browser.newPage()
    page.on("pageerror", (error) => errors.push(String(error)))
    await page.goto(url)
    return page
  })

const says = (page: Browser.Page, text: string) =>
  eventually(
    Effect.promise(() => page.locator("#state").textContent()),
    (state) => state?.includes(text) ?? false,
    `the page says "${text}"`
  )

const shows = (page: Browser.Page, text: string) =>
  eventually(
    Effect.promise(() => page.locator("#log li").allTextContents()),
    (lines) => lines.some((line) => line.includes(text)),
    `the page shows "${text}"`
  )

const send = (page: Browser.Page, text: string) =>
  Effect.promise(async () => {
    await page.fill("#text", text)
    await page.press("#text", "Enter")
  })

describe("the page at / in a browser", () => {
  live(
    "shows in every tab what one of them sends, as text, and reconnects by itself",
    () =>
      Effect.gen(function* () {
        const server = yield* Program.start()
        const browser = yield* Browser.start()
        const errors: Array<string> = []
        const one = yield* open(browser, `${server.http}/`, errors)
        const other = yield* open(browser, `${server.http}/`, errors)
        yield* says(one, CONNECTED)
        yield* says(other, CONNECTED)

        yield* Effect.promise(() => one.fill("#name", "Ada"))
        yield* send(one, "hello from the first tab")
        yield* shows(one, "hello from the first tab")
        yield* shows(other, "hello from the first tab")
        expect(yield* Effect.promise(() => other.locator("#log li b").allTextContents())).toEqual(["Ada "])

        const [third] = yield* Effect.promise(() =>
          Promise.all([browser.waitForEvent("page"), one.click("a[target=_blank]")])
        )
        yield* says(third, CONNECTED)
        yield* shows(third, "hello from the first tab")
        yield* send(third, "hello from the linked tab")
        yield* shows(one, "hello from the linked tab")

        const hostile = "<img src=x onerror=\"document.title='executed'\"><b id=injected>bold</b>"
        yield* send(other, hostile)
        yield* shows(one, hostile)
        yield* shows(other, hostile)
        expect(yield* Effect.promise(() => one.locator("#injected, #log img").count())).toBe(0)
        expect(yield* Effect.promise(() => one.title())).toBe("Fanfare")

        server.signal("SIGTERM")
        yield* shows(one, "disconnected: 3001 shutdown")
        yield* shows(other, "disconnected: 3001 shutdown")
        yield* says(one, "retrying")
        expect((yield* server.exit).code).toBe(0)
        yield* send(one, "to nobody")
        yield* shows(one, "not sent")

        yield* Program.start({ env: { PORT: String(server.port) } })
        yield* says(one, CONNECTED)
        yield* says(other, CONNECTED)
        yield* send(one, "hello again")
        yield* shows(other, "hello again")
        expect(errors).toEqual([])
      }),
    60_000
  )

  live("connects below http_server.handler_prefix, where it is served, with and without a slash at its end", () =>
    Effect.gen(function* () {
      const server = yield* Program.start({ env: { FANFARE_HTTP_SERVER_HANDLER_PREFIX: "/realtime" } })
      const browser = yield* Browser.start()
      const errors: Array<string> = []
      for (const path of ["/realtime", "/realtime/?x"]) {
        const page = yield* open(browser, server.http + path, errors)
        yield* says(page, CONNECTED)
        const [second] = yield* Effect.promise(() =>
          Promise.all([browser.waitForEvent("page"), page.click("a[target=_blank]")])
        )
        yield* says(second, CONNECTED)
      }
      expect(errors).toEqual([])
    })
  )
})
