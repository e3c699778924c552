import { describe, expect, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as FastCheck from "effect/FastCheck"
import * as Layer from "effect/Layer"
import { generateKeyPairSync, type KeyObject } from "node:crypto"
import * as Hooks from "../src/Hooks.ts"
import * as Codes from "../src/protocol/Codes.ts"
import * as ServerConfig from "../src/ServerConfig.ts"

type Service = Context.Tag.Service<Hooks.Hooks>
type Allowed = Readonly<Record<string, boolean>>

const build = (layer: Layer.Layer<Hooks.Hooks, never, ServerConfig.ServerConfig>, input: ServerConfig.Input): Service =>
  Layer.succeed(ServerConfig.ServerConfig, Either.getOrThrow(ServerConfig.load(input)).config).pipe(
    (config) => Layer.build(Layer.provide(layer, config)),
    Effect.scoped,
    Effect.map(Context.get(Hooks.Hooks)),
    Effect.runSync
  )

const decide = <A>(decision: Effect.Effect<A, Hooks.Rejected>): Either.Either<A, Hooks.Rejected> =>
  Effect.runSync(Effect.either(decision))

const USER = { client: "c1", user: "u1" }
const ANONYMOUS = { client: "c2", user: "" }

const subscribe = (client: typeof USER, channel: string) => ({ client, channel, token: "", data: undefined })
const publish = (client: typeof USER, channel: string, subscribed: boolean) => ({
  client,
  channel,
  data: "1",
  subscribed
})
const history = (client: typeof USER, channel: string, subscribed: boolean) => ({ client, channel, subscribed })
const connect = (token: string): Hooks.ConnectRequest => ({
  client: "c1",
  kind: "protocol",
  token,
  data: undefined,
  headers: {},
  address: "192.0.2.1"
})

/** Where options stand: for channels without a namespace, or for those of one. */
const PLACES = [
  {
    channel: "lobby",
    named: "channel.without_namespace",
    input: (options: Allowed) => ({ without_namespace: options })
  },
  {
    channel: "chat:1",
    named: 'namespace "chat"',
    input: (options: Allowed) => ({ namespaces: [{ name: "chat", ...options }] })
  }
]

/** What of `layerConfig` the test asks, under options. */
interface Question {
  readonly place: (typeof PLACES)[number]
  readonly client: typeof USER
  readonly ask: (typeof ASKS)[number]
}

const ASKS = [
  "subscribe",
  "publish",
  "publish when subscribed",
  "read the history",
  "read the history when subscribed"
] as const

const answer = ({ place, client, ask }: Question, options: Allowed): Either.Either<unknown, Hooks.Rejected> => {
  const hooks = build(Hooks.layerConfig, { channel: place.input(options) })
  const subscribed = ask.endsWith("when subscribed")
  if (ask === "subscribe") return decide(hooks.onSubscribe(subscribe(client, place.channel)))
  return decide(
    ask.startsWith("publish")
      ? hooks.onPublish(publish(client, place.channel, subscribed))
      : hooks.onHistory(history(client, place.channel, subscribed))
  )
}

const OPTIONS = [
  "allow_subscribe_for_client",
  "allow_subscribe_for_anonymous",
  "allow_publish_for_subscriber",
  "allow_publish_for_client",
  "allow_publish_for_anonymous",
  "allow_history_for_subscriber",
  "allow_history_for_client",
  "allow_history_for_anonymous"
]

const question: FastCheck.Arbitrary<Question> = FastCheck.record({
  place: FastCheck.constantFrom(...PLACES),
  client: FastCheck.constantFrom(USER, ANONYMOUS),
  ask: FastCheck.constantFrom(...ASKS)
})
const allowed = FastCheck.subarray(OPTIONS).map((set): Allowed =>
  Object.fromEntries(set.map((option) => [option, true]))
)

describe("Hooks.layerConfig, permissions", () => {
  // Every combination of the options that have a say.
  const rows = [
    ["subscribe", USER, ["allow_subscribe_for_client"]],
    ["subscribe", ANONYMOUS, ["allow_subscribe_for_client", "allow_subscribe_for_anonymous"]],
    ["publish", USER, ["allow_publish_for_client"]],
    ["publish", ANONYMOUS, ["allow_publish_for_client", "allow_publish_for_anonymous"]],
    ["publish when subscribed", USER, ["allow_publish_for_client"]],
    ["publish when subscribed", USER, ["allow_publish_for_subscriber"]],
    ["publish when subscribed", ANONYMOUS, ["allow_publish_for_client", "allow_publish_for_anonymous"]],
    ["publish when subscribed", ANONYMOUS, ["allow_publish_for_subscriber", "allow_publish_for_anonymous"]],
    ["read the history", USER, ["allow_history_for_client"]],
    ["read the history", ANONYMOUS, ["allow_history_for_client", "allow_history_for_anonymous"]],
    ["read the history when subscribed", USER, ["allow_history_for_client"]],
    ["read the history when subscribed", USER, ["allow_history_for_subscriber"]],
    ["read the history when subscribed", ANONYMOUS, ["allow_history_for_client", "allow_history_for_anonymous"]],
    ["read the history when subscribed", ANONYMOUS, ["allow_history_for_subscriber", "allow_history_for_anonymous"]]
  ] as const

  for (const place of PLACES) {
    it.each(rows)(`of ${place.named} let %s %o exactly where one of the sufficient sets is allowed`, (ask, client) => {
      const sufficient = rows.filter((row) => row[0] === ask && row[1] === client).map((row) => row[2])
      for (let bits = 0; bits < 2 ** OPTIONS.length; bits++) {
        const set = OPTIONS.filter((_, index) => (bits >> index) % 2 === 1)
        const options = Object.fromEntries(set.map((option) => [option, true]))
        const permitted = sufficient.some((needed) => needed.every((option) => set.includes(option)))
        const result = answer({ place, client, ask }, options)
        expect(Either.isRight(result), `${ask} with ${set.join()}`).toBe(permitted)
        if (permitted) continue
        const refusal = Either.getOrThrow(Either.flip(result))
        expect([refusal.code, refusal.message, refusal.disconnect ?? false]).toEqual([103, "permission denied", false])
        expect(refusal.detail).toContain(place.named)
      }
    })
  }

  it.prop(
    "name in a refusal options that are not set, and that permit it once they are",
    [question, allowed],
    ([question, options]) => {
      const first = answer(question, options)
      if (Either.isRight(first)) return
      const named = first.left.detail?.match(/allow_\w+/g) ?? []
      expect(named.length).toBeGreaterThan(0)
      for (const option of named) expect(options[option] ?? false, `${option} is set already`).toBe(false)
      const followed = { ...options, ...Object.fromEntries(named.map((option) => [option, true])) }
      expect(Either.isRight(answer(question, followed)), `${first.left.detail} does not permit it`).toBe(true)
    }
  )

  it("refuse a channel whose namespace is unknown, and say which are known", () => {
    const hooks = build(Hooks.layerConfig, {})
    for (const channel of ["foo:x", ":x", "__proto__:x"]) {
      const results = [
        decide(hooks.onSubscribe(subscribe(USER, channel))),
        decide(hooks.onPublish(publish(USER, channel, true))),
        decide(hooks.onHistory(history(USER, channel, true)))
      ]
      for (const result of results) {
        const name = channel.slice(0, channel.indexOf(":"))
        expect(Either.isLeft(result) && result.left).toMatchObject({
          code: Codes.unknownChannel.code,
          detail: `no namespace "${name}"; known: public`
        })
      }
    }
  })

  it("open lobby and public to everybody by default", () => {
    const hooks = build(Hooks.layerConfig, {})
    for (const client of [USER, ANONYMOUS]) {
      for (const channel of ["lobby", "public:lobby"]) {
        expect(decide(hooks.onSubscribe(subscribe(client, channel)))).toEqual(Either.right(undefined))
        expect(decide(hooks.onPublish(publish(client, channel, false)))).toEqual(Either.right(undefined))
        expect(decide(hooks.onHistory(history(client, channel, false)))).toEqual(Either.right(undefined))
      }
    }
  })
})

describe("Hooks.layerConfig, connect", () => {
  const pem = ({ publicKey }: { readonly publicKey: KeyObject }): string =>
    publicKey.export({ type: "spki", format: "pem" }).toString()
  const KEYS = [
    ["hmac_secret_key", "k"],
    ["rsa_public_key", pem(generateKeyPairSync("rsa", { modulusLength: 2048 }))],
    ["ecdsa_public_key", pem(generateKeyPairSync("ec", { namedCurve: "P-256" }))]
  ] as const
  const refusal = (input: ServerConfig.Input, token: string) =>
    Either.flip(decide(build(Hooks.layerConfig, input).onConnect(connect(token)))).pipe(Either.getOrUndefined)

  it("takes a client without a token as anonymous while no key is configured", () => {
    expect(decide(build(Hooks.layerConfig, {}).onConnect(connect("")))).toEqual(Either.right({ user: "" }))
  })

  it("disconnects a token with 3500 while no key can verify it", () => {
    expect(refusal({}, "t")).toMatchObject({ code: 3500, message: "invalid token", disconnect: true })
    expect(refusal({}, "t")?.detail).toContain("no key")
  })

  it.each(KEYS)(
    "with %s disconnects a client without a token with 3500, and says what would permit it",
    (name, key) => {
      const client = { token: { [name]: key } }
      expect(refusal({ client }, "")).toMatchObject({ code: 3500, disconnect: true })
      expect(refusal({ client }, "")?.detail).toContain("client.allow_anonymous_connect_without_token")
      const permitted = { client: { ...client, allow_anonymous_connect_without_token: true } }
      expect(decide(build(Hooks.layerConfig, permitted).onConnect(connect("")))).toEqual(Either.right({ user: "" }))
    }
  )
})

describe("Hooks.layerConfig, calls", () => {
  it("refuses every rpc as not available", () => {
    const result = decide(build(Hooks.layerConfig, {}).onRpc({ client: USER, method: "sum", data: "1" }))
    expect(Either.isLeft(result) && result.left).toMatchObject({ code: Codes.notAvailable.code })
    expect(Either.isLeft(result) && result.left.detail).toContain('"sum"')
  })
})

describe("Hooks.layer", () => {
  /** Decisions that remember what they were asked. */
  const asked = (result: Effect.Effect<void, Hooks.Rejected>) => {
    const calls: Array<string> = []
    const note = (what: string) =>
      Effect.zipRight(
        Effect.sync(() => calls.push(what)),
        result
      )
    const own = {
      onSubscribe: ({ channel }: Hooks.SubscribeRequest) => note(`subscribe ${channel}`),
      onPublish: ({ channel }: Hooks.PublishRequest) => note(`publish ${channel}`),
      onHistory: ({ channel }: Hooks.HistoryRequest) => note(`history ${channel}`),
      onPresence: ({ channel }: Hooks.PresenceRequest) => note(`presence ${channel}`)
    }
    return { calls, own }
  }
  const input = {
    channel: {
      without_namespace: {
        allow_subscribe_for_client: true,
        allow_publish_for_client: true,
        allow_history_for_client: true,
        allow_presence_for_client: true
      }
    }
  }
  const NO = new Hooks.Rejected({ code: 400, message: "not today" })

  it("asks onSubscribe, onPublish, onHistory and onPresence only after the configuration has permitted it", () => {
    const { calls, own } = asked(Effect.void)
    const hooks = build(Hooks.layer(own), input)
    for (const [client, channel] of [
      [ANONYMOUS, "lobby"],
      [USER, "foo:x"]
    ] as const) {
      expect(Either.isLeft(decide(hooks.onSubscribe(subscribe(client, channel))))).toBe(true)
      expect(Either.isLeft(decide(hooks.onPublish(publish(client, channel, true))))).toBe(true)
      expect(Either.isLeft(decide(hooks.onHistory(history(client, channel, true))))).toBe(true)
      expect(Either.isLeft(decide(hooks.onPresence(history(client, channel, true))))).toBe(true)
    }
    expect(calls).toEqual([])
    expect(Either.isRight(decide(hooks.onSubscribe(subscribe(USER, "lobby"))))).toBe(true)
    expect(Either.isRight(decide(hooks.onPublish(publish(USER, "lobby", false))))).toBe(true)
    expect(Either.isRight(decide(hooks.onHistory(history(USER, "lobby", false))))).toBe(true)
    expect(Either.isRight(decide(hooks.onPresence(history(USER, "lobby", false))))).toBe(true)
    expect(calls).toEqual(["subscribe lobby", "publish lobby", "history lobby", "presence lobby"])
  })

  it("lets them refuse what the configuration permits", () => {
    const { own } = asked(Effect.fail(NO))
    const hooks = build(Hooks.layer(own), input)
    expect(decide(hooks.onSubscribe(subscribe(USER, "lobby")))).toEqual(Either.left(NO))
    expect(decide(hooks.onPublish(publish(USER, "lobby", false)))).toEqual(Either.left(NO))
    expect(decide(hooks.onHistory(history(USER, "lobby", false)))).toEqual(Either.left(NO))
    expect(decide(hooks.onPresence(history(USER, "lobby", false)))).toEqual(Either.left(NO))
  })

  it("needs the address of clients where onConnect is not the configuration's", () => {
    const onConnect = () => Effect.succeed({ user: "" })
    const config = build(Hooks.layerConfig, {})
    expect(Hooks.needsAddress(config)).toBe(false)
    expect(Hooks.needsAddress(build(Hooks.layer({ onPublish: () => Effect.void }), {}))).toBe(false)
    expect(Hooks.needsAddress(build(Hooks.layer({ onConnect }), {}))).toBe(true)
    expect(Hooks.needsAddress(build(Layer.succeed(Hooks.Hooks, { ...config, onConnect }), {}))).toBe(true)
  })

  it("lets onConnect, onRpc and onDisconnect decide in place of the configuration", () => {
    const left: Array<number> = []
    const hooks = build(
      Hooks.layer({
        onConnect: ({ token }) => Effect.succeed({ user: token, info: "{}" }),
        onRpc: ({ method }) => Effect.succeed(`"${method}"`),
        onDisconnect: (_, { code }) => Effect.sync(() => void left.push(code))
      }),
      {}
    )
    expect(decide(hooks.onConnect(connect("u1")))).toEqual(Either.right({ user: "u1", info: "{}" }))
    expect(decide(hooks.onRpc({ client: USER, method: "sum", data: undefined }))).toEqual(Either.right('"sum"'))
    Effect.runSync(hooks.onDisconnect(USER, Codes.shutdown))
    expect(left).toEqual([3001])
  })

  it("decides as the configuration does where it has no decision of its own", () => {
    const hooks = build(Hooks.layer({}), input)
    expect(Either.isRight(decide(hooks.onSubscribe(subscribe(USER, "lobby"))))).toBe(true)
    expect(Either.isLeft(decide(hooks.onSubscribe(subscribe(ANONYMOUS, "lobby"))))).toBe(true)
    expect(Either.isRight(decide(hooks.onHistory(history(USER, "lobby", false))))).toBe(true)
    expect(Either.isLeft(decide(hooks.onHistory(history(ANONYMOUS, "lobby", true))))).toBe(true)
    expect(Either.isLeft(decide(hooks.onConnect(connect("t"))))).toBe(true)
    expect(Either.isLeft(decide(hooks.onRpc({ client: USER, method: "sum", data: undefined })))).toBe(true)
  })
})
