import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as FastCheck from "effect/FastCheck"
import * as Fiber from "effect/Fiber"
import * as Entry from "../src/Presence/Entry.ts"
import type { ClientInfo } from "../src/protocol/Publication.ts"
import { live } from "./support/it.ts"
import { adapters, clientsOf, info, type Instance, present } from "./support/presence.ts"
import { eventually } from "./support/wait.ts"

const seed = Number(process.env["FANFARE_SEED"] ?? Date.now() % 2 ** 31)

const NAMES = ["__proto__", "constructor", "{", "}", "{x}", "%7D", "a b", "ünï:🎺", "", '"', "\\", "a\nb", "*", "1"]

/** What one of the instances does to one of its clients in one of the channels. */
interface Step {
  readonly at: 0 | 1
  readonly channel: string
  readonly client: string
  /** What is added; without it the client is removed. */
  readonly added?: { readonly user: string; readonly connInfo?: string }
  readonly interrupt: boolean
  /** How far it gets before the next one begins. */
  readonly yields: number
}

const step: FastCheck.Arbitrary<Step> = FastCheck.record(
  {
    at: FastCheck.constantFrom(0 as const, 1 as const),
    channel: FastCheck.constantFrom("a", "{b}"),
    client: FastCheck.constantFrom("1", "2", "3"),
    added: FastCheck.record(
      { user: FastCheck.constantFrom("", "ann", "bob"), connInfo: FastCheck.constantFrom("1", "{}") },
      { requiredKeys: ["user"] }
    ),
    interrupt: FastCheck.oneof(
      { arbitrary: FastCheck.constant(false), weight: 4 },
      { arbitrary: FastCheck.constant(true), weight: 1 }
    ),
    yields: FastCheck.nat(4)
  },
  { requiredKeys: ["at", "channel", "client", "interrupt", "yields"] }
)

/** Does all steps without waiting for any; answers who has to be where then. */
const run = (instances: readonly [Instance, Instance], steps: ReadonlyArray<Step>, name: (channel: string) => string) =>
  Effect.gen(function* () {
    const begun = yield* Effect.forEach(steps, ({ at, channel, client, added, interrupt, yields }) =>
      Effect.gen(function* () {
        const { presence } = instances[at]
        // The ids of two instances are never the same.
        const who = `${at}:${client}`
        const one = added && info(who, added.user, added.connInfo === undefined ? {} : { connInfo: added.connInfo })
        const fiber = yield* Effect.fork(
          one === undefined ? presence.remove(name(channel), who) : presence.add(name(channel), one)
        )
        for (let count = 0; count < yields; count++) yield* Effect.yieldNow()
        if (interrupt && one !== undefined) yield* Fiber.interruptFork(fiber)
        return { channel, who, one, fiber }
      })
    )
    const expected: Record<string, Map<string, ClientInfo>> = { a: new Map(), "{b}": new Map() }
    for (const { channel, who, one, fiber } of begun) {
      const exit = yield* Fiber.await(fiber)
      if (one === undefined) expected[channel]?.delete(who)
      // One that was interrupted leaves what was there before.
      else if (Exit.isSuccess(exit)) expected[channel]?.set(who, one)
      else expect(Exit.isInterrupted(exit)).toBe(true)
    }
    return expected
  })

for (const adapter of adapters) {
  describe(adapter.name, () => {
    const test = (name: string, run: (a: Instance, b: Instance) => Effect.Effect<void, unknown>) =>
      live(name, () => Effect.flatMap(adapter.two, ([a, b]) => run(a, b)))

    test("add and list: everything that belongs to a client, on every instance", (a, b) =>
      Effect.gen(function* () {
        const full = info("c1", "ann", { connInfo: '{"raw": 1e400,\n"tab":\t"ü🎺"}', chanInfo: "[2]" })
        yield* a.presence.add("x", full)
        yield* b.presence.add("x", info("c2"))
        yield* b.presence.add("y", info("c3", "bob", { chanInfo: '""' }))
        for (const one of [a, b]) {
          expect(yield* present(one, "x")).toEqual([full, info("c2")])
          expect(yield* present(one, "y")).toEqual([info("c3", "bob", { chanInfo: '""' })])
          expect(yield* present(one, "z")).toEqual([])
        }
      }))

    test("add again: replaces what was shown, and counts once", (a, b) =>
      Effect.gen(function* () {
        yield* a.presence.add("x", info("c1", "ann", { connInfo: "1" }))
        yield* a.presence.add("x", info("c1", "ann", { chanInfo: "2" }))
        expect(yield* present(b, "x")).toEqual([info("c1", "ann", { chanInfo: "2" })])
        yield* a.presence.add("x", info("c2", "ann"))
        yield* a.presence.add("x", info("c1", "bob"))
        expect(yield* b.presence.stats("x")).toEqual({ clients: 2, users: 2 })
        yield* a.presence.remove("x", "c2")
        expect(yield* b.presence.stats("x")).toEqual({ clients: 1, users: 1 })
        expect(yield* present(b, "x")).toEqual([info("c1", "bob")])
      }))

    test("remove: of one channel only, once is enough, and of nobody it is nothing", (a, b) =>
      Effect.gen(function* () {
        yield* a.presence.remove("x", "nobody")
        yield* a.presence.add("x", info("c1", "ann"))
        yield* b.presence.add("x", info("c2", "ann"))
        yield* a.presence.add("y", info("c1", "ann"))
        yield* a.presence.remove("x", "c1")
        yield* a.presence.remove("x", "c1")
        expect(yield* present(b, "x")).toEqual([info("c2", "ann")])
        expect(yield* b.presence.stats("x")).toEqual({ clients: 1, users: 1 })
        expect(yield* b.presence.stats("y")).toEqual({ clients: 1, users: 1 })
        yield* b.presence.remove("x", "c2")
        expect(yield* a.presence.stats("x")).toEqual({ clients: 0, users: 0 })
        yield* a.presence.add("x", info("c1", "ann"))
        expect(yield* b.presence.stats("x")).toEqual({ clients: 1, users: 1 })
      }))

    test("stats: clients, and users however many clients on however many instances they have", (a, b) =>
      Effect.gen(function* () {
        const add = (at: "a" | "b", user: string, count: number) =>
          Effect.forEach(
            Array.from({ length: count }, (_, index) => `${at}:${user}:${index}`),
            (client) => (at === "a" ? a : b).presence.add("x", info(client, user)),
            { concurrency: "unbounded", discard: true }
          )
        const users = Array.from({ length: 300 }, (_, index) => `user ${index}`)
        yield* Effect.forEach(users, (user, index) => add(index % 2 === 0 ? "a" : "b", user, 1 + (index % 3)))
        yield* add("a", "", 7)
        yield* add("b", "user 0", 5)
        expect(yield* a.presence.stats("x")).toEqual({ clients: 600 + 7 + 5, users: 301 })
        expect((yield* present(b, "x")).length).toBe(612)
        yield* Effect.forEach(Array.from({ length: 5 }), (_, index) => b.presence.remove("x", `b:user 0:${index}`))
        expect(yield* a.presence.stats("x")).toEqual({ clients: 607, users: 301 })
        yield* a.presence.remove("x", "a:user 0:0")
        expect(yield* b.presence.stats("x")).toEqual({ clients: 606, users: 300 })
      }))

    test("names that mean something elsewhere are ordinary, and never mixed up", (a, b) =>
      Effect.gen(function* () {
        const everybody = NAMES.map((name) => info(name, name, { connInfo: JSON.stringify(name) }))
        yield* Effect.forEach(NAMES, (channel) => Effect.forEach(everybody, (one) => a.presence.add(channel, one)))
        const sorted = everybody.toSorted((x, y) => (x.client < y.client ? -1 : 1))
        for (const channel of NAMES) {
          expect(yield* present(b, channel)).toEqual(sorted)
          expect(yield* b.presence.stats(channel)).toEqual({ clients: NAMES.length, users: NAMES.length })
        }
        yield* Effect.forEach(NAMES, (name) => a.presence.remove(name, name))
        for (const channel of NAMES) {
          expect(yield* present(b, channel)).toEqual(sorted.filter(({ client }) => client !== channel))
        }
      }))

    test("list: as many bytes as asked for, and one less is too many", (a, b) =>
      Effect.gen(function* () {
        const everybody = Array.from({ length: 500 }, (_, index) =>
          info(`c${index}`, `ü${index}`, { connInfo: `"${"🎺".repeat(index % 50)}"` })
        )
        yield* Effect.forEach(everybody, (one) => a.presence.add("x", one), { concurrency: 16 })
        // What is there no more does not count.
        yield* a.presence.add("x", info("c", "u", { connInfo: `"${"x".repeat(1000)}"` }))
        yield* a.presence.remove("x", "c")
        yield* a.presence.add("x", info("c0", "u", { connInfo: `"${"x".repeat(1000)}"` }))
        yield* a.presence.add("x", everybody[0] ?? info(""))
        const bytes = everybody.reduce((sum, one) => sum + Entry.sizeOf(one), 0)
        expect((yield* b.presence.list("x", bytes)).length).toBe(500)
        const refused = yield* Effect.either(b.presence.list("x", bytes - 1))
        expect(Either.isLeft(refused) && refused.left).toMatchObject({
          _tag: "TooManyPresent",
          channel: "x",
          message: `who is in "x" is more than ${bytes - 1} bytes`
        })
        expect(yield* b.presence.list("nobody", 0)).toEqual([])
        expect(yield* b.presence.stats("x")).toEqual({ clients: 500, users: 500 })
      }))

    live(
      "whatever is added, removed and interrupted at once: exactly who is left is there, and counted",
      () =>
        Effect.gen(function* () {
          const instances = yield* adapter.two
          const [a, b] = instances
          let count = 0
          const property = FastCheck.asyncProperty(FastCheck.array(step, { maxLength: 60 }), (steps) =>
            Effect.runPromise(
              Effect.gen(function* () {
                const round = ++count
                const name = (channel: string): string => `${channel}:${round}`
                const expected = yield* run(instances, steps, name)
                for (const [channel, members] of Object.entries(expected)) {
                  const all = Array.from(members.values()).toSorted((x, y) => (x.client < y.client ? -1 : 1))
                  const isRight = (now: ReadonlyArray<ClientInfo>): boolean =>
                    JSON.stringify(now.map(sorted)) === JSON.stringify(all.map(sorted))
                  // What was interrupted is undone without anybody waiting for it.
                  yield* eventually(present(a, name(channel)), isRight, JSON.stringify(all), "2 seconds")
                  const users = new Set(all.map(({ user }) => user)).size
                  expect(yield* b.presence.stats(name(channel))).toEqual({ clients: all.length, users })
                }
              })
            )
          )
          yield* Effect.promise(() => FastCheck.assert(property, { numRuns: 100, seed }))
        }),
      120_000
    )

    test("one that is interrupted is not there, and where it was there before, as it was", (a, b) =>
      Effect.gen(function* () {
        yield* a.presence.add("x", info("c1", "ann"))
        for (const client of ["c1", "c2"]) {
          const adding = yield* Effect.fork(a.presence.add("x", info(client, "bob")))
          yield* Effect.yieldNow()
          const exit = yield* Fiber.interrupt(adding)
          if (Exit.isSuccess(exit)) yield* a.presence.add("x", info(client, "ann"))
        }
        yield* a.presence.remove("x", "c2")
        yield* eventually(
          present(b, "x"),
          (all) => JSON.stringify(all) === JSON.stringify([info("c1", "ann")]),
          "only what has succeeded is left"
        )
        expect(yield* clientsOf(b, "x")).toEqual(["c1"])
      }))
  })
}

/** With its fields in one order, so that texts can be compared. */
const sorted = (one: ClientInfo): unknown => Object.entries(one).toSorted(([x], [y]) => (x < y ? -1 : 1))

describe("Entry", () => {
  const text = FastCheck.string({ unit: "binary" })
  const any: FastCheck.Arbitrary<ClientInfo> = FastCheck.record(
    { client: text, user: text, connInfo: text, chanInfo: text },
    { requiredKeys: ["client", "user"] }
  )

  it.prop("reads what it wrote", [any], ([one]) => {
    expect(Entry.decode(one.client, Entry.encode(one))).toEqual(Either.right(one))
  })

  // Written by version 1 and never to be changed: instances of neighbouring versions share a Redis during an upgrade.
  it("of version 1 is still what this version reads and writes", () => {
    const fixture = '{"v":1,"connInfo":"{\\"n\\":1}","chanInfo":"1e400"}\nann'
    const one = info("c1", "ann", { connInfo: '{"n":1}', chanInfo: "1e400" })
    expect(Entry.encode(one)).toBe(fixture)
    expect(Entry.decode("c1", fixture)).toEqual(Either.right(one))
    expect(Entry.decode("c1", '{"v":1}\n')).toEqual(Either.right(info("c1")))
    expect(Entry.decode("c1", '{"v":1,"since":3,"connInfo":"1"}\na\nb')).toEqual(
      Either.right(info("c1", "a\nb", { connInfo: "1" }))
    )
  })

  it.each([
    ["", "no header"],
    ['{"v":1}', "no header"],
    ["\n", "the header is not JSON"],
    ["[]\nann", "the header has fields of other types"],
    ['{"v":1,"connInfo":{}}\nann', "the header has fields of other types"],
    ['{"v":2}\nann', "version 2 is newer than 1"]
  ])("that reads %j is refused: %s", (entry, why) => {
    expect(Entry.decode("c1", entry)).toEqual(Either.left(why))
  })
})
