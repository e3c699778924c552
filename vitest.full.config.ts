// The tests that are too long for `npm test`: `test/**/*.full.ts`.
import { defineConfig } from "vitest/config"
import usual from "./vitest.config.ts"

export default defineConfig({
  test: {
    ...usual.test,
    include: ["test/**/*.full.ts"],
    reporters: ["default"]
  }
})
