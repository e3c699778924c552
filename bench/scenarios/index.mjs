import { cost, large, leisurely, small } from "./cost.mjs"
import fanout from "./fanout.mjs"
import latency from "./latency.mjs"
import { few, many } from "./memory.mjs"
import { saturated, single } from "./rooms.mjs"
import start from "./start.mjs"
import storm from "./storm.mjs"

export const scenarios = [fanout, latency, saturated, single, few, many, cost, small, large, leisurely, storm, start]
