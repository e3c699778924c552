/** What exports traces, in one piece that is loaded only where they are: it needs a package that not everybody has. */
export { make } from "@effect/opentelemetry/OtlpTracer"
export { layerJson } from "@effect/opentelemetry/OtlpSerialization"
// By name: the rest of that module, undici, stays out of the program.
export { layer as layerClient } from "@effect/platform-node/NodeHttpClient"
