// The tests that are too long for `npm test`: `test/**/*.full.ts`.
import { defineConfig } from "vitest/config"

export default defineConfig({
  test: {
    include: ["test/**/*.full.ts"],
    pool: "forks",
    fileParallelism: false,
    testTimeout: 30_000,
    hookTimeout: 60_000
  }
})
