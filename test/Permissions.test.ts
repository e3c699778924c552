import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { readFileSync } from "node:fs"
import * as Namespace from "../src/Namespace.ts"
import * as Permissions from "../src/Permissions.ts"
import { raw } from "./support/history.ts"
import { live } from "./support/it.ts"
import * as Server from "./support/server.ts"
import { KEY, token } from "./support/tokens.ts"

interface Row {
  readonly right: Permissions.Right
  readonly isAnonymous: boolean
  readonly isSubscribed: boolean
  /** Each of these sets is enough. */
  readonly enough: ReadonlyArray<ReadonlyArray<string>>
}

const ROW = /^\|\s*(subscribe|publish|history|presence)\s*\|([^|]+)\|([^|]+)\|\s*$/gm

/** The matrix as docs/permissions.md has it. */
const documented: ReadonlyArray<Row> = Array.from(
  readFileSync(new URL("../docs/permissions.md", import.meta.url), "utf8").matchAll(ROW),
  ([, right = "", who = "", needs = ""]): Row => ({
    right: right as Permissions.Right,
    isAnonymous: who.includes("anonymous"),
    isSubscribed: who.includes("subscribed"),
    enough: needs.split(" or ").map((set) => Array.from(set.matchAll(/allow_\w+/g), ([option]) => option))
  })
)

const OPTIONS = Object.keys(Namespace.options).filter((option) => option.startsWith("allow_"))

const isEnough = ({ enough }: Row, set: ReadonlyArray<string>): boolean =>
  enough.some((needed) => needed.every((option) => set.includes(option)))

const subsets = (options: ReadonlyArray<string>): ReadonlyArray<ReadonlyArray<string>> =>
  Array.from({ length: 2 ** options.length }, (_, bits) => options.filter((_, index) => (bits >> index) % 2 === 1))

const namespace = (set: ReadonlyArray<string>): Namespace.Namespace => ({
  ...Namespace.closed,
  ...Object.fromEntries(set.map((option) => [option, true]))
})

describe("permissions", () => {
  it("are documented for every right, and every option has a say", () => {
    expect(documented.map(({ right }) => right).toSorted()).toEqual(
      [
        ...Array.from({ length: 2 }, () => "subscribe"),
        ...["publish", "history", "presence"].flatMap((right) => Array.from({ length: 4 }, () => right))
      ].toSorted()
    )
    expect(new Set(documented.flatMap(({ enough }) => enough.flat()))).toEqual(new Set(OPTIONS))
  })

  it.each(documented)("permit $right (anonymous: $isAnonymous, subscribed: $isSubscribed) as documented", (row) => {
    // Whatever the other options are: all 2,048 sets of them.
    for (const set of subsets(OPTIONS)) {
      const missing = Permissions.missing(namespace(set), row.right, row)
      expect(missing.length === 0, `${row.right} with ${set.join()}`).toBe(isEnough(row, set))
      // What a refusal names is not set, and permits it once it is.
      expect(missing.filter((option) => set.includes(option))).toEqual([])
      expect(isEnough(row, [...set, ...missing])).toBe(true)
    }
  })
})

describe("a client, by every set of the options of a right", () => {
  /** A namespace for each set. */
  const sets = (right: Permissions.Right): ReadonlyArray<ReadonlyArray<string>> =>
    subsets(OPTIONS.filter((option) => option.startsWith(`allow_${right}_`)))

  const RIGHTS = ["subscribe", "publish", "history", "presence"] as const
  const namespaces = RIGHTS.flatMap((right) =>
    sets(right).map((set, index) => ({
      ...Object.fromEntries(set.map((option) => [option, true])),
      name: `${right}${index}`,
      presence: true,
      history_size: 10,
      history_ttl: "1m"
    }))
  )
  const config = {
    channel: { namespaces },
    client: { token: { hmac_secret_key: KEY }, allow_anonymous_connect_without_token: true }
  }

  const COMMANDS: Readonly<Record<Permissions.Right, ReadonlyArray<string>>> = {
    subscribe: ["subscribe"],
    publish: ["publish"],
    history: ["history"],
    presence: ["presence", "presence_stats"]
  }

  live("may do exactly what the matrix says, as an anonymous client, a user and a subscriber", () =>
    Effect.gen(function* () {
      const server = yield* Server.start({ config })
      for (const user of ["ada", ""]) {
        const { ask } = yield* raw(server, user === "" ? {} : { token: token({ sub: user }) })
        for (const row of documented.filter(({ isAnonymous }) => isAnonymous === (user === ""))) {
          for (const [index, set] of sets(row.right).entries()) {
            const channel = `${row.right}${index}:${row.isSubscribed}`
            // A token subscribes it whatever the namespace says.
            const subscription = token({ channel, ...(user === "" ? {} : { sub: user }) })
            if (row.isSubscribed) yield* ask("subscribe", { channel, token: subscription })
            for (const command of COMMANDS[row.right]) {
              const { error } = yield* ask(command, { channel, data: 1 })
              expect(error?.code, `${command} of ${user} with ${set.join()}`).toBe(isEnough(row, set) ? undefined : 103)
            }
            yield* ask("unsubscribe", { channel })
          }
        }
      }
    })
  )
})
