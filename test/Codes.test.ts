import { describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import { Buffer } from "node:buffer"
import * as Ws from "ws"
import * as Codes from "../src/protocol/Codes.ts"

/** What the library says of bytes that a client sent: its error. */
const refusalOf = (bytes: ReadonlyArray<number>, options: Readonly<Record<string, unknown>> = {}): Promise<Error> =>
  new Promise((resolve, reject) => {
    // @types/ws does not know the Receiver.
    const { Receiver } = Ws as unknown as { Receiver: new (options: object) => NodeJS.WritableStream }
    const receiver = new Receiver({ isServer: true, maxPayload: 64, maxFragments: 2, ...options })
    receiver.on("error", resolve)
    receiver.on("message", () => reject(new Error("the frame was taken")))
    receiver.on("conclude", () => reject(new Error("the close frame was taken")))
    receiver.end(Buffer.from(bytes))
  })

const MASK = [0, 0, 0, 0]
const masked = (first: number, payload: ReadonlyArray<number> = []): ReadonlyArray<number> => [
  first,
  0x80 | payload.length,
  ...MASK,
  ...payload
]
const fragments = [masked(0x01, [97]), masked(0x00, [97]), masked(0x00, [97]), masked(0x80, [97])].flat()

describe("Codes.protocolError", () => {
  it.each<[string, ReadonlyArray<number>, number]>([
    ["a message above the limit", [0x81, 0x80 | 65, ...MASK], 1009],
    ["a length of 16 bits above the limit", [0x81, 0xfe, 0xff, 0xff, ...MASK], 1009],
    ["a length above 2^53", [0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, ...MASK], 1009],
    [
      "a fragmented message above the limit",
      [
        masked(
          0x01,
          Array.from({ length: 40 }, () => 97)
        ),
        masked(
          0x80,
          Array.from({ length: 40 }, () => 97)
        )
      ].flat(),
      1009
    ],
    ["too many fragments", fragments, 1008],
    ["text that is not UTF-8", masked(0x81, [0xc3, 0x28]), 1007],
    ["a close reason that is not UTF-8", masked(0x88, [0x03, 0xe8, 0xff]), 1007],
    ["an unmasked frame", [0x81, 0x01, 97], 1002],
    ["reserved bits", masked(0xb1), 1002],
    ["a compressed frame that nobody agreed on", masked(0xc1), 1002],
    ["an unknown opcode", masked(0x83), 1002],
    ["a continuation of nothing", masked(0x80), 1002],
    ["a fragmented ping", masked(0x09), 1002],
    ["a close code that may not be sent", masked(0x88, [0x03, 0xed]), 1002],
    ["a close frame of one byte", masked(0x88, [3]), 1002]
  ])("closes with the code of RFC 6455 for %s", async (_, bytes, code) => {
    expect(Codes.protocolError(await refusalOf(bytes))).toEqual({ code, reason: "" })
  })

  it.each([
    new Error("no code"),
    Object.assign(new Error("another library's"), { code: "ECONNRESET" }),
    Object.assign(new Error("not a text"), { code: 1009 })
  ])("is a protocol error (1002) where the library names none it knows: %s", (error) => {
    expect(Codes.protocolError(error)).toEqual({ code: 1002, reason: "" })
  })
})

describe("Codes.forCloseFrame", () => {
  it.each([1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3501, 3999, 4000, 4999])(
    "keeps %i, which may be sent",
    (code) => {
      expect(Codes.forCloseFrame({ code, reason: "why" })).toEqual({ code, reason: "why" })
    }
  )

  it.each([
    0,
    -1,
    103,
    999,
    1004,
    1005,
    1006,
    1015,
    1016,
    2000,
    2500,
    2999,
    5000,
    65_536,
    3000.5,
    Number.NaN,
    Number.POSITIVE_INFINITY
  ])("turns %d, which may not be sent, into 3004", (code) => {
    expect(Codes.forCloseFrame({ code, reason: "why" })).toEqual({ code: 3004, reason: "why" })
  })

  it("keeps a reason of 123 bytes and cuts one of 124", () => {
    expect(Codes.forCloseFrame({ code: 3000, reason: "a".repeat(123) }).reason).toBe("a".repeat(123))
    expect(Codes.forCloseFrame({ code: 3000, reason: "a".repeat(124) }).reason).toBe("a".repeat(123))
    expect(Codes.forCloseFrame({ code: 3000, reason: `${"a".repeat(122)}é` }).reason).toBe("a".repeat(122))
    expect(Codes.forCloseFrame({ code: 3000, reason: `${"a".repeat(121)}é` }).reason).toBe(`${"a".repeat(121)}é`)
    expect(Codes.forCloseFrame({ code: 3000, reason: "🎺".repeat(100_000) }).reason).toBe("🎺".repeat(30))
  })

  it.prop(
    "keeps the longest beginning of a reason that fits, cut between characters",
    [FastCheck.string({ unit: "binary", maxLength: 200, size: "max" })],
    ([reason]) => {
      const cut = Codes.forCloseFrame({ code: 3000, reason }).reason
      expect(reason.startsWith(cut)).toBe(true)
      expect(Buffer.byteLength(cut)).toBeLessThanOrEqual(123)
      expect(Buffer.from(cut).toString("utf8")).toBe(cut)
      const [next = ""] = Array.from(reason.slice(cut.length))
      if (next !== "") expect(Buffer.byteLength(cut + next)).toBeGreaterThan(123)
    }
  )

  it("changes no code of the protocol", () => {
    // The end of a subscription has a reason too, and never is a close frame.
    const all = Object.values(Codes).filter(
      (value): value is Codes.Disconnect =>
        typeof value === "object" && "reason" in value && !(value.code >= 2000 && value.code < 3000)
    )
    expect(all.length).toBeGreaterThan(10)
    for (const disconnect of all) expect(Codes.forCloseFrame(disconnect)).toEqual(disconnect)
  })
})

describe("Codes", () => {
  it.each([
    ["internal", Codes.internal, 100],
    ["unauthorized", Codes.unauthorized, 101],
    ["unknownChannel", Codes.unknownChannel, 102],
    ["permissionDenied", Codes.permissionDenied, 103],
    ["methodNotFound", Codes.methodNotFound, 104],
    ["alreadySubscribed", Codes.alreadySubscribed, 105],
    ["limitExceeded", Codes.limitExceeded, 106],
    ["badRequest", Codes.badRequest, 107],
    ["notAvailable", Codes.notAvailable, 108],
    ["unrecoverable", Codes.unrecoverable, 112],
    ["insufficient", Codes.insufficient, 2500],
    ["connectionClosed", Codes.connectionClosed, 3000],
    ["shutdown", Codes.shutdown, 3001],
    ["serverError", Codes.serverError, 3004],
    ["slow", Codes.slow, 3008],
    ["insufficientState", Codes.insufficientState, 3010],
    ["noPong", Codes.noPong, 3012],
    ["invalidToken", Codes.invalidToken, 3500],
    ["badRequestDisconnect", Codes.badRequestDisconnect, 3501],
    ["stale", Codes.stale, 3502],
    ["channelLimit", Codes.channelLimit, 3505],
    ["permissionDeniedDisconnect", Codes.permissionDeniedDisconnect, 3507],
    ["notAvailableDisconnect", Codes.notAvailableDisconnect, 3508],
    ["unsupportedData", Codes.unsupportedData, 1003],
    ["publishFailed", Codes.publishFailed, 1011]
  ] as const)("%s has the code of the protocol", (_, { code }, expected) => {
    expect(code).toBe(expected)
  })

  it("says in the words of the protocol what became of a position", () => {
    expect(Codes.unrecoverable).toEqual({ code: 112, message: "unrecoverable position" })
    expect(Codes.insufficient).toEqual({ code: 2500, reason: "insufficient state" })
    expect(Codes.insufficientState).toEqual({ code: 3010, reason: "insufficient state" })
    expect(Codes.channelLimit).toEqual({ code: 3505, reason: "channel limit" })
  })

  it("calls an error temporary only where the protocol does", () => {
    const temporary = Object.values(Codes).flatMap((value) =>
      typeof value === "object" && "temporary" in value ? [value.code] : []
    )
    expect(temporary).toContain(100)
    expect(temporary.filter((code) => code !== 100 && code !== 111)).toEqual([])
  })
})
