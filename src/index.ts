/** What the library exports. Each module is a namespace: `Hooks.layer`, `Server.layer`. */
export * as Broker from "./Broker.ts"
export * as RedisBroker from "./Broker/Redis.ts"
export * as Cluster from "./Cluster.ts"
export * as Hooks from "./Hooks.ts"
export * as Metrics from "./Metrics.ts"
export * as Namespace from "./Namespace.ts"
export * as Presence from "./Presence.ts"
export * as RedisPresence from "./Presence/Redis.ts"
export * as Publisher from "./Publisher.ts"
export * as Server from "./Server.ts"
export * as ServerConfig from "./ServerConfig.ts"
export * as WarmUp from "./WarmUp.ts"
export { version } from "./version.ts"

// The domain: what the services above take and return, `History.Position`, `Publication.ClientInfo`.
// Not `export type *`: the compiler takes no name from it for a declaration that it emits.
export * as Disconnect from "./protocol/Codes.ts"
export * as History from "./History.ts"
export * as Publication from "./protocol/Publication.ts"

// Services inside of a server, which the types of its layers name.
export type { Clients } from "./Clients.ts"
export type { Connections } from "./Connections.ts"
export type { Hub } from "./Hub.ts"
export type { Instance } from "./Instance.ts"
