/** A real Chromium, driven by playwright-core, which lives in tools/ and is no dependency of the root. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { mkdtempSync, rmSync } from "node:fs"
import { createRequire } from "node:module"
import { tmpdir } from "node:os"
import { join } from "node:path"

/** The part of playwright's `Locator` that tests use. */
export interface Locator {
  readonly allTextContents: () => Promise<Array<string>>
  readonly textContent: () => Promise<string | null>
  readonly count: () => Promise<number>
  readonly inputValue: () => Promise<string>
}

/** The part of playwright's `Page` that tests use. */
export interface Page {
  readonly goto: (url: string) => Promise<unknown>
  readonly fill: (selector: string, value: string) => Promise<void>
  readonly click: (selector: string) => Promise<void>
  readonly press: (selector: string, key: string) => Promise<void>
  readonly locator: (selector: string) => Locator
  readonly title: () => Promise<string>
  readonly url: () => string
  readonly waitForLoadState: () => Promise<void>
  readonly screenshot: (options: { readonly path: string }) => Promise<unknown>
  readonly on: (event: "pageerror", listener: (error: Error) => void) => unknown
}

/** The part of playwright's `BrowserContext` that tests use. */
export interface Browser {
  readonly newPage: () => Promise<Page>
  readonly waitForEvent: (event: "page") => Promise<Page>
  readonly close: () => Promise<void>
}

interface Playwright {
  readonly chromium: {
    readonly launchPersistentContext: (
      folder: string,
      options: {
        readonly executablePath: string
        readonly headless: boolean
        readonly args: ReadonlyArray<string>
        readonly colorScheme: "light" | "dark"
        readonly viewport: { readonly width: number; readonly height: number }
      }
    ) => Promise<Browser>
  }
}

const require = createRequire(new URL("../../tools/package.json", import.meta.url))

/** It talks to nobody but the server under test. */
const ARGUMENTS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync"
]

export interface Options {
  readonly colorScheme?: "light" | "dark"
  readonly viewport?: { readonly width: number; readonly height: number }
}

const profile: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "fanfare-browser-"))),
  (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }))
)

/** The browser; scripts/test.mjs finds it, and installs playwright-core beside the other tools. */
const executable = Effect.suspend(() => {
  const path = process.env["CHROMIUM_BIN"]
  return path === undefined ? Effect.dieMessage("CHROMIUM_BIN is not set; npm test sets it") : Effect.succeed(path)
})

/** Starts a browser with a fresh profile; it is closed when the scope closes. */
export const start = (options: Options = {}): Effect.Effect<Browser, never, Scope.Scope> =>
  Effect.flatMap(Effect.all([executable, profile]), ([executablePath, folder]) =>
    Effect.acquireRelease(
      Effect.promise(() =>
        (require("playwright-core") as Playwright).chromium.launchPersistentContext(folder, {
          executablePath,
          headless: true,
          args: ARGUMENTS,
          colorScheme: options.colorScheme ?? "light",
          viewport: options.viewport ?? { width: 1024, height: 720 }
        })
      ),
      (browser) => Effect.promise(() => browser.close())
    )
  )
