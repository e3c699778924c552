/** JSON that a test looks into, as it comes: an expectation that does not hold says what is wrong with it. */
// deno-lint-ignore no-explicit-any
export type Json = any
