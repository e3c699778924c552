import { existsSync } from "node:fs"
import { own, redisUrl } from "./installed.mjs"

const main = own("dist/main.js")

export const unavailable = () => (existsSync(main) ? undefined : "dist/main.js is not there; run npm run build")

/** How an instance with one namespace is started; everything else is as it comes. */
export const server =
  (namespace) =>
  ({ port, redisPort }) => ({
    command: [process.execPath, main],
    env: {
      PORT: String(port),
      REDIS_URL: redisUrl(redisPort),
      FANFARE_CHANNEL_NAMESPACES: JSON.stringify([namespace])
    }
  })

/** It listens a moment before Redis is connected, and answers a subscribe with a temporary error until then. */
export const ready = "/health/ready"
