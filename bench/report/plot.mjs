// The report as a picture: one group of bars a figure, a dot for every round.
import { byRound, summary } from "./statistics.mjs"
import { number } from "./table.mjs"

const WIDTH = 760
const LABEL = 150
const VALUE = 90
const BAR = 16
const GAP = 6
const HEAD = 34
const SCALE = WIDTH - LABEL - VALUE

const escape = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;")

const bars = (runs, peers, scenario, figure) =>
  peers.flatMap((peer) => {
    const values = Array.from(byRound(runs, scenario, peer.id, figure).values())
    const all = summary(values)
    return all === undefined ? [] : [{ ...all, name: peer.name, isOwn: peer.id === "fanfare", values }]
  })

const group = (title, rows, top) => {
  const most = Math.max(...rows.map((row) => row.most))
  const x = (value) => LABEL + (value / most) * SCALE
  const lines = rows.map(({ isOwn, median, name, values }, index) => {
    const y = top + HEAD + index * (BAR + GAP)
    const middle = y + BAR / 2
    const dots = values.map((value) => `<circle cx="${x(value).toFixed(1)}" cy="${middle}" r="2" class="run"/>`)
    return (
      `<text x="${LABEL - 8}" y="${middle + 4}" text-anchor="end">${escape(name)}</text>` +
      `<rect x="${LABEL}" y="${y}" width="${(x(median) - LABEL).toFixed(1)}" height="${BAR}" class="${isOwn ? "own" : "peer"}"/>` +
      `${dots.join("")}<text x="${WIDTH - VALUE + 10}" y="${middle + 4}">${number(median)}</text>`
    )
  })
  return `<text x="0" y="${top + 22}" class="title">${escape(title)}</text>${lines.join("")}`
}

const STYLE =
  "text{font:12px sans-serif;fill:#24292f}.title{font-weight:bold}.own{fill:#d9480f}.peer{fill:#adb5bd}" +
  ".run{fill:#212529;opacity:.6}"

export const svg = ({ peers, runs, scenarios }) => {
  let top = 0
  const groups = scenarios.flatMap(({ figures, id }) =>
    Object.entries(figures).flatMap(([figure, { better, title }]) => {
      const rows = bars(runs, peers, id, figure)
      if (rows.length === 0) return []
      const drawn = group(`${id}: ${title} (${better} is better)`, rows, top)
      top += HEAD + rows.length * (BAR + GAP) + 8
      return [drawn]
    })
  )
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${top}" width="${WIDTH}" height="${top}">` +
    `<style>${STYLE}</style><rect width="100%" height="100%" fill="#fff"/>${groups.join("\n")}</svg>\n`
  )
}
