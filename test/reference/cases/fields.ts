/** Commands, each with fields that are right, missing, null, zero, huge, or of a wrong type. */
import { type Case, command, connect, filled, make, send } from "../Case.ts"

/** Names of channels; `undefined` leaves the field out. */
const CHANNELS: ReadonlyArray<readonly [name: string, channel: (own: string) => unknown]> = [
  ["missing", () => undefined],
  ["null", () => null],
  ["empty", () => ""],
  ["a number", () => 7],
  ["an object", () => ({})],
  ["a list", () => ["kept:x"]],
  ["true", () => true],
  ["of an unknown namespace", (own) => `nowhere:${own}`],
  ["without a namespace", (own) => own],
  ["255 long", (own) => `kept:${own}`.padEnd(255, "x")],
  ["256 long", (own) => `kept:${own}`.padEnd(256, "x")],
  ["with a control character", (own) => `kept:${own}\u0001`],
  ["not ASCII", (own) => `kept:${own}ü`],
  ["with a space", (own) => `kept:${own} x`],
  ["a colon first", (own) => `:${own}`],
  ["a namespace alone", () => "kept:"],
  ["two colons", (own) => `kept:${own}:x`],
  ["a dollar first", (own) => `$kept:${own}`],
  ["a user behind #", (own) => `kept:${own}#42`]
]

const ON_CHANNELS: ReadonlyArray<readonly [method: string, fields: object]> = [
  ["subscribe", {}],
  ["unsubscribe", {}],
  ["publish", { data: 1 }],
  ["presence", {}],
  ["presence_stats", {}],
  ["history", {}],
  ["sub_refresh", { token: "x" }]
]

/** Of these, what every command is asked. */
const COMMON = 4

const named = ON_CHANNELS.flatMap(([method, fields]) =>
  CHANNELS.slice(0, ["subscribe", "publish", "history"].includes(method) ? CHANNELS.length : COMMON).map(
    ([name, channel]) =>
      make(`${method}: channel ${name}`, (own) => [
        connect(),
        send(command(2, method, { channel: channel(own), ...fields }))
      ])
  )
)

/** Values of a field as JSON text. */
const field = (method: string, fields: string, name: string, values: ReadonlyArray<string>): ReadonlyArray<Case> =>
  values.map((value) =>
    make(`${method}: ${name} ${value.length > 60 ? `of ${value.length} bytes` : value}`, (own) => [
      connect(),
      send(`{"id":2,"${method}":{${fields.replaceAll("@", own)}${fields === "" ? "" : ","}"${name}":${value}}}`)
    ])
  )

const FLAGS = ["null", "true", '"true"', "1"]
const NUMBERS = ["null", "0", "-1", "1.5", '"1"', "true", "1e2", "4294967295", "4294967296", "9223372036854775807"]
const TEXTS = ["null", '""', "7", "[]"]
const ANY = [
  "null",
  "0",
  '""',
  "false",
  "[]",
  "{}",
  '"text"',
  '{ "a" : [ 1 , 2 ] }',
  `${"[".repeat(300)}${"]".repeat(300)}`
]

/** `connect` with a field, as the first command. */
const connecting = (name: string, values: ReadonlyArray<string>, isDeadly = false): ReadonlyArray<Case> =>
  values.map((value) =>
    make(`connect: ${name} ${value}`, () => [send(`{"id":1,"connect":{"${name}":${value}}}`)], { isDeadly })
  )

const connects: ReadonlyArray<Case> = [
  ...connecting("token", TEXTS),
  ...connecting("data", ["null", "0", '"text"', "{}", "[]"]),
  ...connecting("name", ["null", '"js"', "7", "{}"]),
  ...connecting("version", ["null", '"1"', "7", "[]"]),
  ...connecting("headers", ["null", "{}", '{"a":"b"}', '{"a":1}', '{"a":null}', "[]", '"text"']),
  ...connecting("subs", ["null", "{}", '{"kept:x":{}}', "[]", '"text"', "7"]),
  ...connecting("subs", [
    '{"kept:x":{"recover":"yes"}}',
    '{"kept:x":{"offset":-1}}',
    '{"kept:x":{"epoch":7}}',
    '{"kept:x":7}'
  ]),
  ...connecting("subs", ['{"kept:x":null}'], true),
  ...connecting("flag", ["null", "0", "1", '"x"'])
]

const subscribes: ReadonlyArray<Case> = [
  ...["recover", "positioned", "recoverable", "join_leave"].flatMap((name) =>
    field("subscribe", '"channel":"asked:@"', name, FLAGS)
  ),
  ...["join_leave", "positioned", "recoverable"].flatMap((name) =>
    field("subscribe", '"channel":"fast:@"', name, ["true"]).map((one) => ({ ...one, name: `${one.name}, not kept` }))
  ),
  ...field("subscribe", '"channel":"asked:@","recover":true', "offset", NUMBERS),
  ...field("subscribe", '"channel":"asked:@","recover":true', "epoch", TEXTS),
  ...field("subscribe", '"channel":"fast:@"', "flag", NUMBERS),
  ...field("subscribe", '"channel":"fast:@"', "type", ["null", "0", "1", "2", "-1", '"1"']),
  ...field("subscribe", '"channel":"fast:@"', "tf", ["null", "{}", '{"op":"eq","key":"a","val":"b"}', "7"]),
  ...field("subscribe", '"channel":"fast:@"', "delta", ["null", '""', '"fossil"', '"nope"', "7"]),
  ...field("subscribe", '"channel":"fast:@"', "data", ["null", "{}"]),
  ...field("subscribe", '"channel":"fast:@"', "token", TEXTS)
]

const publishes: ReadonlyArray<Case> = [
  ...field("publish", '"channel":"kept:@"', "data", ANY),
  make("publish: no data", (own) => [connect(), send(command(2, "publish", { channel: `kept:${own}` }))]),
  make(
    "publish: data is relayed as the text that came",
    (own) => [
      connect(),
      send(command(2, "subscribe", { channel: `fast:${own}` })),
      ...["12345678901234567890", "1.0", "1e400", '{"b":1,"a":2}', '{"a":1,"a":2}', '"\\u00e9\\/"'].map((data, index) =>
        send(`{"id":${index + 3},"publish":{"channel":"fast:${own}","data":${data}}}`)
      ),
      { do: "pushes", socket: "a", count: 6 }
    ],
    { isRaw: true }
  )
]

const histories: ReadonlyArray<Case> = [
  ...field("history", '"channel":"kept:@"', "limit", [...NUMBERS, "2147483647", "2147483648", "-2147483649"]),
  ...field("history", '"channel":"kept:@"', "reverse", FLAGS),
  ...field("history", '"channel":"kept:@"', "since", [
    "null",
    "{}",
    "[]",
    "7",
    '"x"',
    '{"offset":null}',
    '{"epoch":null}'
  ])
]

const others: ReadonlyArray<Case> = [
  ...field("rpc", "", "method", [...TEXTS, '"sum"']),
  ...field("rpc", '"method":"sum"', "data", ["null", "{}"]),
  ...field("send", "", "data", ["null", "1", "{}"]),
  ...field("refresh", "", "token", [...TEXTS, '"nonsense"']),
  ...field("sub_refresh", '"channel":"fast:@"', "token", [...TEXTS, '"nonsense"']),
  make("refresh: no token", () => [connect(), send(command(2, "refresh"))]),
  make("rpc: no method", () => [connect(), send(command(2, "rpc"))]),
  make("ping: with fields", () => [connect(), send('{"id":2,"ping":{"a":1}}')]),
  make("send: without an id", () => [connect(), send('{"send":{"data":1}}')]),
  make("sub_refresh: subscribed without a token, a bad one", (own) => [
    connect(),
    send(command(2, "subscribe", { channel: `fast:${own}` })),
    send(command(3, "sub_refresh", { channel: `fast:${own}`, token: "nonsense" }))
  ]),
  make("unsubscribe: what was subscribed, twice", (own) => [
    connect(),
    send(command(2, "subscribe", { channel: `fast:${own}` })),
    send(command(3, "unsubscribe", { channel: `fast:${own}` })),
    send(command(4, "unsubscribe", { channel: `fast:${own}` }))
  ]),
  make("subscribe: twice", (own) => [
    connect(),
    send(command(2, "subscribe", { channel: `fast:${own}` })),
    send(command(3, "subscribe", { channel: `fast:${own}` }))
  ]),
  make("subscribe: again after unsubscribe", (own) => [
    connect(),
    send(command(2, "subscribe", { channel: `kept:${own}` })),
    send(command(3, "unsubscribe", { channel: `kept:${own}` })),
    send(command(4, "subscribe", { channel: `kept:${own}` }))
  ])
]

/** Namespaces that permit little, and the same commands in each. */
const permissions: ReadonlyArray<Case> = ["kept", "shy", "closed", "read", "member"].flatMap((namespace) =>
  ON_CHANNELS.map(([method, fields]) =>
    make(`${method}: anonymous, in ${namespace}`, (own) => [
      filled(`${namespace}:${own}`, 1),
      connect(),
      send(command(2, method, { channel: `${namespace}:${own}`, ...fields }))
    ])
  )
)

export const fields: ReadonlyArray<Case> = [
  ...named,
  ...connects,
  ...subscribes,
  ...publishes,
  ...histories,
  ...others,
  ...permissions
]
