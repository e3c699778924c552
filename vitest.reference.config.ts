// What `npm run test:reference` runs.
import { defineConfig } from "vitest/config"

export default defineConfig({
  test: {
    include: ["test/reference/*.compare.ts"],
    pool: "forks"
  }
})
