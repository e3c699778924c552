/** The hub over a broker in the test's hands: what it hears, what it misses, and what history answers. */
import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import type { Publication } from "../src/protocol/Publication.ts"
import { Member, publish, range, since, start, Stub } from "./support/hub.ts"
import { live } from "./support/it.ts"
import { valuesOf } from "./support/metrics.ts"
import { eventually } from "./support/wait.ts"

describe("Hub.prepare", () => {
  live("a member of a quiet channel costs no read, a newcomer one, however many there are", () =>
    Effect.gen(function* () {
      const stub = new Stub()
      const running = yield* start(stub)
      publish(stub, 3)
      yield* new Member().join(running)
      let asked = 0
      stub.before = Effect.sync(() => void asked++)
      for (let count = 0; count < 10; count++) {
        expect((yield* new Member().join(running)).position).toEqual({ epoch: "e1", offset: 3 })
      }
      expect(asked).toBe(0)
      yield* new Member().join(running, since(1))
      expect(asked).toBe(1)
    })
  )

  live("what is heard before the subscription is confirmed does not hide what is not: the replay is whole", () =>
    Effect.gen(function* () {
      const stub = new Stub()
      const running = yield* start(stub)
      publish(stub, 3)
      // The end of an older subscription: 4 is still heard, 5 and 6 are not.
      stub.confirming = Effect.sync(() => {
        stub.subscribed.add("x")
        stub.publish()
        stub.publish(true)
        stub.publish(true)
      })
      const member = new Member()
      const joined = yield* member.join(running, since(3))
      expect([joined.isRecovered, joined.position?.offset]).toEqual([true, 6])
      stub.publish()
      yield* member.gets("e1:7")
      expect(member.log).toEqual(range(4, 7))
    })
  )

  live("what a newcomer's page shows to be missing is read for all", () =>
    Effect.gen(function* () {
      const stub = new Stub()
      const running = yield* start(stub)
      const member = new Member()
      yield* member.join(running)
      publish(stub, 2)
      stub.publish(true)
      yield* new Member().join(running, since(0))
      yield* member.gets("e1:3")
      expect(member.log).toEqual(range(1, 3))
      expect(member.ended).toBe(undefined)
    })
  )

  live("a newcomer that has seen more than this instance waits for it", () =>
    Effect.gen(function* () {
      const stub = new Stub()
      const running = yield* start(stub)
      yield* new Member().join(running)
      const late: Publication = { data: "e1:1", json: false, epoch: "e1", offset: 1 }
      stub.publish(true)
      const member = new Member()
      const joining = yield* Effect.fork(member.join(running, since(1)))
      yield* Effect.yieldNow()
      stub.hear(late)
      expect(yield* Fiber.join(joining)).toMatchObject({ isRecovered: true, publications: [] })
      expect(member.log).toEqual([])
    })
  )

  live("while history cannot be read it fails, and leaves nothing; afterwards it works", () =>
    Effect.gen(function* () {
      const stub = new Stub()
      const running = yield* start(stub)
      publish(stub, 2)
      stub.failure = "Failed"
      expect(yield* Effect.flip(new Member().join(running))).toMatchObject({ reason: "Failed" })
      expect([running.metrics.channels.value, running.metrics.subscriptions.value, stub.subscribed.size]).toEqual([
        0, 0, 0
      ])
      stub.failure = undefined
      expect((yield* new Member().join(running)).position?.offset).toBe(2)
    })
  )
})

describe("Hub, a gap", () => {
  live(
    "that cannot be read: who needs all of it is told; once it can be read, the others go on and newcomers join",
    () =>
      Effect.gen(function* () {
        const stub = new Stub()
        const running = yield* start(stub)
        const member = new Member()
        const lossy = new Member(false)
        yield* member.join(running)
        yield* lossy.join(running)
        stub.failure = "Failed"
        stub.publish(true)
        stub.publish()
        yield* member.isEnded
        expect(member.log).toEqual([])
        expect(yield* Effect.flip(new Member().join(running))).toMatchObject({ reason: "Failed" })
        stub.failure = undefined
        expect((yield* new Member().join(running)).position?.offset).toBe(2)
        stub.publish()
        yield* lossy.gets("e1:3")
        expect(lossy.ended).toBe(undefined)
        expect(valuesOf(running.metrics.insufficient)).toEqual({ overflow: 0, gap: 1 })
      })
  )

  live("that cannot be read is looked at again by the position check, also where nothing more is published", () =>
    Effect.gen(function* () {
      const stub = new Stub()
      const running = yield* start(stub, "50ms")
      const lossy = new Member(false)
      yield* lossy.join(running)
      stub.failure = "Failed"
      stub.publish(true)
      stub.publish()
      yield* eventually(
        Effect.sync(() => running.metrics.gaps.value),
        (gaps) => gaps > 0,
        "it is given up"
      )
      stub.failure = undefined
      yield* eventually(Effect.either(new Member().join(running)), ({ _tag }) => _tag === "Right", "newcomers join")
      stub.publish()
      yield* lossy.gets("e1:3")
    })
  )

  live("in one channel does not wait for another one whose history does not answer", () =>
    Effect.gen(function* () {
      const stub = new Stub()
      const running = yield* start(stub)
      // Reads of a slow channel hang; each newcomer with a position asks for another one.
      const slow = yield* Effect.makeLatch(false)
      let hanging = 0
      const member = new Member()
      yield* member.join(running)
      stub.before = Effect.suspend(() => {
        if (hanging < 40) {
          hanging++
          return slow.await
        }
        return Effect.void
      })
      const others = yield* Effect.forkAll(
        Array.from({ length: 40 }, (_, index) =>
          Effect.ignore(Effect.scoped(running.hub.prepare(`slow ${index % 2}`, since(index))))
        )
      )
      yield* eventually(
        Effect.sync(() => hanging),
        (count) => count >= 8,
        "they wait"
      )
      hanging = 40
      stub.publish(true)
      stub.publish()
      yield* member.gets("e1:2")
      expect(member.log).toEqual(range(1, 2))
      yield* slow.open
      yield* Fiber.interrupt(others)
    })
  )
})

describe("Hub, filling", () => {
  live("a busy channel ends: what comes while it is filled is no reason to fill it again", () =>
    Effect.gen(function* () {
      const stub = new Stub()
      const running = yield* start(stub)
      const member = new Member()
      yield* member.join(running)
      // With every read comes a publication.
      stub.before = Effect.sync(() => {
        if (stub.top < 500) stub.publish()
      })
      stub.publish(true)
      stub.publish()
      yield* member.gets("e1:3")
      yield* running.hub.idle
      expect([stub.reads, stub.top]).toEqual([1, 3])
      expect(member.log).toEqual(range(1, 3))
    })
  )

  live("ends without a word where the link is lost meanwhile; the next link fills it", () =>
    Effect.gen(function* () {
      const stub = new Stub()
      const running = yield* start(stub)
      const member = new Member()
      yield* member.join(running)
      const asked = yield* Effect.makeLatch(false)
      stub.before = asked.open
      stub.failure = "NotLive"
      stub.publish(true)
      stub.publish()
      yield* asked.await
      yield* running.hub.idle
      expect([member.log, member.ended]).toEqual([[], undefined])
      stub.failure = undefined
      yield* stub.sink?.resync ?? Effect.void
      yield* member.gets("e1:2")
      expect([member.log, member.ended]).toEqual([range(1, 2), undefined])
    })
  )
})

describe("Hub, resync", () => {
  live("reads what was missed, and ends; what takes longer is left to the background", () =>
    Effect.gen(function* () {
      const stub = new Stub()
      const running = yield* start(stub)
      const member = new Member()
      yield* member.join(running)
      // The stub has one stream for all channels; of the others nothing is ever heard.
      const others = Array.from({ length: 40 }, () => new Member())
      for (const [index, other] of others.entries()) yield* other.join(running, undefined, `other ${index}`)
      for (let count = 0; count < 600; count++) stub.publish(true)
      yield* stub.sink?.resync ?? Effect.void
      yield* member.gets("e1:600")
      expect(member.log).toEqual(range(1, 600))
      // Now history does not answer at all: the instance is live after its time all the same.
      const latch = yield* Effect.makeLatch(false)
      stub.before = latch.await
      stub.publish(true)
      yield* stub.sink?.resync ?? Effect.void
      expect(member.log.length).toBe(600)
      yield* latch.open
      for (const one of [member, ...others]) {
        yield* one.gets("e1:601")
        expect(one.log).toEqual(range(1, 601))
        expect(one.ended).toBe(undefined)
      }
    })
  )
})

describe("Hub, whatever happens", () => {
  type Step =
    | { readonly do: "publish"; readonly lost: ReadonlyArray<boolean> }
    | { readonly do: "join"; readonly positioned: boolean; readonly back: number | undefined }
    | { readonly do: "lose" | "leave" | "remove" | "settle" | "resync" | "fail" | "work" }

  const step: FastCheck.Arbitrary<Step> = FastCheck.oneof(
    {
      weight: 6,
      arbitrary: FastCheck.record({
        do: FastCheck.constant("publish" as const),
        lost: FastCheck.array(FastCheck.boolean(), { minLength: 1, maxLength: 5 })
      })
    },
    {
      weight: 3,
      arbitrary: FastCheck.record({
        do: FastCheck.constant("join" as const),
        positioned: FastCheck.boolean(),
        back: FastCheck.option(FastCheck.nat(9), { nil: undefined })
      })
    },
    {
      weight: 4,
      arbitrary: FastCheck.constantFrom<Step>(
        { do: "lose" },
        { do: "leave" },
        { do: "remove" },
        { do: "settle" },
        { do: "settle" },
        { do: "resync" },
        { do: "fail" },
        { do: "work" }
      )
    }
  )

  /** A positioned member has everything from where it joined, or was told; nobody gets anything twice or too late. */
  const check = (member: Member): void => {
    const { joined, isPositioned, log } = member
    const numbers = log.map((data) => data.split(":"))
    for (const [index, [epoch, offset]] of numbers.entries()) {
      const before = numbers[index - 1]
      if (before !== undefined && before[0] === epoch) {
        if (isPositioned)
          expect(log).toEqual(range(Number(numbers[0]?.[1]), Number(numbers[0]?.[1]) + log.length - 1, epoch))
        else expect(Number(offset)).toBeGreaterThan(Number(before[1]))
      }
      if (before !== undefined && before[0] !== epoch) {
        expect(isPositioned).toBe(false)
        expect(Number(epoch?.slice(1))).toBeGreaterThan(Number(before[0]?.slice(1)))
      }
    }
    const first = numbers[0]
    if (isPositioned && first !== undefined && joined?.position !== undefined) {
      expect(first[0]).toBe(joined.position.epoch)
      expect(Number(first[1])).toBe(joined.position.offset - joined.publications.length + 1)
    }
  }

  const scenario = (steps: ReadonlyArray<Step>): Effect.Effect<void, unknown, Scope.Scope> =>
    Effect.gen(function* () {
      const stub = new Stub(6)
      const running = yield* start(stub)
      const members: Array<Member> = []
      const joining: Array<Fiber.RuntimeFiber<unknown, unknown>> = []
      for (const one of steps) {
        switch (one.do) {
          case "publish":
            for (const isLost of one.lost) stub.publish(isLost)
            break
          case "join": {
            const member = new Member(one.positioned)
            members.push(member)
            const want = one.back === undefined ? undefined : since(Math.max(0, stub.top - one.back), stub.epoch)
            joining.push(yield* Effect.fork(Effect.either(member.join(running, want))))
            break
          }
          case "leave": {
            const member = members.find(({ joined }) => joined !== undefined)
            if (member !== undefined) {
              running.hub.leave("x", member)
              members.splice(members.indexOf(member), 1)
            }
            break
          }
          case "lose":
            stub.lose()
            break
          case "remove":
            stub.kept = []
            running.hub.forget("x")
            break
          case "fail":
            stub.failure = "Failed"
            break
          case "work":
            stub.failure = undefined
            break
          case "settle":
            yield* running.hub.idle
            break
          case "resync":
            yield* stub.sink?.resync ?? Effect.void
        }
      }
      stub.failure = undefined
      for (const fiber of joining) yield* Fiber.join(fiber)
      // In the end the link comes back, and one more publication is heard.
      yield* stub.sink?.resync ?? Effect.void
      stub.publish()
      yield* running.hub.idle
      for (const member of members) {
        check(member)
        if (member.joined === undefined || member.ended !== undefined) continue
        yield* member.gets(`${stub.epoch}:${stub.top}`)
        check(member)
        const { isRecovered, publications } = member.joined
        if (!isRecovered) expect(publications).toEqual([])
      }
    })

  live(
    "a positioned member gets everything in order and once, or is told",
    () =>
      Effect.promise(() =>
        FastCheck.assert(
          FastCheck.asyncProperty(FastCheck.array(step, { minLength: 1, maxLength: 30 }), (steps) =>
            Effect.runPromise(Effect.scoped(scenario(steps)))
          ),
          { numRuns: 300 }
        )
      ),
    120_000
  )
})
