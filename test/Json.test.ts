import { describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import * as Codes from "../src/protocol/Codes.ts"
import * as Json from "../src/protocol/Json.ts"
import * as Publication from "../src/protocol/Publication.ts"
import * as Raw from "../src/protocol/Raw.ts"

const INFO = { client: "c", user: "" }

/** JSON text that is laid out over several lines. */
const laidOut = FastCheck.tuple(
  FastCheck.jsonValue(),
  FastCheck.string({ unit: FastCheck.constantFrom(" ", "\r", "\n", "\t"), minLength: 1, maxLength: 4 })
).map(([value, space]) => `${space}${JSON.stringify(value, undefined, space)}${space}`)

describe("Json.data", () => {
  it("leaves JSON as it is: white space, numbers, key order, duplicate keys", () => {
    const text = '{ "b":1e400,\t"a":12345678901234567890, "a":"\\u0061\\n" }'
    expect(Json.data(Publication.fromJson(text))).toBe(text)
  })

  it("turns every CR and LF between tokens into one space", () => {
    expect(Json.data(Publication.fromJson('{\r\n"a":\n[1,\r2]\n\n}'))).toBe('{  "a": [1, 2]  }')
    expect(Json.data(Publication.fromJson('"\\r\\n"'))).toBe('"\\r\\n"')
  })

  it.each(["hello", "", "{", '{"a":1}x', "a\nb\r\nc", "NaN", '"\n"', "\u2028", "\ufeff1", "undefined", "'a'", "01"])(
    "writes the text %j, which is not JSON, as a JSON string",
    (text) => {
      const publication = Publication.fromText(text)
      expect(publication.json).toBe(false)
      expect(Json.data(publication)).toBe(JSON.stringify(text))
    }
  )

  it("writes plain text that is nested deeper than JSON readers take as a JSON string too", () => {
    const nest = (depth: number) => "[".repeat(depth) + "]".repeat(depth)
    const exact = nest(Raw.MAX_DEPTH)
    const over = nest(Raw.MAX_DEPTH + 1)
    expect(Json.data(Publication.fromText(exact))).toBe(exact)
    expect(Json.data(Publication.fromText(over))).toBe(JSON.stringify(over))
  })

  it.prop("is one line that parses as the original does", [laidOut], ([text]) => {
    const written = Json.data(Publication.fromText(text))
    expect(written).not.toMatch(/[\r\n]/)
    expect(written.length).toBe(text.length)
    expect(JSON.stringify(JSON.parse(written))).toBe(JSON.stringify(JSON.parse(text)))
  })

  it.prop(
    "is one line, and JSON, for any text",
    [FastCheck.string({ unit: FastCheck.constantFrom("\r", "\n", '"', "\\", "{", "}", "1", ",", " ", "é") })],
    ([text]) => {
      const publication = Publication.fromText(text)
      const written = Json.data(publication)
      expect(written).not.toMatch(/[\r\n]/)
      expect(JSON.parse(written)).toEqual(publication.json ? JSON.parse(text) : text)
    }
  )
})

describe("Json.publication", () => {
  it("leaves out what is not there", () => {
    expect(Json.publication({ data: "1", json: true })).toBe('{"data":1}')
    expect(Json.publication({ data: "1", json: true, info: INFO })).toBe('{"data":1,"info":{"user":"","client":"c"}}')
  })

  it("has user and client of the publisher, also where they are empty; leaves out offset 0 and no tags", () => {
    expect(Json.publication({ data: "0", json: true, info: { client: "", user: "" } })).toBe(
      '{"data":0,"info":{"user":"","client":""}}'
    )
    expect(Json.publication({ data: "0", json: true, offset: 0 })).toBe('{"data":0}')
    expect(Json.publication({ data: "0", json: true, tags: {} })).toBe('{"data":0}')
  })

  it("writes offset, tags and the publisher, and embeds what is JSON already", () => {
    const publication = {
      data: '{"a": 1}',
      json: true,
      info: { client: 'c"1', user: "ü", connInfo: '{"n":\n1e400}', chanInfo: '"x"' },
      offset: 9_007_199_254_740_991,
      epoch: "not part of a push",
      tags: { 'k"': "v\n" }
    }
    expect(Json.publication(publication)).toBe(
      '{"data":{"a": 1},"info":{"user":"ü","client":"c\\"1","conn_info":{"n": 1e400},"chan_info":"x"},' +
        '"offset":9007199254740991,"tags":{"k\\"":"v\\n"}}'
    )
  })
})

describe("Json.push", () => {
  it.each(["lobby", "__proto__", "constructor", 'a"b\\', "\u2028", "🎺", "{}"])("names the channel %j", (channel) => {
    const text = Json.push(channel, Publication.fromText("hi", INFO))
    expect(JSON.parse(text)).toEqual({ push: { channel, pub: { data: "hi", info: { user: "", client: "c" } } } })
  })

  it.prop(
    "is one line that says all of the publication",
    [
      FastCheck.string({ unit: "binary" }),
      laidOut,
      FastCheck.record({ client: FastCheck.string(), user: FastCheck.string(), connInfo: laidOut, chanInfo: laidOut }),
      FastCheck.dictionary(FastCheck.oneof(FastCheck.string(), FastCheck.constant("__proto__")), FastCheck.string(), {
        minKeys: 1
      })
    ],
    ([channel, data, info, tags]) => {
      const text = Json.push(channel, { ...Publication.fromText(data, info), offset: 7, tags })
      expect(text).not.toMatch(/[\r\n]/)
      const { push } = JSON.parse(text)
      expect(push.channel).toBe(channel)
      expect(push.pub.offset).toBe(7)
      expect(JSON.stringify(push.pub.data)).toBe(JSON.stringify(JSON.parse(data)))
      expect(Object.entries(push.pub.tags)).toEqual(Object.entries(tags))
      expect([push.pub.info.client, push.pub.info.user]).toEqual([info.client, info.user])
      expect(JSON.stringify(push.pub.info.conn_info)).toBe(JSON.stringify(JSON.parse(info.connInfo)))
      expect(JSON.stringify(push.pub.info.chan_info)).toBe(JSON.stringify(JSON.parse(info.chanInfo)))
    }
  )
})

const POSITION = { epoch: 'e"1', offset: 7 }

describe("Json.unsubscribePush", () => {
  it("names the channel, the code and the reason", () => {
    expect(Json.unsubscribePush('a"b', Codes.insufficient)).toBe(
      '{"push":{"channel":"a\\"b","unsubscribe":{"code":2500,"reason":"insufficient state"}}}'
    )
  })
})

describe("Json.page", () => {
  const publications = [1, 2, 3].map((offset) => ({ data: '"é"', json: true, offset, epoch: "e" }))
  const texts = [1, 2, 3].map((offset) => `{"data":"é","offset":${offset}}`)
  const BYTES = 24

  it("has every publication where all of them fit", () => {
    expect(Json.page([], 0)).toEqual([])
    expect(Json.page(publications, 3 * BYTES)).toEqual(texts)
  })

  it("has as many of the first as fit in that many bytes of UTF-8, and one at least", () => {
    expect(Json.page(publications, 3 * BYTES - 1)).toEqual(texts.slice(0, 2))
    expect(Json.page(publications, 2 * BYTES)).toEqual(texts.slice(0, 2))
    expect(Json.page(publications, 2 * BYTES - 1)).toEqual(texts.slice(0, 1))
    expect(Json.page(publications, 0)).toEqual(texts.slice(0, 1))
  })

  it("does not go on behind one that does not fit", () => {
    const [small = { data: "1", json: true }] = publications
    const large = { ...small, data: `"${"x".repeat(100)}"` }
    expect(Json.page([small, large, small], 2 * BYTES)).toEqual([Json.publication(small)])
  })
})

describe("Json.subscribeResult", () => {
  const plain = {
    recoverable: false,
    positioned: false,
    position: undefined,
    wasRecovering: false,
    recovered: false,
    publications: Json.list([])
  }
  const recoverable = { ...plain, recoverable: true, positioned: true, position: POSITION }

  it("is empty without history", () => {
    expect(Json.subscribeResult(plain)).toBe("{}")
  })

  it("tells the position, and leaves out the offset of an empty stream", () => {
    expect(Json.subscribeResult(recoverable)).toBe('{"recoverable":true,"epoch":"e\\"1","offset":7,"positioned":true}')
    expect(Json.subscribeResult({ ...recoverable, position: { epoch: "e", offset: 0 } })).toBe(
      '{"recoverable":true,"epoch":"e","positioned":true}'
    )
    expect(Json.subscribeResult({ ...recoverable, recoverable: false })).toBe(
      '{"epoch":"e\\"1","offset":7,"positioned":true}'
    )
  })

  it("tells a client that comes back whether it has recovered, and what it missed", () => {
    const recovering = { ...recoverable, wasRecovering: true }
    expect(Json.subscribeResult(recovering)).toBe(
      '{"recoverable":true,"epoch":"e\\"1","offset":7,"positioned":true,"was_recovering":true}'
    )
    const publications = Json.list(['{"data":1e400,"offset":6}', '{"data":[],"offset":7}'])
    expect(Json.subscribeResult({ ...recovering, recovered: true, publications })).toBe(
      '{"recoverable":true,"epoch":"e\\"1","offset":7,"publications":[{"data":1e400,"offset":6},{"data":[],"offset":7}],' +
        '"recovered":true,"positioned":true,"was_recovering":true}'
    )
    expect(JSON.parse(Json.subscribeResult({ ...recovering, recovered: true }))).toEqual({
      recoverable: true,
      epoch: 'e"1',
      offset: 7,
      recovered: true,
      positioned: true,
      was_recovering: true
    })
  })
})

describe("Json.historyResult", () => {
  it("has publications, epoch and offset, also where they are empty or 0", () => {
    expect(Json.historyResult(POSITION, [])).toBe('{"publications":[],"epoch":"e\\"1","offset":7}')
    expect(Json.historyResult({ epoch: "e", offset: 0 }, [])).toBe('{"publications":[],"epoch":"e","offset":0}')
    expect(Json.historyResult(POSITION, ['{"data":1e400,"offset":6}', '{"data":2,"offset":7}'])).toBe(
      '{"publications":[{"data":1e400,"offset":6},{"data":2,"offset":7}],"epoch":"e\\"1","offset":7}'
    )
  })
})

describe("Json.presenceResult and Json.presenceStatsResult", () => {
  it("have presence, user, client and both numbers, also where they are empty or 0", () => {
    expect(Json.presenceResult([])).toBe('{"presence":{}}')
    expect(Json.presenceResult([{ client: "c", user: "" }])).toBe('{"presence":{"c":{"user":"","client":"c"}}}')
    expect(Json.presenceStatsResult(0, 0)).toBe('{"num_clients":0,"num_users":0}')
    expect(Json.presenceStatsResult(2, 1)).toBe('{"num_clients":2,"num_users":1}')
  })
})

describe("Json.error", () => {
  it("says temporary only where it is", () => {
    expect(Json.error(1, Codes.internal)).toBe(
      '{"id":1,"error":{"code":100,"message":"internal server error","temporary":true}}'
    )
    expect(Json.error(4_294_967_295, Codes.badRequest)).toBe(
      '{"id":4294967295,"error":{"code":107,"message":"bad request"}}'
    )
  })

  it("quotes the message of a hook", () => {
    const text = Json.error(1, { code: 400, message: 'no "\n' })
    expect(text).not.toMatch(/[\r\n]/)
    expect(JSON.parse(text)).toEqual({ id: 1, error: { code: 400, message: 'no "\n' } })
  })
})

describe("Json.reply", () => {
  it("embeds the result", () => {
    expect(Json.reply(3, "publish", Json.EMPTY)).toBe('{"id":3,"publish":{}}')
  })
})

describe("Json.object", () => {
  it("leaves out members that are undefined, and keeps the order of the others", () => {
    expect(Json.object({})).toBe("{}")
    expect(Json.object({ a: undefined })).toBe("{}")
    expect(Json.object({ a: undefined, c: "[1]", b: '"x"', d: undefined })).toBe('{"c":[1],"b":"x"}')
  })
})

describe("Json.connectResult", () => {
  const result = { client: "id", version: "0.1.0", ping: 25, node: "n", data: undefined, subs: new Map() }

  it("offers pings, wants pongs, and leaves out data where there is none", () => {
    expect(Json.connectResult(result)).toBe('{"client":"id","version":"0.1.0","ping":25,"pong":true,"node":"n"}')
  })

  it("embeds data on one line", () => {
    expect(JSON.parse(Json.connectResult({ ...result, data: '{"a":\r\n[]}' }))).toMatchObject({ data: { a: [] } })
    expect(Json.connectResult({ ...result, data: "[\n]" })).not.toMatch(/[\r\n]/)
  })

  it("has the results of the subscriptions that the server made, by channel", () => {
    const subs = new Map([
      ["lobby", Json.EMPTY],
      ['a"b', '{"epoch":"e","offset":1}'],
      ["__proto__", '{"epoch":"p"}']
    ])
    expect(Json.connectResult({ ...result, subs })).toBe(
      '{"client":"id","version":"0.1.0","ping":25,"pong":true,"node":"n",' +
        '"subs":{"lobby":{},"a\\"b":{"epoch":"e","offset":1},"__proto__":{"epoch":"p"}}}'
    )
  })
})
