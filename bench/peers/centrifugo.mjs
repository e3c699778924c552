import { spawnSync } from "node:child_process"
import { readFileSync } from "node:fs"
import { centrifugal, NAMESPACE } from "./internal/centrifugal.mjs"
import { onPath } from "../../scripts/tools.mjs"
import { announced, redisUrl } from "./internal/installed.mjs"

const binary = () => process.env.CENTRIFUGO_BIN ?? onPath("centrifugo")

/** Its version; undefined if it does not run. One that `go install` has built says 0.0.0, and knows better itself. */
const version = () => {
  const { status, stdout } = spawnSync(binary(), ["version"], { encoding: "utf8" })
  const told = status === 0 ? /\d+\.\d+\.\d+\S*/.exec(stdout)?.[0] : undefined
  if (told !== "0.0.0") return told
  const module = /\tgithub\.com\/centrifugal\/centrifugo\/v\d+\tv(\S+)/
  return module.exec(readFileSync(binary(), "latin1"))?.[1] ?? told
}

export default {
  ...centrifugal,
  name: "Centrifugo",
  get about() {
    const which = binary() === undefined ? "Centrifugo" : `Centrifugo ${version()}`
    return `${which}, its Redis engine, client protocol in JSON, every publish acknowledged, no history`
  },
  unavailable: () => {
    if (binary() === undefined) return "centrifugo is not on PATH, nor in CENTRIFUGO_BIN"
    return version() === undefined ? `${binary()} does not run` : undefined
  },
  server: ({ port, redisPort }) => ({
    command: announced([binary()], port, "/health"),
    env: {
      CENTRIFUGO_HTTP_SERVER_ADDRESS: "127.0.0.1",
      CENTRIFUGO_HTTP_SERVER_PORT: String(port),
      CENTRIFUGO_ENGINE_TYPE: "redis",
      CENTRIFUGO_ENGINE_REDIS_ADDRESS: redisUrl(redisPort),
      CENTRIFUGO_CLIENT_ALLOW_ANONYMOUS_CONNECT_WITHOUT_TOKEN: "true",
      CENTRIFUGO_CHANNEL_NAMESPACES: JSON.stringify([NAMESPACE]),
      CENTRIFUGO_LOG_LEVEL: "error",
      CENTRIFUGO_HEALTH_ENABLED: "true"
    }
  })
}
