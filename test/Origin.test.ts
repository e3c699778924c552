import { describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import { vi } from "vitest"
import * as Origin from "../src/transport/Origin.ts"

const LOOPBACK: Origin.Bound = { toLoopback: true, host: "127.0.0.1" }
const PUBLIC: Origin.Bound = { toLoopback: false, host: "0.0.0.0" }

interface Case {
  readonly origin?: string
  readonly host?: string
  readonly allowed?: ReadonlyArray<string>
}

const check = ({ origin, host, allowed = [] }: Case, bound: Origin.Bound): Origin.Refusal | undefined =>
  Origin.check({ origin, host }, allowed, bound)

describe("Origin.check, bound beyond this machine", () => {
  it.each<[string, Case]>([
    ["no Origin: not a browser", { host: "example.com" }],
    ["no Origin and no Host", {}],
    ["the same host", { origin: "http://example.com", host: "example.com" }],
    ["the same host and port", { origin: "http://example.com:8000", host: "example.com:8000" }],
    ["the same host in other letters", { origin: "http://Example.com", host: "eXample.com" }],
    ["port 80 left out by the origin", { origin: "http://example.com", host: "example.com:80" }],
    ["port 80 left out by Host", { origin: "http://example.com:80", host: "example.com" }],
    ["port 443 left out by the origin", { origin: "https://example.com", host: "example.com:443" }],
    ["TLS ended by a proxy that keeps Host", { origin: "https://example.com", host: "example.com" }],
    ["an IPv4 address", { origin: "http://192.0.2.1:8000", host: "192.0.2.1:8000" }],
    ["an IPv6 address", { origin: "http://[2001:db8::1]:8000", host: "[2001:db8::1]:8000" }],
    ["an IPv6 address written otherwise", { origin: "http://[2001:db8::1]", host: "[2001:DB8:0:0::1]" }],
    ["an internationalised name", { origin: "http://xn--bcher-kva.example", host: "xn--bcher-kva.example" }],
    [
      "one that is listed",
      { origin: "https://app.example.com", host: "ws.example.com", allowed: ["https://app.example.com"] }
    ],
    [
      "a listed one in other letters",
      { origin: "https://APP.example.com", host: "x", allowed: ["https://app.Example.com"] }
    ],
    ["a listed one without a Host", { origin: "https://a.example", allowed: ["https://a.example"] }],
    [
      "the second of a list",
      { origin: "https://b.example", host: "x", allowed: ["https://a.example", "https://b.example"] }
    ],
    ["a host below a wildcard", { origin: "https://a.example.com", host: "x", allowed: ["https://*.example.com"] }],
    [
      "a host two below a wildcard",
      { origin: "https://a.b.example.com", host: "x", allowed: ["https://*.example.com"] }
    ],
    ["any port", { origin: "http://a.example:3000", host: "x", allowed: ["http://a.example:*"] }],
    ["anything under *", { origin: "https://evil.example", host: "x", allowed: ["*"] }],
    ["null under *", { origin: "null", host: "x", allowed: ["https://a.example", "*"] }],
    ["what is no URL under *", { origin: "nonsense", host: "x", allowed: ["*"] }]
  ])("passes %s", (_, request) => {
    expect(check(request, PUBLIC)).toBeUndefined()
  })

  it.each<[string, Case]>([
    ["another host", { origin: "http://evil.example", host: "example.com" }],
    ["a host below it", { origin: "http://a.example.com", host: "example.com" }],
    ["a host above it", { origin: "http://example.com", host: "a.example.com" }],
    ["a host that begins with it", { origin: "http://example.com.evil.example", host: "example.com" }],
    ["a host that ends with it", { origin: "http://evilexample.com", host: "example.com" }],
    ["another port", { origin: "http://example.com:8001", host: "example.com:8000" }],
    ["a port where Host has none", { origin: "http://example.com:8000", host: "example.com" }],
    ["no port where Host has one", { origin: "http://example.com", host: "example.com:8000" }],
    ["port 80 where https means 443", { origin: "https://example.com", host: "example.com:80" }],
    ["another IPv6 address", { origin: "http://[2001:db8::2]", host: "[2001:db8::1]" }],
    ["null", { origin: "null", host: "example.com" }],
    ["null, listed but not *", { origin: "null", host: "null", allowed: ["null"] }],
    ["an empty Origin", { origin: "", host: "example.com" }],
    ["what is no URL", { origin: "example.com", host: "example.com" }],
    ["no Host", { origin: "http://example.com" }],
    ["a Host that is none", { origin: "http://example.com", host: "exa mple.com" }],
    ["localhost, which is somebody's own machine", { origin: "http://localhost", host: "example.com" }],
    ["the other scheme of a listed one", { origin: "http://a.example", host: "x", allowed: ["https://a.example"] }],
    ["another port of a listed one", { origin: "https://a.example:444", host: "x", allowed: ["https://a.example"] }],
    ["the host above a wildcard", { origin: "https://example.com", host: "x", allowed: ["https://*.example.com"] }],
    [
      "a host that ends like a wildcard",
      { origin: "https://evilexample.com", host: "x", allowed: ["https://*.example.com"] }
    ],
    [
      "a host behind a wildcard",
      { origin: "https://a.example.com.evil.example", host: "x", allowed: ["https://*.example.com"] }
    ],
    ["a dot taken for any letter", { origin: "https://axexample.com", host: "x", allowed: ["https://a.example.com"] }],
    ["a + taken for repetition", { origin: "https://aaa.example", host: "x", allowed: ["https://a+.example"] }],
    [
      "a host that begins like a listed one",
      { origin: "https://a.example.org", host: "x", allowed: ["https://a.example"] }
    ],
    [
      "a wildcard that would swallow the scheme",
      { origin: "http://evil.example/x.example.com", host: "x", allowed: ["*.example.com"] }
    ]
  ])("refuses %s", (_, request) => {
    expect(check(request, PUBLIC)).toMatchObject({ reason: "origin" })
  })
})

describe("Origin.check, bound to a loopback address", () => {
  it.each<[string, Case]>([
    ["no Origin", { host: "localhost:8000" }],
    ["the server's own page", { origin: "http://localhost:8000", host: "localhost:8000" }],
    ["a page of another port of this machine", { origin: "http://localhost:3000", host: "localhost:8000" }],
    ["127.0.0.1 to localhost", { origin: "http://127.0.0.1:3000", host: "localhost:8000" }],
    ["an address of 127/8", { origin: "https://127.1.2.3", host: "127.9.9.9:8000" }],
    ["IPv6 loopback", { origin: "http://[::1]:3000", host: "[::1]:8000" }],
    ["IPv6 loopback written in full", { host: "[0:0:0:0:0:0:0:1]:8000" }],
    ["a name below localhost", { origin: "http://app.localhost", host: "APP.LOCALHOST:8000" }],
    ["a listed page", { origin: "https://a.example", host: "localhost", allowed: ["https://a.example"] }],
    ["any Host under *", { origin: "http://evil.example", host: "evil.example", allowed: ["*"] }]
  ])("passes %s", (_, request) => {
    expect(check(request, LOOPBACK)).toBeUndefined()
  })

  // A proxy on this machine that forwards `Host`, as nginx does with `proxy_set_header Host $host`.
  it.each<[string, Case]>([
    ["an allowed origin that equals Host", { origin: "https://a.example", host: "a.example" }],
    ["an allowed origin under the name of a proxy", { origin: "https://a.example", host: "ws.a.example" }],
    ["an allowed origin under the name of an upstream", { origin: "https://a.example", host: "backend:8000" }],
    ["an allowed origin whose port the proxy has cut off", { origin: "https://b.example:8443", host: "b.example" }],
    ["an origin below a wildcard", { origin: "https://x.c.example", host: "x.c.example" }],
    ["no Origin under the name of an allowed one", { host: "a.example" }],
    ["no Origin under such a name in other letters and with a port", { host: "A.Example:443" }],
    ["no Origin under such a name, of an entry with a port", { host: "b.example:8443" }],
    ["no Origin under a name below a wildcard", { host: "x.c.example" }]
  ])("passes %s", (_, request) => {
    const allowed = ["https://a.example", "https://b.example:8443", "https://*.c.example", "http://d.example:*"]
    expect(check({ ...request, allowed }, LOOPBACK)).toBeUndefined()
  })

  // DNS rebinding: the name of the attacker's page now means 127.0.0.1, so that Origin equals Host.
  it.each<[string, Case]>([
    ["a rebound name", { origin: "http://evil.example:8000", host: "evil.example:8000" }],
    ["a rebound name without Origin", { host: "evil.example:8000" }],
    ["a rebound name in a page over TLS", { origin: "https://evil.example", host: "evil.example" }],
    ["a rebound name with the origin null, as of a sandboxed frame", { origin: "null", host: "evil.example" }],
    ["a rebound name with an origin that is no URL", { origin: "a.example", host: "evil.example" }],
    ["a page of this machine under a foreign name", { origin: "http://localhost", host: "evil.example" }],
    ["a name that begins like localhost", { host: "localhost.evil.example" }],
    ["a name that ends like localhost", { host: "evillocalhost" }],
    ["a name that begins like 127.0.0.1", { host: "127.0.0.1.evil.example" }],
    ["a name behind a user name", { host: "localhost@evil.example" }],
    ["a name behind a user name and port", { host: "localhost:8000@evil.example" }],
    ["a name behind an allowed one as its user name", { host: "a.example@evil.example" }],
    ["a name that begins like an allowed one", { host: "a.example.evil.example" }],
    ["a name that ends like an allowed one", { host: "evila.example" }],
    ["a name that ends like one below a wildcard", { host: "evilc.example" }],
    ["the name above a wildcard", { origin: "http://c.example", host: "c.example" }],
    ["a dot of an allowed name taken for any letter", { host: "axexample" }],
    ["an allowed name that ends in a dot", { origin: "http://a.example.:8000", host: "a.example.:8000" }],
    ["the scheme of an allowed one as a name", { host: "https" }],
    ["0.0.0.0", { host: "0.0.0.0:8000" }],
    ["another address", { host: "192.0.2.1:8000" }],
    ["another IPv6 address", { host: "[::2]:8000" }],
    ["no Host", {}],
    ["an empty Host", { host: "" }],
    ["a Host that is none", { host: "local host" }]
  ])("refuses %s for its Host", (_, request) => {
    expect(check(request, LOOPBACK)).toMatchObject({ reason: "host" })
    const allowed = ["https://a.example", "https://*.c.example"]
    expect(check({ ...request, allowed }, LOOPBACK)).toMatchObject({ reason: "host" })
  })

  // Whoever answers for names on a network (not for their certificates) can make a page of an allowed name, and rebind it.
  it.each<[string, Case]>([
    ["the page over http of a name that is allowed over https", { origin: "http://a.example", host: "a.example" }],
    ["the same with the port of the server", { origin: "http://a.example:8000", host: "a.example:8000" }],
    ["another port of an allowed name", { origin: "https://a.example:8000", host: "a.example:8000" }],
    ["a page of somebody's own machine under an allowed name", { origin: "http://localhost:3000", host: "a.example" }],
    ["a foreign page under an allowed name", { origin: "https://evil.example", host: "a.example" }],
    ["null under an allowed name", { origin: "null", host: "a.example" }],
    ["what is no URL under an allowed name", { origin: "a.example", host: "a.example" }]
  ])("refuses %s for its Origin", (_, request) => {
    expect(check({ ...request, allowed: ["https://a.example"] }, LOOPBACK)).toMatchObject({ reason: "origin" })
  })

  it("refuses a rebound page over http where every origin over https is allowed", () => {
    const rebound = { origin: "http://evil.example:8000", host: "evil.example:8000" }
    expect(check({ ...rebound, allowed: ["https://*"] }, LOOPBACK)).toMatchObject({ reason: "origin" })
  })

  it("takes the name that it listens on by its option for this machine's own", () => {
    const named: Origin.Bound = { toLoopback: true, host: "Workstation" }
    expect(check({ host: "workstation:8000" }, named)).toBeUndefined()
    expect(check({ origin: "http://workstation:8000", host: "workstation:8000" }, named)).toBeUndefined()
    expect(check({ host: "workstation.evil.example" }, named)).toMatchObject({ reason: "host" })
    expect(check({ host: "workstation" }, { toLoopback: true, host: undefined })).toMatchObject({ reason: "host" })
  })

  it.each<[string, Case]>([
    ["a foreign page", { origin: "http://evil.example", host: "localhost:8000" }],
    ["a foreign page that begins like localhost", { origin: "http://localhost.evil.example", host: "localhost" }],
    ["null", { origin: "null", host: "localhost" }]
  ])("refuses %s for its Origin", (_, request) => {
    expect(check(request, LOOPBACK)).toMatchObject({ reason: "origin" })
  })
})

describe("Origin.check, what it says", () => {
  it("names the origin and the line that would permit it, which then does", () => {
    const request = { origin: "https://a.example:444", host: "example.com" }
    const refusal = check(request, PUBLIC)
    expect(refusal?.detail).toContain('client.allowed_origins with "https://a.example:444" would permit it')
    expect(check({ ...request, allowed: [request.origin] }, PUBLIC)).toBeUndefined()
  })

  it("says * of null, and quotes what is no URL", () => {
    expect(check({ origin: "null", host: "x" }, PUBLIC)?.detail).toBe(
      'origin null; client.allowed_origins with "*" would permit it'
    )
    expect(check({ origin: 'a"\nb', host: "x" }, PUBLIC)?.detail).toBe('origin "a\\"\\nb" is not a URL')
  })

  const EMBEDDED: Origin.Bound = { toLoopback: true, host: undefined }

  it("names the Host, the line that would permit it, and how to listen beyond this machine", () => {
    const said = (bound: Origin.Bound) => check({ host: "evil.example" }, bound)?.detail
    const permit =
      'Host "evil.example" is not this machine: client.allowed_origins with "https://evil.example" would permit it'
    expect(said(LOOPBACK)).toBe(
      `${permit}; the option host (HOST) with 0.0.0.0, which listens beyond it, would permit any`
    )
    // The option is not what a program listens on that embeds the server.
    expect(said(EMBEDDED)).toBe(`${permit}; listening on an address beyond this machine would permit any`)
  })

  it("gives no advice that does not help", () => {
    const hosts = ["a.example", "a.example:8000", "[::2]:8000", "192.0.2.1", "0.0.0.0", "", "local host", undefined]
    const origins = ["https://a.example", "http://b.example:8000", "null", "nonsense", undefined]
    const refused = [LOOPBACK, EMBEDDED, PUBLIC].flatMap((bound) =>
      hosts
        .flatMap((host) => origins.map((origin): Origin.Request => ({ host, origin })))
        .map((request) => ({ request, bound, detail: Origin.check(request, [], bound)?.detail ?? "" }))
    )
    const wrong = refused.filter(({ bound, detail, request }) => {
      const [, listed] = /client\.allowed_origins with "([^"]*)" would permit it/.exec(detail) ?? []
      const isListed = listed === undefined || Origin.check(request, [listed], bound) === undefined
      const isBeyond = !detail.includes("would permit any") || Origin.check(request, [], PUBLIC)?.reason !== "host"
      return !isListed || !isBeyond
    })
    expect(wrong).toEqual([])
    expect(refused.filter(({ detail }) => detail.includes("would permit it")).length).toBeGreaterThan(50)
  })
})

describe("Origin.make", () => {
  const headers = [undefined, "", "null", "x"]
  const origins = [
    ...headers,
    "http://x",
    "http://x:1",
    "https://x",
    "http://y",
    "http://localhost",
    "https://a.example"
  ]
  const hosts = [...headers, "x:1", "x:80", "y", "localhost", "a.example", "http://x"]
  // Enough for any that are remembered to be forgotten.
  const others = Array.from({ length: 12 }, (_, index) => `${index}.localhost`)

  it("says what check says, whatever it was asked before", () => {
    const request = FastCheck.record({
      origin: FastCheck.constantFrom(...origins, ...others.map((other) => `http://${other}`)),
      host: FastCheck.constantFrom(...hosts, ...others)
    })
    const allowed = FastCheck.constantFrom([], ["https://a.example"], ["null"], ["*"])
    FastCheck.assert(
      FastCheck.property(
        FastCheck.array(request, { minLength: 1, maxLength: 200 }),
        allowed,
        FastCheck.infiniteStream(FastCheck.constantFrom(LOOPBACK, PUBLIC)),
        (requests, allowed, bounds) => {
          const asked = Origin.make(allowed)
          for (const one of requests) {
            const bound = bounds.next().value as Origin.Bound
            expect(asked(one, bound)).toEqual(Origin.check(one, allowed, bound))
          }
        }
      )
    )
  })

  it("remembers the last few that passed, and no more", () => {
    const parsed = vi.spyOn(URL, "canParse")
    const asked = Origin.make([])
    /** Whether a host that passes had to be looked at. */
    const isNew = (host: string): boolean => {
      parsed.mockClear()
      expect(asked({ origin: undefined, host }, LOOPBACK)).toBeUndefined()
      return parsed.mock.calls.length > 0
    }
    expect(["localhost:1", "localhost:1", "localhost:2", "localhost:1"].map(isNew)).toEqual([true, false, true, false])
    // What is refused takes no room.
    for (const other of others)
      expect(asked({ origin: undefined, host: `${other}.example` }, LOOPBACK)?.reason).toBe("host")
    expect(isNew("localhost:1")).toBe(false)
    for (const other of others) expect(isNew(other)).toBe(true)
    expect(others.filter((other) => !isNew(other)).length).toBeLessThan(others.length)
    expect(isNew("localhost:1")).toBe(true)
    parsed.mockRestore()
  })
})

describe("Origin.check, with several wildcards in an entry", () => {
  it("matches what a host name can be, and takes no time over what is longer", () => {
    const allowed = ["https://*.*.*.example.com"]
    const label = "a".repeat(63)
    expect(check({ origin: `https://${label}.${label}.${label}.example.com`, allowed }, PUBLIC)).toBeUndefined()
    const begun = performance.now()
    for (const bound of [PUBLIC, LOOPBACK]) {
      const name = `${"a.".repeat(3000)}x`
      expect(check({ origin: `https://${name}`, host: `${name}:1`, allowed }, bound)).toBeDefined()
    }
    // A minute and more where it is matched.
    expect(performance.now() - begun).toBeLessThan(1000)
  })
})

describe("Origin.isLoopback", () => {
  it.each(["localhost", "LocalHost", "a.localhost", "127.0.0.1", "127.255.255.255", "::1", "[::1]"])(
    "holds for %s",
    (name) => {
      expect(Origin.isLoopback(name)).toBe(true)
    }
  )

  it.each([
    "",
    "0.0.0.0",
    "::",
    "[::]",
    "128.0.0.1",
    "127.evil.example",
    "127.0.0.1.evil.example",
    "xlocalhost",
    "localhost.example",
    "::2"
  ])("does not hold for %j", (name) => {
    expect(Origin.isLoopback(name)).toBe(false)
  })

  // As HOST: a server bound to this machine has to be known as such, or rebinding is not guarded against.
  it.each(["0:0:0:0:0:0:0:1", "::ffff:127.0.0.1"])("holds for %s, another way to write a loopback address", (name) => {
    expect(Origin.isLoopback(name)).toBe(true)
  })
})
