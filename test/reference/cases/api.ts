/** Requests to the server API: every method, with fields that are right, missing, null, empty or wrong. */
import {
  API_KEY,
  call,
  type Case,
  closed,
  command,
  connect,
  filled,
  make,
  on,
  type Profile,
  pushes,
  send,
  type Step
} from "../Case.ts"
import { inSeconds } from "../../support/tokens.ts"
import { tokenOf } from "./tokens.ts"

const ABOUT_USERS = new Set(["subscribe", "unsubscribe", "disconnect", "refresh"])

/** A body in which `@` stands for what no other case has. */
const body = (
  name: string,
  method: string,
  json: string,
  before: (own: string) => ReadonlyArray<Step> = () => []
): Case =>
  make(`api ${method}: ${name}`, (own) => [...before(own), call(method, json.replaceAll("@", own))], {
    // Where there are no anonymous clients: the reference server takes them all for those of the user "".
    profile: ABOUT_USERS.has(method) ? "strict" : "open"
  })

const bodies = (
  method: string,
  list: ReadonlyArray<string>,
  before?: (own: string) => ReadonlyArray<Step>
): ReadonlyArray<Case> =>
  list.map((json) => body(json.replaceAll("{{epoch}}", "right").slice(0, 120), method, json, before))

/** A body with one more field, of each of these values. */
const fields = (
  method: string,
  rest: string,
  name: string,
  values: ReadonlyArray<string>,
  before?: (own: string) => ReadonlyArray<Step>
): ReadonlyArray<Case> =>
  values.map((value) =>
    body(`${name} ${value}`, method, `{${rest}${rest === "" ? "" : ","}"${name}":${value}}`, before)
  )

const CHANNELS = [
  "null",
  '""',
  "7",
  '"nowhere:@"',
  '"kept:@ x"',
  '"kept:@ü"',
  '"kept:"',
  '"$kept:@"',
  '"kept:@#42"',
  '"@"'
]
/** Of these, what every method is asked. */
const COMMON = 4

const TEXTS = ["null", '""', "7"]
const FLAGS = ["null", "true", '"true"']

const METHODS = [
  "publish",
  "broadcast",
  "subscribe",
  "unsubscribe",
  "disconnect",
  "refresh",
  "presence",
  "presence_stats",
  "history",
  "history_remove",
  "channels",
  "info",
  "rpc",
  "batch"
]

const publishing: ReadonlyArray<Case> = [
  ...fields("publish", '"data":1', "channel", CHANNELS),
  body("no channel", "publish", '{"data":1}'),
  body("no data", "publish", '{"channel":"kept:@"}'),
  ...fields("publish", '"channel":"kept:@"', "data", ["null", "0", '""', "false", "[]", "{}", '"text"', '{ "a" : 1 }']),
  ...fields("publish", '"channel":"kept:@","data":1', "skip_history", FLAGS),
  ...fields("publish", '"channel":"kept:@","data":1', "tags", [
    "null",
    "{}",
    '{"a":"b"}',
    '{"a":1}',
    '{"a":null}',
    "[]",
    '"a"'
  ]),
  ...fields("publish", '"channel":"kept:@","data":1', "idempotency_key", [...TEXTS, '"@"']),
  ...fields("publish", '"channel":"kept:@","data":1', "delta", FLAGS),
  ...fields("publish", '"channel":"kept:@","data":1', "version", ["null", "0", "1", '"1"', "-1"]),
  ...fields("publish", '"channel":"kept:@","data":1', "version_epoch", TEXTS),
  ...fields("publish", '"channel":"kept:@","data":1', "type", ["null", "0", "1", '"x"']),
  ...fields("publish", '"channel":"kept:@"', "b64data", ["null", '""', '"MQ=="', '"%"', "7"]),
  body("data and b64data", "publish", '{"channel":"kept:@","data":1,"b64data":"Mg=="}'),
  body("an unknown field", "publish", '{"channel":"kept:@","data":1,"nope":1}'),
  body("without a namespace's history", "publish", '{"channel":"fast:@","data":1}'),
  make("api publish: one idempotency_key twice", (own) => [
    call("publish", { channel: `kept:${own}`, data: 1, idempotency_key: own }),
    call("publish", { channel: `kept:${own}`, data: 2, idempotency_key: own }),
    call("history", { channel: `kept:${own}`, limit: -1 })
  ]),
  make("api publish: an empty idempotency_key twice", (own) => [
    call("publish", { channel: `kept:${own}`, data: 1, idempotency_key: "" }),
    call("publish", { channel: `kept:${own}`, data: 2, idempotency_key: "" }),
    call("history", { channel: `kept:${own}`, limit: -1 })
  ]),
  make("api publish: data with CR and LF", (own) => [
    connect(),
    send(command(2, "subscribe", { channel: `fast:${own}` })),
    call("publish", `{"channel":"fast:${own}","data":{\r\n"a":\n1}}`),
    pushes(1)
  ]),
  make("api publish: data and tags reach a subscriber", (own) => [
    connect(),
    send(command(2, "subscribe", { channel: `kept:${own}` })),
    call("publish", { channel: `kept:${own}`, data: { a: null }, tags: { lang: "en" } }),
    pushes(1)
  ])
]

const broadcasting: ReadonlyArray<Case> = [
  ...fields("broadcast", '"data":1', "channels", [
    "null",
    "[]",
    '["kept:@"]',
    '["fast:@","nowhere:@"]',
    '[""]',
    "[null]",
    "[7]",
    '"kept:@"',
    "{}"
  ]),
  body("no channels", "broadcast", '{"data":1}'),
  body("no data", "broadcast", '{"channels":["kept:@"]}'),
  ...fields("broadcast", '"channels":["kept:@"]', "data", ["null", "0", '""']),
  ...fields("broadcast", '"channels":["kept:@"],"data":1', "skip_history", FLAGS),
  ...fields("broadcast", '"channels":["kept:@"],"data":1', "tags", ["null", "{}", '{"a":1}']),
  ...fields("broadcast", '"channels":["kept:@"],"data":1', "idempotency_key", [...TEXTS, '"@"']),
  ...fields("broadcast", '"channels":["kept:@"],"data":1', "version", ["null", "0", "1"]),
  ...fields("broadcast", '"channels":["kept:@"]', "b64data", ["null", '""', '"MQ=="'])
]

const SINCE = [
  "null",
  "{}",
  '{"offset":1}',
  '{"offset":1,"epoch":"{{epoch}}"}',
  '{"offset":1,"epoch":"another"}',
  '{"offset":null,"epoch":null}',
  '{"offset":-1}',
  '{"offset":"1"}',
  '{"offset":9,"epoch":"{{epoch}}"}',
  "[]",
  "7"
]

const three = (own: string): ReadonlyArray<Step> => [filled(`kept:${own}`, 3)]

const reading: ReadonlyArray<Case> = [
  ...fields("history", "", "channel", CHANNELS),
  ...bodies("history", ["{}", '{"channel":"fast:@"}', '{"channel":"kept:@"}', '{"channel":"kept:@","limit":-1}']),
  ...fields(
    "history",
    '"channel":"kept:@"',
    "limit",
    ["null", "0", "1", "-1", "-5", "1.5", '"1"', "2147483648", "true"],
    three
  ),
  ...fields("history", '"channel":"kept:@","limit":-1', "reverse", FLAGS, three),
  ...fields("history", '"channel":"kept:@","limit":-1', "since", SINCE, three),
  ...fields("history_remove", "", "channel", CHANNELS.slice(0, COMMON)),
  ...bodies("history_remove", ["{}", '{"channel":"fast:@"}', '{"channel":"kept:@"}'], three),
  make("api history_remove: what is left", (own) => [
    filled(`kept:${own}`, 3),
    call("history_remove", { channel: `kept:${own}` }),
    call("history", { channel: `kept:${own}`, limit: -1 }),
    call("publish", { channel: `kept:${own}`, data: 4 }),
    call("history", { channel: `kept:${own}`, limit: -1 })
  ]),
  ...["presence", "presence_stats"].flatMap((method) => [
    ...fields(method, "", "channel", CHANNELS.slice(0, COMMON)),
    ...bodies(method, ["{}", '{"channel":"fast:@"}', '{"channel":"seen:@"}']),
    make(`api ${method}: two of one user, and an anonymous one`, (own) => [
      connect({ token: tokenOf(own, { info: { name: "Ann" } }) }),
      connect({ token: tokenOf(own) }, "b"),
      connect({}, "c"),
      ...["a", "b", "c"].map((socket) => on(socket, command(2, "subscribe", { channel: `shy:${own}` }))),
      call(method, { channel: `shy:${own}` })
    ])
  ]),
  ...bodies("channels", [
    "{}",
    '{"pattern":null}',
    '{"pattern":"@*"}',
    '{"pattern":7}',
    '{"pattern":"nowhere:@*"}'
  ]).filter(
    // Those of other cases are there, too.
    ({ name }) => !/: (\{\}|\{"pattern":null\})$/.test(name)
  ),
  make("api channels: with subscribers", (own) => [
    connect(),
    send(command(2, "subscribe", { channel: `fast:${own}` }), command(3, "subscribe", { channel: `kept:${own}:x` })),
    connect({}, "b"),
    on("b", command(2, "subscribe", { channel: `fast:${own}` })),
    call("channels", { pattern: `*${own}*` }),
    call("channels", { pattern: `fast:${own}` })
  ]),
  ...fields("rpc", "", "method", [...TEXTS, '"sum"']),
  ...bodies("rpc", ["{}", '{"method":"sum","data":null}', '{"method":"sum","data":1}'])
]

/** A connection that is asked about, subscribed to a channel. */
const present = (own: string): ReadonlyArray<Step> => [
  connect({ token: tokenOf(own, { exp: inSeconds(3600) }) }),
  send(command(2, "subscribe", { channel: `kept:${own}` }))
]

const then = (
  name: string,
  method: string,
  fields: (own: string) => object,
  ...steps: ReadonlyArray<(own: string) => Step>
): Case =>
  make(`api ${method}: ${name}`, (own) => [
    ...present(own),
    call(method, fields(own)),
    ...steps.map((step) => step(own))
  ])

const one = () => pushes(1)
const end = () => closed()
const stats = (own: string) => send(command(3, "presence_stats", { channel: `seen:${own}` }))

const people: ReadonlyArray<Case> = [
  ...["subscribe", "unsubscribe"].flatMap((method) => [
    ...fields(method, '"user":"@"', "channel", method === "subscribe" ? CHANNELS : CHANNELS.slice(0, COMMON)),
    ...fields(method, '"channel":"fast:@"', "user", TEXTS),
    ...bodies(method, ["{}", '{"user":"@"}', '{"channel":"fast:@"}', '{"user":"@","channel":"fast:@"}']),
    ...fields(method, '"user":"@","channel":"fast:@"', "client", [...TEXTS, '"nobody"']),
    ...fields(method, '"user":"@","channel":"fast:@"', "session", [...TEXTS, '"nobody"'])
  ]),
  ...fields("subscribe", '"user":"@","channel":"fast:@"', "expire_at", [
    "null",
    "0",
    "1",
    "-1",
    "1.5",
    '"1"',
    "4102444800"
  ]),
  ...fields("subscribe", '"user":"@","channel":"fast:@"', "info", ["null", "{}", "1", '"x"']),
  ...fields("subscribe", '"user":"@","channel":"fast:@"', "data", ["null", "{}", "1"]),
  ...fields("subscribe", '"user":"@","channel":"fast:@"', "b64info", ["null", '""', '"MQ=="', '"%"']),
  ...fields("subscribe", '"user":"@","channel":"fast:@"', "recover_since", ["null", "{}", '{"offset":1,"epoch":"x"}']),
  ...fields("subscribe", '"user":"@","channel":"fast:@"', "override", ["null", "{}", '{"presence":{"value":true}}']),
  ...["disconnect", "refresh"].flatMap((method) => [
    ...fields(method, "", "user", TEXTS),
    ...bodies(method, ["{}", '{"user":"@"}']),
    ...fields(method, '"user":"@"', "client", [...TEXTS, '"nobody"'])
  ]),
  ...fields("disconnect", '"user":"@"', "whitelist", ["null", "[]", '["x"]', "[null]", '"x"', "[7]"]),
  ...fields("disconnect", '"user":"@"', "disconnect", [
    "null",
    "{}",
    '{"code":4000}',
    '{"code":4000,"reason":null}',
    '{"code":null,"reason":"x"}',
    '{"code":0,"reason":"x"}',
    '{"code":1000,"reason":"x"}',
    '{"code":5000,"reason":"x"}',
    '{"code":-1}',
    '{"code":"4000"}',
    '{"reason":"x"}',
    "7"
  ]),
  ...fields("refresh", '"user":"@"', "expired", FLAGS),
  ...fields("refresh", '"user":"@"', "expire_at", [
    "null",
    "0",
    "1",
    "-1",
    "1.5",
    '"1"',
    "4102444800",
    "4102444800000"
  ]),
  then(
    "the client is told, and is subscribed",
    "subscribe",
    (own) => ({ user: own, channel: `fast:${own}`, data: { a: 1 } }),
    one,
    (own) => send(command(3, "publish", { channel: `fast:${own}`, data: 1 })),
    () => pushes(2)
  ),
  then("in a channel with history", "subscribe", (own) => ({ user: own, channel: `asked:${own}` }), one),
  then("to what it has subscribed to itself", "subscribe", (own) => ({ user: own, channel: `kept:${own}` }), stats),
  then("that expires", "subscribe", (own) => ({ user: own, channel: `fast:${own}`, expire_at: inSeconds(3600) }), one),
  then(
    "that expires in 100 years",
    "subscribe",
    (own) => ({ user: own, channel: `fast:${own}`, expire_at: inSeconds(100 * 365 * 86400) }),
    one
  ),
  then("that has expired", "subscribe", (own) => ({ user: own, channel: `fast:${own}`, expire_at: 1 }), end),
  then("the client is told", "unsubscribe", (own) => ({ user: own, channel: `kept:${own}` }), one),
  then("from a channel that it is not in", "unsubscribe", (own) => ({ user: own, channel: `fast:${own}` }), stats),
  then("of another client", "unsubscribe", (own) => ({ user: own, channel: `kept:${own}`, client: "nobody" }), stats),
  then("of this client", "unsubscribe", (own) => ({ user: own, channel: `kept:${own}`, client: "{{client a}}" }), one),
  then("its default", "disconnect", (own) => ({ user: own }), end),
  then(
    "a code of one's own",
    "disconnect",
    (own) => ({ user: own, disconnect: { code: 4000, reason: "elsewhere" } }),
    end
  ),
  then("a code without a reason", "disconnect", (own) => ({ user: own, disconnect: { code: 4001 } }), end),
  then("but for this client", "disconnect", (own) => ({ user: own, whitelist: ["{{client a}}"] }), stats),
  then("of another client", "disconnect", (own) => ({ user: own, client: "nobody" }), stats),
  then("of this client", "disconnect", (own) => ({ user: own, client: "{{client a}}" }), end),
  then("as expired", "refresh", (own) => ({ user: own, expired: true }), end),
  then("to expire later", "refresh", (own) => ({ user: own, expire_at: inSeconds(7200) }), one),
  then("to expire in 100 years", "refresh", (own) => ({ user: own, expire_at: inSeconds(100 * 365 * 86400) }), one),
  then("never to expire", "refresh", (own) => ({ user: own }), stats),
  then("to have expired", "refresh", (own) => ({ user: own, expire_at: 1 }), end)
]

const batching: ReadonlyArray<Case> = bodies("batch", [
  "{}",
  '{"commands":null}',
  '{"commands":[]}',
  '{"commands":{}}',
  '{"commands":[{}]}',
  '{"commands":[null]}',
  '{"commands":[7]}',
  '{"commands":[{"publish":{"channel":"kept:@","data":1}}]}',
  '{"commands":[{"publish":{"channel":"kept:@","data":1}},{"history":{"channel":"kept:@","limit":-1}}]}',
  '{"commands":[{"publish":{"channel":"kept:@","data":1}},{"publish":{"channel":"nowhere:@","data":1}}]}',
  '{"commands":[{"publish":{"channel":"kept:@","data":1},"broadcast":null}]}',
  '{"commands":[{"broadcast":null,"publish":{"channel":"kept:@","data":1}}]}',
  '{"commands":[{"publish":null}]}',
  '{"commands":[{"publish":{}}]}',
  '{"commands":[{"publish":7}]}',
  '{"commands":[{"nope":{}}]}',
  '{"commands":[{"nope":{},"publish":{"channel":"kept:@","data":1}}]}',
  '{"commands":[{"publish":{"channel":"kept:@","data":1},"presence_stats":{"channel":"seen:@"}}]}',
  '{"commands":[{"presence":{"channel":"seen:@"}},{"presence_stats":{"channel":"seen:@"}}]}',
  '{"commands":[{"broadcast":{"channels":["fast:@","kept:@"],"data":1}}]}',
  '{"commands":[{"disconnect":{"user":"@"}},{"unsubscribe":{"user":"@","channel":"kept:@"}}]}',
  '{"commands":[{"channels":{"pattern":"@"}}]}',
  '{"commands":[{"rpc":{"method":"sum"}}]}',
  '{"commands":[{"batch":{"commands":[]}}]}',
  '{"commands":[{"presence_stats":{"channel":"seen:@"}}],"parallel":true}',
  '{"commands":[{"presence_stats":{"channel":"seen:@"}}],"parallel":null}',
  '{"commands":[{"presence_stats":{"channel":"seen:@"}}],"parallel":"yes"}'
])

const KEYS: ReadonlyArray<readonly [name: string, headers: Record<string, string>, profile?: Profile]> = [
  ["none", {}],
  ["wrong", { "X-API-Key": "wrong" }],
  ["empty", { "X-API-Key": "" }],
  ["in Authorization", { Authorization: `apikey ${API_KEY}` }],
  ["in Authorization, another scheme", { Authorization: `Bearer ${API_KEY}` }]
]

const requests: ReadonlyArray<Case> = [
  ...KEYS.map(([name, headers]) =>
    make(`api key: ${name}`, (own) => [call("publish", { channel: `fast:${own}`, data: 1 }, headers)])
  ),
  ...METHODS.flatMap((method) =>
    // With `null` as its body, `channels` and `info` tell of all cases.
    [
      ...(method === "publish" || method === "batch" ? ["[]"] : []),
      ...(["channels", "info"].includes(method) ? [] : ["null"]),
      ...(method === "publish" ? ["", "nonsense"] : [])
    ].map((text) => body(`body ${text || "empty"}`, method, text))
  ),
  body("an unknown method", "nope", "{}"),
  make("api publish: of another content type", (own) => [
    call("publish", { channel: `fast:${own}`, data: 1 }, { "X-API-Key": API_KEY, "Content-Type": "text/plain" })
  ])
]

export const api: ReadonlyArray<Case> = [
  ...publishing,
  ...broadcasting,
  ...reading,
  ...people,
  ...batching,
  ...requests
]
