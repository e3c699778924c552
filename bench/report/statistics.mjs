/** The value below which a part of them lies: 0.5 is the median. */
export const quantile = (values, part) => {
  const sorted = Float64Array.from(values).toSorted()
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))]
}

export const median = (values) => {
  const sorted = Float64Array.from(values).toSorted()
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/** Median, least and most. */
export const summary = (values) =>
  values.length === 0
    ? undefined
    : { median: median(values), least: Math.min(...values), most: Math.max(...values), count: values.length }

/** A figure of a peer in each round in which it has one: a run with a fault has none. */
export const byRound = (runs, scenario, peer, figure) =>
  new Map(
    runs
      .filter((run) => run.scenario === scenario && run.peer === peer && run.fault === undefined)
      .map((run) => [run.round, run[figure]])
  )

/** Round by round, one figure over another: what disturbs the machine for a while disturbs both. */
export const ratios = (above, below) =>
  Array.from(above)
    .filter(([round]) => below.has(round))
    .map(([round, value]) => value / below.get(round))
