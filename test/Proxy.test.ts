import { describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import type { IncomingMessage } from "node:http"
import * as Proxy from "../src/transport/Proxy.ts"

interface From {
  readonly peer: string | undefined
  readonly host?: string
  readonly "x-forwarded-for"?: string | Array<string>
  readonly "x-forwarded-host"?: string | Array<string>
}

/** The only parts of a request that the rule looks at. */
const request = ({ peer, ...headers }: From): IncomingMessage =>
  ({ socket: { remoteAddress: peer }, headers }) as unknown as IncomingMessage

const client = (from: From, ...trusted: ReadonlyArray<string>) =>
  Proxy.client(request(from), Proxy.parse(trusted).trusted, true)

describe("Proxy.parse", () => {
  it.each(["10.0.0.0/8", "127.0.0.1", "0.0.0.0/0", "192.0.2.1/32", "::1", "::/0", "fd00::/8", "2001:db8::1/128"])(
    "takes %s",
    (entry) => {
      expect(Proxy.parse([entry]).invalid).toEqual([])
    }
  )

  it.each([
    "",
    "10.0.0.0/33",
    "10.0.0.0/-1",
    "10.0.0.0/",
    "10.0.0.0/8/8",
    "10.0.0.0/8.5",
    "10.0.0.0/x",
    "10.0.0",
    "256.0.0.1",
    "::1/129",
    "localhost",
    "10.0.0.1:80",
    "[::1]",
    "/8",
    "*"
  ])("names %j, which is neither an address nor a range", (entry) => {
    expect(Proxy.parse(["127.0.0.1", entry, "::1"]).invalid).toEqual([entry])
  })

  it.each(["10.0.0.0/0x8", "10.0.0.0/1e1", "10.0.0.0/ 8", "10.0.0.0/+8"])(
    "names %j: a prefix is written in digits",
    (entry) => {
      expect(Proxy.parse([entry]).invalid).toEqual([entry])
    }
  )
})

describe("Proxy.client, without trusted proxies", () => {
  it("is the peer and its Host, whatever the headers claim", () => {
    const from = { peer: "192.0.2.1", host: "a.example", "x-forwarded-for": "1.1.1.1", "x-forwarded-host": "b.example" }
    expect(client(from)).toEqual({ address: "192.0.2.1", host: "a.example" })
    expect(client(from, "192.0.2.2", "10.0.0.0/8", "fd00::/8")).toEqual({ address: "192.0.2.1", host: "a.example" })
  })

  it("is an IPv4 address where the peer came over an IPv6 socket", () => {
    expect(client({ peer: "::ffff:192.0.2.1" })).toEqual({ address: "192.0.2.1", host: undefined })
  })

  it("is nobody where the peer has gone already", () => {
    const gone = { peer: undefined, host: "a.example", "x-forwarded-for": "1.1.1.1", "x-forwarded-host": "b.example" }
    expect(client(gone, "0.0.0.0/0", "::/0")).toEqual({ address: "", host: "a.example" })
  })
})

describe("Proxy.client, where nobody needs the address", () => {
  it("does not ask the kernel for it, unless the peer may be a proxy", () => {
    const from = request({ peer: "192.0.2.1", host: "a.example", "x-forwarded-host": "b.example" })
    expect(Proxy.client(from, undefined, false)).toEqual({ address: "", host: "a.example" })
    const { trusted } = Proxy.parse(["192.0.2.1"])
    expect(Proxy.client(from, trusted, false).host).toBe("b.example")
  })
})

describe("Proxy.client, behind trusted proxies", () => {
  it.each<[string, From, string]>([
    ["the address that the proxy saw", { peer: "10.0.0.1", "x-forwarded-for": "1.1.1.1" }, "1.1.1.1"],
    ["an IPv6 address", { peer: "10.0.0.1", "x-forwarded-for": "2001:db8::7" }, "2001:db8::7"],
    ["the proxy on an IPv6 socket", { peer: "::ffff:10.0.0.1", "x-forwarded-for": "1.1.1.1" }, "1.1.1.1"],
    [
      "the last that is no proxy of ours",
      { peer: "10.0.0.1", "x-forwarded-for": "1.1.1.1, 2.2.2.2, 10.0.0.2" },
      "2.2.2.2"
    ],
    [
      "what the proxy saw, not what the client claims",
      { peer: "10.0.0.1", "x-forwarded-for": "127.0.0.1, 2.2.2.2" },
      "2.2.2.2"
    ],
    [
      "no trusted address that the client claims",
      { peer: "10.0.0.1", "x-forwarded-for": "10.0.0.9,2.2.2.2,10.0.0.2" },
      "2.2.2.2"
    ],
    ["a mapped address", { peer: "10.0.0.1", "x-forwarded-for": "::ffff:1.1.1.1" }, "1.1.1.1"],
    ["an address behind a mapped proxy", { peer: "10.0.0.1", "x-forwarded-for": "1.1.1.1,::ffff:10.0.0.2" }, "1.1.1.1"],
    [
      "the first of a chain of nothing but proxies",
      { peer: "10.0.0.1", "x-forwarded-for": "10.0.0.3,10.0.0.2" },
      "10.0.0.3"
    ],
    ["the proxy itself without a header", { peer: "10.0.0.1" }, "10.0.0.1"],
    ["the proxy itself with an empty header", { peer: "10.0.0.1", "x-forwarded-for": " , ," }, "10.0.0.1"],
    ["the end of several headers", { peer: "10.0.0.1", "x-forwarded-for": ["1.1.1.1", "2.2.2.2"] }, "2.2.2.2"],
    ["an address between spaces", { peer: "10.0.0.1", "x-forwarded-for": "  1.1.1.1 \t" }, "1.1.1.1"]
  ])("is %s", (_, from, address) => {
    expect(client(from, "10.0.0.0/8").address).toBe(address)
  })

  it("trusts proxies by IPv6 ranges too", () => {
    const from = { peer: "fd00::1", "x-forwarded-for": "1.1.1.1, fd00::2" }
    expect(client(from, "fd00::/8").address).toBe("1.1.1.1")
    expect(client(from, "fd01::/16").address).toBe("fd00::1")
  })

  it("takes the host that the proxy was asked for, or Host", () => {
    const from = { peer: "10.0.0.1", host: "internal:8000" }
    const host = (forwarded: string | Array<string>) =>
      client({ ...from, "x-forwarded-host": forwarded }, "10.0.0.0/8").host
    expect(host("a.example")).toBe("a.example")
    expect(host(" a.example:444 , internal")).toBe("a.example:444")
    expect(host(["a.example", "internal"])).toBe("a.example")
    expect(host("")).toBe("internal:8000")
    expect(host(" ")).toBe("internal:8000")
    expect(client(from, "10.0.0.0/8").host).toBe("internal:8000")
  })

  it.prop(
    "never is an address that stands before the last untrusted one, and never throws",
    [
      FastCheck.array(
        FastCheck.oneof(
          FastCheck.ipV4(),
          FastCheck.ipV6(),
          FastCheck.constantFrom("10.1.2.3", "unknown", "_hidden", "fe80::1%eth0", "1.1.1.1:80", "[::1]:80")
        ),
        { maxLength: 4 }
      ),
      FastCheck.ipV4().filter((address) => !address.startsWith("10."))
    ],
    ([claimed, seen]) => {
      const from = { peer: "10.0.0.1", "x-forwarded-for": [...claimed, seen, "10.0.0.2"].join(", ") }
      expect(client(from, "10.0.0.0/8").address).toBe(seen)
    }
  )
})
