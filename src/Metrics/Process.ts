/** What is known of the process, on Node and on Deno, where none of it needs a permission. */
import { performance } from "node:perf_hooks"
import process from "node:process"

const { deno, node } = process.versions

/** What it runs on. */
export const runtime: { readonly name: "node" | "deno"; readonly version: string } =
  deno === undefined ? { name: "node", version: node } : { name: "deno", version: deno }

/** When it started, in Unix seconds. */
export const startedAt = performance.timeOrigin / 1000

/** What it has used up until now, and has in memory. */
export const usage = (): {
  readonly cpuSeconds: number
  readonly residentBytes: number
  readonly heapBytes: number
} => {
  const { system, user } = process.cpuUsage()
  const { heapUsed, rss } = process.memoryUsage()
  return { cpuSeconds: (system + user) / 1e6, residentBytes: rss, heapBytes: heapUsed }
}
