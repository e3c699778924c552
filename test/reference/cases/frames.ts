/** Frames: what holds for all commands. */
import { type Case, command, connect, make, on, send } from "../Case.ts"

const after = (name: string, ...frames: ReadonlyArray<string>): Case =>
  make(`frame: ${name}`, () => [connect(), ...frames.map((frame) => send(frame))])

const first = (name: string, ...frames: ReadonlyArray<string>): Case =>
  make(`first frame: ${name}`, () => frames.map((frame) => send(frame)))

const stats = (id: string): string => `{"id":${id},"presence_stats":{"channel":"seen:x"}}`

const IDS = ["0", "null", '"5"', "1.0", "-1", "1.5", "4294967295", "4294967296", "1e3", "true", "{}", "1e400"]

const METHODS = [
  "subscribe",
  "unsubscribe",
  "publish",
  "presence",
  "presence_stats",
  "history",
  "ping",
  "send",
  "rpc",
  "refresh",
  "sub_refresh"
]

const NOT_COMMANDS = ["null", "[]", "1", '"text"', "{", "}", "nonsense", "[{}]", "true", "{}{}", "\u0000", "\ufeff{}"]

/** What comes as one command alone, once as the first frame and once after `connect`. */
const LINES = [
  ...NOT_COMMANDS.map((text) => [JSON.stringify(text), text] as const),
  ["nothing", ""],
  ["a line feed", "\n"],
  ["white space", "  "],
  ["a pong", "{}"],
  ["a pong with id 0", '{"id":0}'],
  ["an id alone", '{"id":5}'],
  ["an unknown method", '{"id":5,"nope":{}}'],
  ["an unknown method without an id", '{"nope":{}}']
] as const

export const frames: ReadonlyArray<Case> = [
  ...LINES.map(([name, text]) => first(name, text, command(1, "connect"))),
  ...LINES.map(([name, text]) => after(name, text)),
  ...IDS.map((id) => after(`id ${id}`, stats(id))),
  after("no id", '{"presence_stats":{"channel":"seen:x"}}'),
  ...METHODS.map((method) => after(`${method} without an id`, `{"${method}":{"channel":"fast:x","data":1}}`)),
  ...METHODS.map((method) => first(`${method}`, command(1, method, { channel: "fast:x", data: 1 }))),
  ...METHODS.flatMap((method) =>
    [...(method === "rpc" || method === "send" ? ["7", "[]", '"text"'] : []), "null"].map((fields) =>
      after(`${method} of ${fields}`, `{"id":5,"${method}":${fields}}`)
    )
  ),
  ...["null", "7", "[]", '"text"', "true"].map((fields) =>
    first(`connect of ${fields}`, `{"id":1,"connect":${fields}}`)
  ),
  ...IDS.slice(0, 4).map((id) => first(`connect with id ${id}`, `{"id":${id},"connect":{}}`)),
  first("connect without an id", '{"connect":{}}'),
  first("connect twice", `${command(1, "connect")}\n${command(2, "connect")}`),
  after("connect again", command(2, "connect")),
  first("connect behind a subscribe", `${command(1, "subscribe", { channel: "fast:x" })}\n${command(2, "connect")}`),
  make("frame: connect and subscribes at once", (own) => [
    send(
      command(1, "connect"),
      command(2, "subscribe", { channel: `kept:${own}` }),
      command(3, "subscribe", { channel: `nowhere:${own}` }),
      command(4, "subscribe", { channel: `fast:${own}` })
    )
  ]),
  make("frame: two commands, a line feed at the end", (own) => [
    connect(),
    send(
      command(2, "presence_stats", { channel: `seen:${own}` }),
      command(3, "history", { channel: `kept:${own}` }),
      ""
    )
  ]),
  make("frame: two commands, an empty line between", (own) => [
    connect(),
    send(
      command(2, "presence_stats", { channel: `seen:${own}` }),
      "",
      command(3, "history", { channel: `kept:${own}` })
    )
  ]),
  make("frame: two commands, an empty line first", (own) => [
    connect(),
    send(
      "",
      command(2, "presence_stats", { channel: `seen:${own}` }),
      command(3, "history", { channel: `kept:${own}` })
    )
  ]),
  make("frame: two commands, CR and LF between", (own) => [
    connect(),
    send(
      `${command(2, "presence_stats", { channel: `seen:${own}` })}\r`,
      command(3, "presence_stats", { channel: `seen:${own}` })
    )
  ]),
  make("frame: two commands without a line feed", (own) => [
    connect(),
    send(
      command(2, "presence_stats", { channel: `seen:${own}` }) +
        command(3, "presence_stats", { channel: `seen:${own}` })
    )
  ]),
  make("frame: a command with white space around", (own) => [
    connect(),
    send(`  ${command(2, "presence_stats", { channel: `seen:${own}` })}\t `)
  ]),
  make("frame: a good command, then nonsense", (own) => [
    connect(),
    send(command(2, "presence_stats", { channel: `seen:${own}` }), "nonsense")
  ]),
  make("frame: nonsense, then a good command", (own) => [
    connect(),
    send("nonsense", command(2, "presence_stats", { channel: `seen:${own}` }))
  ]),
  make("frame: the same id twice", (own) => [
    connect(),
    send(command(2, "presence_stats", { channel: `seen:${own}` }), command(2, "history", { channel: `kept:${own}` }))
  ]),
  make("frame: two methods in one command", (own) => [
    connect(),
    send(`{"id":2,"publish":{"channel":"fast:${own}","data":1},"presence_stats":{"channel":"seen:${own}"}}`)
  ]),
  make("frame: a method and one that is null", (own) => [
    connect(),
    send(`{"id":2,"publish":null,"presence_stats":{"channel":"seen:${own}"}}`)
  ]),
  make("frame: an unknown method and a known one", (own) => [
    connect(),
    send(`{"id":2,"nope":{},"presence_stats":{"channel":"seen:${own}"}}`)
  ]),
  make("frame: the id behind the method", (own) => [
    connect(),
    send(`{"presence_stats":{"channel":"seen:${own}"},"id":2}`)
  ]),
  make("frame: an unknown field", (own) => [
    connect(),
    send(command(2, "presence_stats", { channel: `seen:${own}`, nope: { a: [1] } }))
  ]),
  make("frame: a field of another case", (own) => [
    connect(),
    send(`{"id":2,"presence_stats":{"Channel":"seen:${own}"}}`)
  ]),
  make("frame: a field twice, the last one counts", (own) => [
    connect(),
    send(`{"id":2,"history":{"channel":"fast:${own}","channel":"kept:${own}"}}`)
  ]),
  make("frame: version 1 of the protocol", () => [
    connect(),
    send('{"id":2,"method":1,"params":{"channel":"fast:x"}}')
  ]),
  make("first frame: version 1 of the protocol", () => [send('{"id":1,"params":{}}')]),
  make("first frame: binary", () => [
    { do: "send", socket: "a", frame: Buffer.from(command(1, "connect")) },
    { do: "closed", socket: "a" }
  ]),
  make("frame: binary", () => [
    connect(),
    { do: "send", socket: "a", frame: Buffer.from(command(2, "presence_stats", { channel: "seen:x" })) }
  ]),
  make("connections: two are two clients", (own) => [
    connect(),
    connect({}, "b"),
    send(command(2, "subscribe", { channel: `seen:${own}` })),
    { do: "pushes", socket: "a", count: 1 },
    on("b", command(2, "subscribe", { channel: `seen:${own}` })),
    { do: "pushes", socket: "a", count: 2 },
    send(command(3, "presence_stats", { channel: `seen:${own}` })),
    on("b", command(3, "unsubscribe", { channel: `seen:${own}` })),
    { do: "pushes", socket: "a", count: 3 },
    send(command(4, "presence_stats", { channel: `seen:${own}` }))
  ])
]
