/** The benchmark's modules, and what its plot shows. */
import type { Json } from "./json.ts"

// The benchmark is JavaScript, without types.
export const load = (path: string): Promise<Json> => import(new URL(`../../bench/${path}`, import.meta.url).href)

export const bars = (svg: string): number => svg.match(/<rect x/g)?.length ?? 0
