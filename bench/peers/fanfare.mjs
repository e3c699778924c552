import { centrifugal, NAMESPACE } from "./internal/centrifugal.mjs"
import { ready, server, unavailable } from "./internal/fanfare-server.mjs"
import { ownVersion } from "./internal/installed.mjs"

export default {
  ...centrifugal,
  name: "Fanfare",
  about: `Fanfare ${ownVersion()}, client protocol in JSON, every publish acknowledged, no history`,
  unavailable,
  ready,
  server: server(NAMESPACE)
}
