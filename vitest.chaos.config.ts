// `npm run test:chaos`: faults at random, against the promises.
import { defineConfig } from "vitest/config"

export default defineConfig({
  test: {
    include: ["test/faults/*.run.ts"],
    pool: "forks",
    fileParallelism: false,
    reporters: ["default", ["json", { outputFile: process.env["FANFARE_REPORT"] ?? "reports/chaos.json" }]],
    hookTimeout: 60_000
  }
})
