// Writes the tables of docs/configuration.md from the declared options: node scripts/config-table.mjs
import { readFileSync, writeFileSync } from "node:fs"
import { pathToFileURL } from "node:url"
import * as Option from "../dist/config/Option.js"
import * as Namespace from "../dist/Namespace.js"
import * as ServerConfig from "../dist/ServerConfig.js"

const FILE = new URL("../docs/configuration.md", import.meta.url)

const show = (value) => {
  if (value === undefined || value === "") return ""
  if (Array.isArray(value)) return value.length === 0 ? "none" : value.join(" ")
  if (typeof value === "object") {
    const millis = value._tag === "Nanos" ? 0 : (value.value?.millis ?? 0)
    return millis === 0 ? "`0`" : millis % 1000 === 0 ? `\`${millis / 1000}s\`` : `\`${millis}ms\``
  }
  return `\`${value}\``
}

const row = ({ path, option }, variable) =>
  [
    `\`${path.join(".")}\``,
    ...(variable ? [`\`${Option.variable(path, option)}\``] : []),
    `${show(option.default)}${option.unit ? ` ${option.unit}` : ""}`,
    option.doc
  ].join(" | ")

const table = (head, rows) =>
  [`| ${head.join(" | ")} |`, `| ${head.map(() => "---").join(" | ")} |`, ...rows.map((one) => `| ${one} |`)].join("\n")

/** The document with its tables as the options are declared now. */
export const updated = (text) => {
  const all = Option.leaves(ServerConfig.options).filter(({ path }) => path[1] !== "without_namespace")
  const sections = {
    options: table(
      ["key", "variable", "default", "meaning"],
      all.map((leaf) => row(leaf, true))
    ),
    namespace: table(
      ["key", "default", "meaning"],
      Option.leaves(Namespace.options).map((leaf) => row(leaf, false))
    )
  }
  return Object.entries(sections).reduce(
    (document, [name, content]) =>
      document.replace(
        new RegExp(`(<!-- ${name} -->)[\\s\\S]*?(<!-- /${name} -->)`),
        (_, open, close) => `${open}\n\n${content}\n\n${close}`
      ),
    text
  )
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  writeFileSync(FILE, updated(readFileSync(FILE, "utf8")))
}
