/** Tokens of a connection and of a subscription: what they may say, and how they may be wrong. */
import { createHmac } from "node:crypto"
import { inSeconds, KEY } from "../../support/tokens.ts"
import { type Case, closed, command, connect, filled, make, on, type Profile, send } from "../Case.ts"

const encode = (value: object | string): string =>
  Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url")

interface Made {
  readonly key?: string
  readonly header?: object | string
  readonly hash?: string
}

/** A token of these claims, an object or JSON text. */
const jwt = (claims: object | string, { hash = "sha256", header, key = KEY }: Made = {}): string => {
  const signed = `${encode(header ?? { alg: "HS256", typ: "JWT" })}.${encode(claims)}`
  return `${signed}.${createHmac(hash, key).update(signed).digest("base64url")}`
}

const PAST = -3600
const AHEAD = 3600
const MILLIS = 1000

/** Claims of a user whose name is not that of another case. */
type Claims = (user: string) => object | string

/** A claim beside the user. */
const claim =
  (name: string, json: string): Claims =>
  (user) =>
    `{"sub":"${user}","${name}":${json}}`

const at = (name: string, after: number, factor = 1): Claims => claim(name, String(inSeconds(after) * factor))

/** Claims that every token may have; the name of a case, and what is behind `sub`. */
const CLAIMS: ReadonlyArray<readonly [name: string, claims: Claims]> = [
  ["sub alone", (sub) => ({ sub })],
  ["no claims", () => ({})],
  ["sub empty", () => ({ sub: "" })],
  ["sub null", () => ({ sub: null })],
  ["sub a number", () => ({ sub: 42 })],
  ["sub a list", () => ({ sub: ["42"] })],
  ["exp ahead", (user) => at("exp", AHEAD)(user)],
  ["exp past", (user) => at("exp", PAST)(user)],
  ["exp past by a second", (user) => at("exp", -1)(user)],
  ["exp null", claim("exp", "null")],
  ["exp 0", claim("exp", "0")],
  ["exp negative", claim("exp", "-1")],
  ["exp a text", (user) => claim("exp", `"${inSeconds(AHEAD)}"`)(user)],
  ["exp a text that is no number", claim("exp", '"soon"')],
  ["exp true", claim("exp", "true")],
  ["exp with a fraction", (user) => claim("exp", `${inSeconds(AHEAD)}.5`)(user)],
  ["exp with an exponent", (user) => claim("exp", `${(inSeconds(AHEAD) / 1e9).toFixed(9)}e9`)(user)],
  ["exp in milliseconds", (user) => at("exp", AHEAD, MILLIS)(user)],
  ["exp in 100 years", (user) => at("exp", 100 * 365 * 86400)(user)],
  ["exp above 53 bits", claim("exp", "9223372036854775807")],
  ["exp 1e400", claim("exp", "1e400")],
  ["nbf past", (user) => at("nbf", PAST)(user)],
  ["nbf ahead", (user) => at("nbf", AHEAD)(user)],
  ["nbf null", claim("nbf", "null")],
  ["nbf a text", claim("nbf", '"1"')],
  ["nbf 0", claim("nbf", "0")],
  ["iat past", (user) => at("iat", PAST)(user)],
  ["iat ahead", (user) => at("iat", AHEAD)(user)],
  ["iat null", claim("iat", "null")],
  ["iat a text", claim("iat", '"1"')],
  ["info", claim("info", '{"name":"Ann"}')],
  ["info null", claim("info", "null")],
  ["info a text", claim("info", '"Ann"')],
  ["info a number", claim("info", "7")],
  ["jti", claim("jti", '"1"')],
  ["jti a number", claim("jti", "1")],
  ["aud where none is asked for", claim("aud", '"them"')],
  ["iss where none is asked for", claim("iss", '"us"')],
  ["aud null", claim("aud", "null")],
  ["aud a number", claim("aud", "7")],
  ["iss null", claim("iss", "null")],
  ["an unknown claim", claim("nope", '{"a":1}')],
  ["a claim twice", (user) => `{"sub":"x","sub":"${user}"}`],
  ["expire_at ahead", (user) => at("expire_at", AHEAD)(user)],
  ["expire_at null", claim("expire_at", "null")],
  ["expire_at 0 beside exp", (user) => `{"sub":"${user}","exp":${inSeconds(AHEAD)},"expire_at":0}`],
  ["meta", claim("meta", '{"a":1}')],
  ["b64info", claim("b64info", `"${Buffer.from('{"name":"Ann"}').toString("base64")}"`)]
]

/** Claims of a connection's token alone. */
const CONNECTION: ReadonlyArray<readonly [name: string, claims: Claims]> = [
  ["channels null", claim("channels", "null")],
  ["channels empty", claim("channels", "[]")],
  ["channels a text", claim("channels", '"x"')],
  ["channels of numbers", claim("channels", "[7]")],
  ["channels of null", claim("channels", "[null]")],
  ["channels of an empty name", claim("channels", '[""]')],
  ["channels, one", (user) => ({ sub: user, channels: [`kept:${user}`] })],
  ["channels, one twice", (user) => ({ sub: user, channels: [`fast:${user}`, `fast:${user}`] })],
  ["channels of an unknown namespace", (user) => ({ sub: user, channels: [`nowhere:${user}`] })],
  ["channels of a closed namespace", (user) => ({ sub: user, channels: [`closed:${user}`] })],
  ["subs null", claim("subs", "null")],
  ["subs empty", claim("subs", "{}")],
  ["subs a list", claim("subs", "[]")],
  ["subs, one", (user) => ({ sub: user, subs: { [`kept:${user}`]: {} } })],
  ["subs, one null", (user) => ({ sub: user, subs: { [`kept:${user}`]: null } })],
  ["subs, one a number", (user) => ({ sub: user, subs: { [`kept:${user}`]: 7 } })],
  [
    "subs with data and info",
    (user) => ({ sub: user, subs: { [`seen:${user}`]: { data: { a: 1 }, info: { b: 2 } } } })
  ],
  ["subs with data and info null", (user) => ({ sub: user, subs: { [`seen:${user}`]: { data: null, info: null } } })],
  [
    "subs with override",
    (user) => ({ sub: user, subs: { [`fast:${user}`]: { override: { presence: { value: true } } } } })
  ],
  ["channels and subs", (user) => ({ sub: user, channels: [`fast:${user}`], subs: { [`kept:${user}`]: {} } })],
  ["channel, as a subscription's", (user) => ({ sub: user, channel: "fast:x" })],
  ["channel null", claim("channel", "null")],
  ["channel empty", claim("channel", '""')]
]

/** Tokens that are wrong as such, for any claims. */
const FORMS: ReadonlyArray<readonly [name: string, token: (claims: object) => string]> = [
  ["of another key", (claims) => jwt(claims, { key: "another key, of 32 bytes or some more" })],
  ["alg none", (claims) => `${encode({ alg: "none", typ: "JWT" })}.${encode(claims)}.`],
  ["alg none, signed", (claims) => jwt(claims, { header: { alg: "none", typ: "JWT" } })],
  ["alg HS384", (claims) => jwt(claims, { header: { alg: "HS384", typ: "JWT" }, hash: "sha384" })],
  ["alg HS512", (claims) => jwt(claims, { header: { alg: "HS512", typ: "JWT" }, hash: "sha512" })],
  ["alg HS384, signed as HS256", (claims) => jwt(claims, { header: { alg: "HS384", typ: "JWT" } })],
  ["alg RS256, signed as HS256", (claims) => jwt(claims, { header: { alg: "RS256", typ: "JWT" } })],
  ["alg hs256", (claims) => jwt(claims, { header: { alg: "hs256", typ: "JWT" } })],
  ["no alg", (claims) => jwt(claims, { header: { typ: "JWT" } })],
  ["no typ", (claims) => jwt(claims, { header: { alg: "HS256" } })],
  ["typ another", (claims) => jwt(claims, { header: { alg: "HS256", typ: "at+jwt" } })],
  ["a kid", (claims) => jwt(claims, { header: { alg: "HS256", typ: "JWT", kid: "1" } })],
  ["a critical extension", (claims) => jwt(claims, { header: { alg: "HS256", crit: ["b64"], b64: true } })],
  ["a header that is no JSON", (claims) => jwt(claims, { header: "nonsense" })],
  ["without a signature", (claims) => jwt(claims).split(".").slice(0, 2).join(".")],
  ["with an empty signature", (claims) => `${jwt(claims).split(".").slice(0, 2).join(".")}.`],
  ["with white space behind", (claims) => `${jwt(claims)} `],
  ["padded", (claims) => `${jwt(claims)}=`],
  ["with other claims than were signed", (claims) => jwt(claims).replace(/\.[^.]*\./, `.${encode({ sub: "root" })}.`)],
  ["one part", () => "nonsense"],
  ["three parts of nothing", () => ".."],
  ["claims that are no JSON", () => jwt("nonsense")],
  ["claims that are a list", () => jwt("[]")],
  ["claims that are null", () => jwt("null")]
]

/** Who it is then, as others see it. */
const seen = (own: string): ReadonlyArray<ReturnType<typeof send>> => [
  send(command(2, "subscribe", { channel: `seen:${own}` })),
  send(command(3, "presence", { channel: `seen:${own}` }))
]

const connecting = (name: string, token: (own: string) => string, profile: Profile = "open"): Case =>
  make(
    `token: ${name}${profile === "open" ? "" : `, ${profile}`}`,
    (own) => [connect({ token: token(own) }), ...seen(own)],
    {
      profile
    }
  )

const NARROW: ReadonlyArray<readonly [name: string, claims: object]> = [
  ["aud and iss", { aud: "them", iss: "us" }],
  ["aud in a list", { aud: ["others", "them"], iss: "us" }],
  ["aud in a list of one", { aud: ["them"], iss: "us" }],
  ["aud an empty list", { aud: [], iss: "us" }],
  ["no aud", { iss: "us" }],
  ["aud null", { aud: null, iss: "us" }],
  ["another aud", { aud: "others", iss: "us" }],
  ["no iss", { aud: "them" }],
  ["iss null", { aud: "them", iss: null }],
  ["another iss", { aud: "them", iss: "others" }]
]

const connections: ReadonlyArray<Case> = [
  ...[...CLAIMS, ...CONNECTION].map(([name, claims]) => connecting(name, (own) => jwt(claims(own)))),
  ...FORMS.map(([name, token]) => connecting(name, (own) => token({ sub: own }))),
  ...NARROW.map(([name, claims]) => connecting(name, (own) => jwt({ sub: own, ...claims }), "narrow")),
  connecting("sub alone", (own) => jwt({ sub: own }), "strict"),
  connecting("of another key", (own) => jwt({ sub: own }, { key: "another key, of 32 bytes or some more" }), "strict"),
  connecting("exp past", (own) => jwt({ sub: own, exp: inSeconds(PAST) }), "strict"),
  make("token: none, strict", (own) => [connect(), ...seen(own)], { profile: "strict" }),
  make("token: empty, strict", (own) => [connect({ token: "" }), ...seen(own)], { profile: "strict" }),
  make("token: null, strict", (own) => [connect({ token: null }), ...seen(own)], { profile: "strict" }),
  make(
    "token: none, and a subscribe in the same frame, strict",
    (own) => [send(command(1, "connect"), command(2, "subscribe", { channel: `fast:${own}` }))],
    { profile: "strict" }
  ),
  make("token: expired, and a subscribe in the same frame", (own) => [
    send(
      command(1, "connect", { token: jwt({ sub: own, exp: inSeconds(PAST) }) }),
      command(2, "subscribe", { channel: `fast:${own}` })
    )
  ]),
  make("token: expired, and nobody leaves", (own) => [
    connect({ token: jwt({ sub: own, exp: inSeconds(PAST) }) }),
    closed()
  ])
]

const subscribing = (name: string, token: (own: string, channel: string) => string, namespace = "closed"): Case =>
  make(`subscription token: ${name}${namespace === "closed" ? "" : `, in ${namespace}`}`, (own) => [
    connect({ token: jwt({ sub: own }) }),
    send(command(2, "subscribe", { channel: `${namespace}:${own}`, token: token(own, `${namespace}:${own}`) }))
  ])

const withChannel = (claims: object | string, channel: string): object | string =>
  typeof claims === "string" ? claims.replace(/^\{/, `{"channel":"${channel}",`) : { channel, ...claims }

const subscriptions: ReadonlyArray<Case> = [
  ...CLAIMS.filter(([name]) => !/^(iat|jti|an unknown|a claim|iss|aud)/.test(name)).map(([name, claims]) =>
    subscribing(name, (own, channel) => jwt(withChannel(claims(own), channel)))
  ),
  ...FORMS.slice(0, 8).map(([name, token]) => subscribing(name, (own, channel) => token({ sub: own, channel }))),
  subscribing("no channel", (own) => jwt({ sub: own })),
  subscribing("channel null", (own) => jwt({ sub: own, channel: null })),
  subscribing("channel a number", (own) => jwt({ sub: own, channel: 7 })),
  subscribing("channel empty", (own) => jwt({ sub: own, channel: "" })),
  subscribing("of another channel", (own) => jwt({ sub: own, channel: "fast:other" })),
  subscribing("of another user", (own, channel) => jwt({ sub: `not ${own}`, channel })),
  subscribing("data", (own, channel) => jwt({ sub: own, channel, data: { a: 1 } })),
  subscribing("override", (own, channel) => jwt({ sub: own, channel, override: { presence: { value: false } } })),
  subscribing(
    "of another key",
    (own, channel) => jwt({ sub: own, channel }, { key: "another key of 32 bytes or more" }),
    "fast"
  ),
  subscribing("of another channel", (own) => jwt({ sub: own, channel: "fast:other" }), "fast"),
  subscribing("exp past", (own, channel) => jwt({ sub: own, channel, exp: inSeconds(PAST) }), "fast"),
  subscribing("of an unknown namespace", (own, channel) => jwt({ sub: own, channel }), "nowhere"),
  make("subscription token: anonymous, without a user", (own) => [
    connect(),
    send(command(2, "subscribe", { channel: `closed:${own}`, token: jwt({ channel: `closed:${own}` }) }))
  ]),
  make("subscription token: anonymous, of a user", (own) => [
    connect(),
    send(command(2, "subscribe", { channel: `closed:${own}`, token: jwt({ sub: own, channel: `closed:${own}` }) }))
  ]),
  make("subscription token: its subscriber in a closed channel", (own) => [
    connect({ token: jwt({ sub: own }) }),
    send(command(2, "subscribe", { channel: `closed:${own}`, token: jwt({ sub: own, channel: `closed:${own}` }) })),
    send(command(3, "publish", { channel: `closed:${own}`, data: 1 })),
    send(command(4, "history", { channel: `closed:${own}` })),
    send(command(5, "presence", { channel: `closed:${own}` }))
  ])
]

const refreshing = (
  name: string,
  token: (own: string) => string,
  connected: (own: string) => object = () => ({})
): Case =>
  make(`refresh: ${name}`, (own) => [
    connect({ token: jwt({ sub: own, ...connected(own) }) }),
    send(command(2, "refresh", { token: token(own) }))
  ])

const expiring = () => ({ exp: inSeconds(AHEAD) })

const refreshes: ReadonlyArray<Case> = [
  refreshing("right", (own) => jwt({ sub: own, exp: inSeconds(AHEAD) }), expiring),
  refreshing("without exp", (own) => jwt({ sub: own }), expiring),
  refreshing("of a connection that does not expire", (own) => jwt({ sub: own, exp: inSeconds(AHEAD) })),
  refreshing("expired", (own) => jwt({ sub: own, exp: inSeconds(PAST) }), expiring),
  refreshing("not valid yet", (own) => jwt({ sub: own, nbf: inSeconds(AHEAD) }), expiring),
  refreshing("of another key", (own) => jwt({ sub: own }, { key: "another key, of 32 bytes or some more" }), expiring),
  refreshing("of another user", (own) => jwt({ sub: `not ${own}` }), expiring),
  refreshing("of a subscription", (own) => jwt({ sub: own, channel: "fast:x" }), expiring),
  refreshing("other channels", (own) => jwt({ sub: own, channels: [`kept:${own}`] }), expiring),
  refreshing("exp in 100 years", (own) => jwt({ sub: own, exp: inSeconds(100 * 365 * 86400) }), expiring),
  refreshing("empty", () => "", expiring)
]

const subRefreshing = (
  name: string,
  token: (own: string, channel: string) => string,
  held: (own: string) => object = expiring
) =>
  make(`sub_refresh: ${name}`, (own) => [
    connect({ token: jwt({ sub: own }) }),
    send(
      command(2, "subscribe", {
        channel: `closed:${own}`,
        token: jwt({ sub: own, channel: `closed:${own}`, ...held(own) })
      })
    ),
    send(command(3, "sub_refresh", { channel: `closed:${own}`, token: token(own, `closed:${own}`) }))
  ])

const subRefreshes: ReadonlyArray<Case> = [
  subRefreshing("right", (own, channel) => jwt({ sub: own, channel, exp: inSeconds(AHEAD) })),
  subRefreshing("without exp", (own, channel) => jwt({ sub: own, channel })),
  subRefreshing(
    "of a subscription that does not expire",
    (own, channel) => jwt({ sub: own, channel, exp: inSeconds(AHEAD) }),
    () => ({})
  ),
  subRefreshing("expired", (own, channel) => jwt({ sub: own, channel, exp: inSeconds(PAST) })),
  subRefreshing("not valid yet", (own, channel) => jwt({ sub: own, channel, nbf: inSeconds(AHEAD) })),
  subRefreshing("of another key", (own, channel) =>
    jwt({ sub: own, channel }, { key: "another key of 32 bytes or more" })
  ),
  subRefreshing("of another user", (own, channel) => jwt({ sub: `not ${own}`, channel })),
  subRefreshing("of another channel", (own) => jwt({ sub: own, channel: "fast:other" })),
  subRefreshing("of a connection", (own) => jwt({ sub: own })),
  subRefreshing("empty", () => ""),
  make("sub_refresh: of a channel that the server has subscribed to", (own) => [
    connect({ token: jwt({ sub: own, channels: [`fast:${own}`] }) }),
    send(command(2, "sub_refresh", { channel: `fast:${own}`, token: jwt({ sub: own, channel: `fast:${own}` }) }))
  ])
]

const narrow = (name: string, steps: Case["steps"]): Case => make(name, steps, { profile: "narrow" })

const user = (own: string, claims: object = {}): object => ({
  token: jwt({ sub: own, aud: "them", iss: "us", ...claims })
})

const ends: ReadonlyArray<Case> = [
  narrow("ends: nothing is sent", () => [{ do: "closed", socket: "a" }]),
  narrow("ends: a connection expires", (own) => [connect(user(own, { exp: inSeconds(2) })), closed()]),
  narrow("ends: a subscription expires", (own) => [
    connect(user(own)),
    send(
      command(2, "subscribe", {
        channel: `fast:${own}`,
        token: jwt({ sub: own, aud: "them", iss: "us", channel: `fast:${own}`, exp: inSeconds(2) })
      })
    ),
    { do: "pushes", socket: "a", count: 1 }
  ]),
  narrow("ends: a second connection of a user", (own) => [connect(user(own)), connect(user(own), "b"), closed("b")]),
  narrow("ends: one channel too many", (own) => [
    connect(),
    ...["1", "2", "3"].map((nth) => send(command(Number(nth) + 1, "subscribe", { channel: `fast:${own}${nth}` })))
  ]),
  narrow("ends: one server-side channel too many", (own) => [
    connect(user(own, { channels: [1, 2, 3].map((nth) => `fast:${own}${nth}`) })),
    closed()
  ])
]

/** From where a client recovers what the server subscribes it to. */
const serverSide = (name: string, subs: (own: string) => string, namespace = "kept", isDeadly = false): Case =>
  make(
    `connect with subs: ${name}`,
    (own) => [
      filled(`${namespace}:${own}`, 3),
      send(
        `{"id":1,"connect":{"token":"${jwt({ sub: own, channels: [`${namespace}:${own}`] })}","subs":{${subs(own)}}}}`
      ),
      send(command(2, "history", { channel: `${namespace}:${own}` }))
    ],
    { isDeadly }
  )

const recovering: ReadonlyArray<Case> = [
  serverSide("none", () => ""),
  serverSide("from 1", (own) => `"kept:${own}":{"recover":true,"offset":1,"epoch":"{{epoch}}"}`),
  serverSide("from the top", (own) => `"kept:${own}":{"recover":true,"offset":3,"epoch":"{{epoch}}"}`),
  serverSide("from another stream", (own) => `"kept:${own}":{"recover":true,"offset":1,"epoch":"another"}`),
  serverSide("from 0 of any stream", (own) => `"kept:${own}":{"recover":true,"epoch":""}`),
  serverSide("from above the top", (own) => `"kept:${own}":{"recover":true,"offset":9,"epoch":"{{epoch}}"}`),
  serverSide("without recover", (own) => `"kept:${own}":{"offset":1,"epoch":"{{epoch}}"}`),
  serverSide("null", (own) => `"kept:${own}":null`, "kept", true),
  serverSide("of a channel without history", (own) => `"fast:${own}":{"recover":true,"offset":1,"epoch":"x"}`, "fast"),
  serverSide(
    "of a channel that the token does not name",
    (own) => `"asked:${own}":{"recover":true,"offset":0,"epoch":""}`
  )
]

const pushing: ReadonlyArray<Case> = [
  make("pushes: joins and leaves, with what is known of a client", (own) => [
    connect({ token: jwt({ sub: own, info: { name: "Ann" } }) }),
    send(command(2, "subscribe", { channel: `seen:${own}` })),
    { do: "pushes", socket: "a", count: 1 },
    connect({}, "b"),
    on("b", command(2, "subscribe", { channel: `seen:${own}` })),
    { do: "pushes", socket: "a", count: 2 },
    on("b", command(3, "publish", { channel: `seen:${own}`, data: { a: 1 } })),
    { do: "pushes", socket: "a", count: 3 },
    send(command(3, "publish", { channel: `seen:${own}`, data: { b: 1 } })),
    { do: "pushes", socket: "a", count: 4 },
    send(command(4, "presence", { channel: `seen:${own}` })),
    send(command(5, "presence_stats", { channel: `seen:${own}` })),
    on("b", command(4, "unsubscribe", { channel: `seen:${own}` })),
    { do: "pushes", socket: "a", count: 5 },
    send(command(6, "presence_stats", { channel: `seen:${own}` }))
  ]),
  make("pushes: joins where they are asked for", (own) => [
    connect(),
    send(command(2, "subscribe", { channel: `shy:${own}`, join_leave: true })),
    { do: "pushes", socket: "a", count: 1 },
    connect({ token: jwt({ sub: own }) }, "b"),
    on("b", command(2, "subscribe", { channel: `shy:${own}` })),
    { do: "pushes", socket: "a", count: 2 }
  ]),
  make("pushes: no joins where they are not asked for", (own) => [
    connect(),
    send(command(2, "subscribe", { channel: `shy:${own}` })),
    connect({}, "b"),
    on("b", command(2, "subscribe", { channel: `shy:${own}` })),
    on("b", command(3, "publish", { channel: `shy:${own}`, data: 1 })),
    { do: "pushes", socket: "a", count: 1 },
    { do: "pushes", socket: "b", count: 1 }
  ])
]

export const tokens: ReadonlyArray<Case> = [
  // These wait for seconds: others are played beside them.
  ...ends,
  ...connections,
  ...subscriptions,
  ...refreshes,
  ...subRefreshes,
  ...recovering,
  ...pushing
]

/** A token of a user, for cases of other files. */
export const tokenOf = (own: string, claims: object = {}): string => jwt({ sub: own, ...claims })
