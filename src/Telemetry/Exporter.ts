/** What exports traces; loaded only where they are exported: the optional package @effect/opentelemetry, and an HTTP client. */
// By name: the rest of that module, undici, stays out of the program.
export { layer as layerClient } from "@effect/platform-node/NodeHttpClient"

// A bundler leaves out a package that is not installed only where the failure of the import itself is handled.
const missing = (error: unknown): never => {
  throw error
}

/** Imports the package; rejects where it is not installed. */
export const load = () =>
  Promise.all([
    import("@effect/opentelemetry/OtlpTracer").catch(missing),
    import("@effect/opentelemetry/OtlpSerialization").catch(missing)
  ]).then(([{ make }, { layerJson }]) => ({ make, layerJson }))
