import { cost, large, small } from "./cost.mjs"
import fanout from "./fanout.mjs"
import latency from "./latency.mjs"
import { few, many } from "./memory.mjs"
import rooms from "./rooms.mjs"
import start from "./start.mjs"
import storm from "./storm.mjs"

export const scenarios = [fanout, latency, rooms, few, many, cost, small, large, storm, start]
