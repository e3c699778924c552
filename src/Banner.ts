/** What a server says when it starts: where it listens, over what, and who may do what. Only what is active. */
import * as Duration from "effect/Duration"
import type { AddressInfo } from "node:net"
import * as ServerConfig from "./ServerConfig.ts"
import type * as Namespace from "./Namespace.ts"
import * as Origin from "./transport/Origin.ts"

const anonymous = (namespace: Namespace.Namespace): string => {
  const subscribe = namespace.allow_subscribe_for_client && namespace.allow_subscribe_for_anonymous
  const publish =
    (namespace.allow_publish_for_client || namespace.allow_publish_for_subscriber) &&
    namespace.allow_publish_for_anonymous
  if (subscribe && publish) return "anybody may subscribe and publish"
  if (subscribe) return "anybody may subscribe"
  if (publish) return "anybody may publish"
  return "closed to anonymous clients"
}

const history = ({ history_size, history_ttl }: Namespace.Namespace): string =>
  history_size === 0 ? "" : `; history: ${history_size} publications, ${Duration.format(history_ttl)}`

const urlHost = (host: string): string => (host.includes(":") ? `[${host}]` : host === "127.0.0.1" ? "localhost" : host)

/** What is served where nobody else is; a line where there is such a port. */
const internal = ({ host, http_api, http_server }: ServerConfig.Config): ReadonlyArray<string> => {
  if (http_server.internal_port === 0) return []
  const paths = ["/metrics", "/health/", ...(http_api.key === undefined ? [] : ["/api/"])].map(
    (path) => http_server.handler_prefix + path
  )
  const where = `http://${urlHost(http_server.internal_host ?? host)}:${http_server.internal_port}`
  return [`internal port: ${where} alone serves ${paths.join(", ")}`]
}

/** The lines of the banner of a server that listens on an address. */
export const lines = (
  config: ServerConfig.Config,
  { address, port }: AddressInfo,
  version: string
): ReadonlyArray<string> => {
  const { without_namespace, namespaces } = config.channel
  const loopback = Origin.isLoopback(address)
  return [
    `fanfare ${version} listening on http://${urlHost(config.host)}:${port}`,
    ...(loopback ? ["reachable from this machine only; HOST=0.0.0.0 listens beyond it"] : []),
    config.redis_url === undefined
      ? "broker: in process, connected to no other instance; REDIS_URL=redis://… on each of them connects them"
      : `broker: redis, under "${config.broker.redis.prefix}:"; connected are the instances that have the same`,
    `channels without a namespace: ${anonymous(without_namespace)}${history(without_namespace)}`,
    ...namespaces.map((namespace) => `namespace "${namespace.name}": ${anonymous(namespace)}${history(namespace)}`),
    ...(config.client.allowed_origins.length > 0
      ? [`origins beside the server's own: ${config.client.allowed_origins.join(" ")}`]
      : []),
    ...(config.http_server.handler_prefix === ""
      ? []
      : [
          `sockets are at ${config.http_server.handler_prefix}/connection/websocket and ${config.http_server.handler_prefix}/channels/{channel}`
        ]),
    ...(config.http_api.key === undefined ? [] : [`server API: on, at ${config.http_server.handler_prefix}/api/`]),
    ...internal(config)
  ]
}
