// Writes the tables of docs/protocol.md from src/protocol: node scripts/protocol-tables.mjs
import { readFileSync, writeFileSync } from "node:fs"
import { pathToFileURL } from "node:url"
import * as Codes from "../dist/protocol/Codes.js"
import * as Command from "../dist/protocol/Command.js"
import { meanings } from "../dist/protocol/Meanings.js"

const FILE = new URL("../docs/protocol.md", import.meta.url)

const table = (head, rows) => [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n")

// ── Commands ───────────────────────────────────────────────────────────────

const show = (value) => (value === undefined ? "" : `\`${JSON.stringify(value)}\``)

const fieldsOf = ([method, declared]) => {
  const { data, doc } = Command.about[method]
  const fields = Object.entries(declared).map(([name, { description, fallback, type }]) => {
    return ["", `\`${name}\``, type, show(fallback), description]
  })
  return [
    [`\`${method}\``, "", "", "", doc],
    ...fields,
    ...(data === undefined ? [] : [["", "`data`", "any JSON", "", data]])
  ]
}

// ── Codes ──────────────────────────────────────────────────────────────────

const codes = Object.entries(Codes)
  .filter(([name]) => Object.hasOwn(meanings, name))
  .map(([name, code]) => ({ ...code, meaning: meanings[name] }))
  .toSorted((one, other) => one.code - other.code)

const yes = (is) => (is ? "yes" : "no")

const rows = (is, ...columns) =>
  codes
    .filter(({ code }) => is(code))
    .map((one) => [`${one.code}`, ...columns.map((column) => column(one)), one.meaning])

const isError = (code) => code < 1000
const isUnsubscribe = (code) => code >= 2000 && code < 3000
const isDisconnect = (code) => code >= 3000
const isClose = (code) => code >= 1000 && code < 2000

const sections = () => ({
  commands: table(
    ["command", "field", "type", "default", "meaning"],
    Object.entries(Command.methods).flatMap(fieldsOf)
  ),
  errors: table(
    ["code", "message", "temporary", "when"],
    rows(
      isError,
      ({ message }) => message,
      ({ temporary }) => yes(temporary === true)
    )
  ),
  unsubscribes: table(
    ["code", "reason", "the client subscribes again", "when"],
    rows(
      isUnsubscribe,
      ({ reason }) => reason,
      ({ code }) => yes(code >= 2500)
    )
  ),
  disconnects: table(
    ["code", "reason", "the client comes back", "when"],
    rows(
      isDisconnect,
      ({ reason }) => reason,
      ({ code }) => yes(code < 3500)
    )
  ),
  closes: table(
    ["code", "reason", "when"],
    rows(isClose, ({ reason }) => reason)
  )
})

/** The document with its tables as commands and codes are declared now. */
export const updated = (text) =>
  Object.entries(sections()).reduce(
    (document, [name, content]) =>
      document.replace(
        new RegExp(`(<!-- ${name} -->)[\\s\\S]*?(<!-- /${name} -->)`),
        (_, open, close) => `${open}\n\n${content}\n\n${close}`
      ),
    text
  )

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  writeFileSync(FILE, updated(readFileSync(FILE, "utf8")))
}
