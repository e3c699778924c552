import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Browser from "./support/browser.ts"
import { live } from "./support/it.ts"
import * as Program from "./support/program.ts"
import * as Redis from "./support/redis.ts"
import * as Socket from "./support/socket.ts"
import { KEY } from "./support/tokens.ts"
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

/** The messages that a page has not been told of that they are accepted. */
const waiting = (page: Browser.Page) => Effect.promise(() => page.locator("#pending li").allTextContents())

const waits = (page: Browser.Page, text: string) =>
  eventually(waiting(page), (lines) => lines.some((line) => line.includes(text)), `"${text}" waits to be sent`)

/** The lines that contain a text, in the order shown. */
const lines = (page: Browser.Page, text: string) =>
  Effect.map(
    Effect.promise(() => page.locator("#log li").allTextContents()),
    (all) => all.filter((line) => line.includes(text))
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
        yield* shows(one, "disconnected: shutdown (3001)")
        yield* shows(other, "disconnected: shutdown (3001)")
        yield* says(one, "retrying")
        expect((yield* server.exit).code).toBe(0)
        yield* send(one, "while there is no server")
        yield* waits(one, "while there is no server kept until there is a connection")

        // In process: the new server has another stream, so what was said may be lost.
        yield* Program.start({ env: { PORT: String(server.port) } })
        yield* says(other, CONNECTED)
        yield* shows(other, "may be missing")
        yield* shows(other, "while there is no server")
        yield* shows(one, "while there is no server")
        yield* send(one, "hello again")
        yield* shows(other, "hello again")
        yield* eventually(waiting(one), (left) => left.length === 0, "nothing waits")
        expect(errors).toEqual([])
      }),
    60_000
  )

  live(
    "misses nothing while its server is away: what was said through another one it shows once and in order",
    () =>
      Effect.gen(function* () {
        const { url } = yield* Redis.start()
        const first = yield* Program.start({ env: { REDIS_URL: url } })
        const second = yield* Program.start({ env: { REDIS_URL: url } })
        const browser = yield* Browser.start()
        const errors: Array<string> = []
        const page = yield* open(browser, `${first.http}/`, errors)
        yield* says(page, CONNECTED)
        const writer = yield* Socket.open(`${second.ws}/channels/public:lobby`)
        writer.send('{"name":"Bob","text":"said 0"}')
        yield* shows(page, "said 0")

        first.signal("SIGKILL")
        yield* first.exit
        yield* says(page, "retrying")
        for (const number of [1, 2, 3, 4]) writer.send(`{"name":"Bob","text":"said ${number}"}`)
        yield* writer.count(5)
        yield* send(page, "said 5 here")
        yield* waits(page, "said 5 here kept until there is a connection")
        yield* Program.start({ env: { REDIS_URL: url, PORT: String(first.port) } })
        yield* says(page, CONNECTED)
        yield* shows(page, "said 5 here")
        yield* writer.gets("said 5 here")
        const said = yield* lines(page, "said")
        expect(said.map((line) => /said \d/.exec(line)?.[0])).toEqual([0, 1, 2, 3, 4, 5].map((n) => `said ${n}`))
        expect(yield* lines(page, "missing")).toEqual([])
        expect(errors).toEqual([])
      }),
    60_000
  )

  live(
    "keeps what is typed while Redis is away, says so, and sends it once Redis is back",
    () =>
      Effect.gen(function* () {
        const redis = yield* Redis.start()
        const server = yield* Program.start({ env: { REDIS_URL: redis.url } })
        const browser = yield* Browser.start()
        const errors: Array<string> = []
        const one = yield* open(browser, `${server.http}/`, errors)
        const other = yield* open(browser, `${server.http}/`, errors)
        yield* says(one, CONNECTED)
        yield* says(other, CONNECTED)

        yield* redis.freeze
        yield* send(one, "typed first")
        yield* waits(one, "typed first not accepted yet, trying again")
        yield* send(one, "typed second")
        yield* waits(one, "typed second")
        expect(yield* lines(one, "typed")).toEqual([])
        yield* redis.thaw
        yield* shows(other, "typed second")
        yield* shows(one, "typed second")
        // One may have been accepted before its answer was late: it is shown once all the same.
        for (const page of [one, other]) {
          expect((yield* lines(page, "typed")).map((line) => /typed \w+/.exec(line)?.[0])).toEqual([
            "typed first",
            "typed second"
          ])
        }
        yield* eventually(waiting(one), (left) => left.length === 0, "nothing waits")
        expect(errors).toEqual([])
      }),
    60_000
  )

  live(
    "shows why it is refused, and does not say that it tries again",
    () =>
      Effect.gen(function* () {
        const browser = yield* Browser.start()
        const errors: Array<string> = []
        const guarded = yield* Program.start({ env: { FANFARE_CLIENT_TOKEN_HMAC_SECRET_KEY: KEY } })
        const page = yield* open(browser, `${guarded.http}/`, errors)
        yield* says(page, "refused: invalid token (3500). This server wants a token")
        yield* send(page, "to nobody")
        yield* shows(page, "not sent: invalid token (3500)")
        expect(yield* Effect.promise(() => page.locator("#state").textContent())).not.toContain("retrying")

        const closed = yield* Program.start({ env: { FANFARE_CHANNEL_NAMESPACES: '[{"name":"public"}]' } })
        const denied = yield* open(browser, `${closed.http}/`, errors)
        yield* says(denied, "refused: public:lobby: permission denied (103)")

        const readOnly = yield* Program.start({
          env: {
            FANFARE_CHANNEL_NAMESPACES:
              '[{"name":"public","allow_subscribe_for_client":true,"allow_subscribe_for_anonymous":true}]'
          }
        })
        const reader = yield* open(browser, `${readOnly.http}/`, errors)
        yield* says(reader, CONNECTED)
        yield* send(reader, "may I?")
        yield* shows(reader, "not sent, refused: permission denied (103): may I?")
        expect(yield* Effect.promise(() => reader.locator("#text").inputValue())).toBe("may I?")
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
