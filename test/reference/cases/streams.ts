/** History and recovery: positions that are right, empty, old, ahead and of another stream. */
import { type Case, call, command, connect, filled, make, send, type Step } from "../Case.ts"

/** Streams before a case: never used, with 5 publications, with 13 of which 10 are kept, and one that was emptied. */
const STREAMS: ReadonlyArray<readonly [name: string, steps: (channel: string) => ReadonlyArray<Step>]> = [
  ["new", () => []],
  ["5", (channel) => [filled(channel, 5)]],
  ["13 of 10", (channel) => [filled(channel, 13)]],
  ["emptied", (channel) => [filled(channel, 5), call("history_remove", { channel })]]
]

const RIGHT = "{{epoch}}"

const SINCE: ReadonlyArray<string> = [
  "{}",
  '{"offset":0}',
  '{"offset":0,"epoch":""}',
  `{"offset":0,"epoch":"${RIGHT}"}`,
  `{"offset":2,"epoch":"${RIGHT}"}`,
  '{"offset":2,"epoch":""}',
  `{"offset":5,"epoch":"${RIGHT}"}`,
  `{"offset":99,"epoch":"${RIGHT}"}`,
  '{"offset":2,"epoch":"another"}',
  '{"epoch":"another"}',
  `{"offset":6,"epoch":"${RIGHT}"}`,
  `{"epoch":"${RIGHT}"}`,
  `{"offset":-1,"epoch":"${RIGHT}"}`,
  `{"offset":1.5,"epoch":"${RIGHT}"}`,
  `{"offset":9007199254740992,"epoch":"${RIGHT}"}`,
  `{"offset":18446744073709551615,"epoch":"${RIGHT}"}`,
  `{"offset":18446744073709551616,"epoch":"${RIGHT}"}`
]

/** Of these, what is asked of every stream. */
const COMMON = 6

const reads: ReadonlyArray<Case> = STREAMS.flatMap(([stream, steps]) => {
  const read = (name: string, fields: string): Case =>
    make(`history: ${stream}, ${name}`, (own) => [
      ...steps(`kept:${own}`),
      connect(),
      send(`{"id":2,"history":{"channel":"kept:${own}"${fields}}}`)
    ])
  return [
    ...(stream === "5" ? ["0", "2", "5", "6", "-1", "-5", "1000"] : ["0", "-1"]).flatMap((limit) =>
      ["false", "true"].map((reverse) =>
        read(`limit ${limit}, reverse ${reverse}`, `,"limit":${limit},"reverse":${reverse}`)
      )
    ),
    ...(stream === "5" ? SINCE : SINCE.slice(0, COMMON)).map((since) =>
      read(`since ${since}`, `,"limit":-1,"since":${since}`)
    ),
    ...SINCE.slice(0, stream === "5" ? COMMON : 2).map((since) =>
      read(`since ${since}, reverse`, `,"limit":-1,"since":${since},"reverse":true`)
    ),
    read(`since {"offset":2}, limit 0`, `,"since":{"offset":2,"epoch":"${RIGHT}"}`),
    read(`since {"offset":2}, limit 1`, `,"limit":1,"since":{"offset":2,"epoch":"${RIGHT}"}`),
    read(`since {"offset":4}, limit 2, reverse`, `,"limit":2,"reverse":true,"since":{"offset":4,"epoch":"${RIGHT}"}`)
  ]
})

/** Positions as `subscribe` has them. */
const POSITIONS: ReadonlyArray<string> = SINCE.map((since) => since.slice(1, -1))

const recoveries: ReadonlyArray<Case> = STREAMS.flatMap(([stream, steps]) =>
  (stream === "5" ? POSITIONS : POSITIONS.slice(0, COMMON)).flatMap((position) =>
    (stream === "13 of 10" ? [0] : [0, 2]).map((flag) =>
      make(`recover: ${stream}, from ${position || "nowhere"}, flag ${flag}`, (own) => [
        ...steps(`kept:${own}`),
        connect(),
        send(
          `{"id":2,"subscribe":{"channel":"kept:${own}","recover":true,"flag":${flag}${position === "" ? "" : ","}${position}}}`
        )
      ])
    )
  )
)

const asked = (name: string, fields: object, namespace = "asked"): Case =>
  make(`subscribe: ${name}, in ${namespace}`, (own) => [
    filled(`${namespace}:${own}`, 3),
    connect(),
    send(command(2, "subscribe", { channel: `${namespace}:${own}`, ...fields }))
  ])

const modes: ReadonlyArray<Case> = ["asked", "kept", "placed", "fast", "read"].flatMap((namespace) => [
  asked("nothing asked", {}, namespace),
  asked("positioned", { positioned: true }, namespace),
  asked("recoverable", { recoverable: true }, namespace),
  asked("both", { positioned: true, recoverable: true }, namespace),
  asked("recover without recoverable", { recover: true, offset: 1, epoch: RIGHT }, namespace),
  asked("recover, recoverable", { recover: true, recoverable: true, offset: 1, epoch: RIGHT }, namespace),
  asked("recoverable, a position, no recover", { recoverable: true, offset: 1, epoch: RIGHT }, namespace)
])

const live: ReadonlyArray<Case> = [
  make("recovery: what a replay is followed by", (own) => [
    filled(`kept:${own}`, 3),
    connect(),
    send(command(2, "subscribe", { channel: `kept:${own}`, recover: true, offset: 1, epoch: RIGHT })),
    send(command(3, "publish", { channel: `kept:${own}`, data: "next" })),
    { do: "pushes", socket: "a", count: 1 },
    send(command(4, "history", { channel: `kept:${own}`, limit: -1 }))
  ]),
  make(
    "recovery: the limit of a replay",
    (own) => [
      filled(`kept:${own}`, 5),
      connect({}, "a"),
      send(command(2, "subscribe", { channel: `kept:${own}`, recover: true, offset: 1, epoch: RIGHT })),
      send(command(3, "history", { channel: `kept:${own}`, limit: -1 })),
      send(command(4, "history", { channel: `kept:${own}`, limit: 4 }))
    ],
    { profile: "narrow" }
  ),
  make("history: tags and info", (own) => [
    call("publish", { channel: `kept:${own}`, data: { a: 1 }, tags: { lang: "en" } }),
    connect(),
    send(command(2, "publish", { channel: `kept:${own}`, data: [null] })),
    send(command(3, "history", { channel: `kept:${own}`, limit: -1 })),
    call("history", { channel: `kept:${own}`, limit: -1 })
  ]),
  make("history: skip_history leaves no trace", (own) => [
    call("publish", { channel: `kept:${own}`, data: 1 }),
    connect(),
    send(command(2, "subscribe", { channel: `kept:${own}` })),
    call("publish", { channel: `kept:${own}`, data: 2, skip_history: true }),
    { do: "pushes", socket: "a", count: 1 },
    call("publish", { channel: `kept:${own}`, data: 3 }),
    { do: "pushes", socket: "a", count: 2 },
    send(command(3, "history", { channel: `kept:${own}`, limit: -1 }))
  ])
]

export const streams: ReadonlyArray<Case> = [...reads, ...recoveries, ...modes, ...live]
