/** What a server has counted, as plain numbers. */
import type { Counter, Gauge } from "../../src/Metrics/Instruments.ts"

/** The values of a metric, by its label. */
export const valuesOf = <Label extends string>(
  metrics: Readonly<Record<Label, Counter | Gauge>>
): Readonly<Record<Label, number>> =>
  Object.fromEntries(Object.entries<Counter | Gauge>(metrics).map(([label, { value }]) => [label, value])) as Record<
    Label,
    number
  >
