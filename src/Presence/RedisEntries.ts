/**
 * Who is in a channel, in Redis. Three keys for each channel: a hash client →
 * entry, a sorted set client → when its entry expires (in milliseconds of Redis'
 * own clock: the instances' clocks do not matter), and a hash user → number of
 * clients, so that counting reads no entry. A client is in all three or in none.
 *
 * Each script is one step. It takes out what has expired too, a bounded number
 * at a time: an instance that is gone with 50,000 clients in a channel must not
 * hold Redis up.
 *
 * Redis refuses a script's first write at `maxmemory` if it may need memory, and
 * none after it. So what may be refused, new or changed entries, is written
 * first, and where it is refused nothing else is written of them. What needs no
 * memory, to take out and to renew, begins with a write that is never refused.
 *
 * All three keys expire together, when nobody renews an entry any more. Where
 * Redis has evicted one of them, the others go with it: what is left cannot be
 * counted, and whoever is there is entered again within an interval.
 */
import * as Either from "effect/Either"
import type { Target } from "../Broker/RedisStreams.ts"
import type * as Redis from "../internal/redis.ts"
import type { Stats } from "../Presence.ts"
import type { ClientInfo } from "../protocol/Publication.ts"
import * as Entry from "./Entry.ts"

/** Most expired entries that one script takes out. */
export const EXPIRED_CHUNK = 512

/** Entries that a script reads before it looks at how much that is. */
const LIST_CHUNK = 64

/** What the scripts answer instead of what was asked. */
const AGAIN = 1
const TOO_MUCH = 2

/** KEYS: entries, expiries, users. Where a call creates nothing, neither does what stands here. */
const prelude = `
local entries, expiries, users = KEYS[1], KEYS[2], KEYS[3]
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local there = redis.call("EXISTS", entries, expiries, users)
if there ~= 0 and there ~= 3 then redis.call("UNLINK", entries, expiries, users) end
local function user_of(entry)
  return string.sub(entry, (string.find(entry, "\\n", 1, true) or #entry) + 1)
end
local function count(changes)
  for user, change in pairs(changes) do
    if change ~= 0 and redis.call("HINCRBY", users, user, change) <= 0 then redis.call("HDEL", users, user) end
  end
end
local function take_out(clients)
  if #clients == 0 then return end
  local taken = redis.call("HMGET", entries, unpack(clients))
  redis.call("HDEL", entries, unpack(clients))
  redis.call("ZREM", expiries, unpack(clients))
  local changes = {}
  for _, entry in ipairs(taken) do
    if entry then
      local user = user_of(entry)
      changes[user] = (changes[user] or 0) - 1
    end
  end
  count(changes)
end
local function take_expired()
  local expired = redis.call("ZRANGEBYSCORE", expiries, "-inf", now, "LIMIT", 0, ${EXPIRED_CHUNK})
  take_out(expired)
  return #expired == ${EXPIRED_CHUNK}
end
`

/** The scripts that a client of these entries is opened with. */
export const scripts: Readonly<Record<string, Redis.Script>> = {
  // ARGV: ttl (ms), then client, entry of each. Those that are there as they are said to be are renewed even where others are refused.
  fanfareEnter: {
    numberOfKeys: 3,
    lua: `${prelude}
local ttl = tonumber(ARGV[1])
local clients, changed = {}, {}
for i = 2, #ARGV, 2 do clients[#clients + 1] = ARGV[i] end
local before = redis.call("HMGET", entries, unpack(clients))
for i, client in ipairs(clients) do
  if before[i] ~= ARGV[2 * i + 1] then
    changed[#changed + 1] = client
    changed[#changed + 1] = ARGV[2 * i + 1]
  end
end
local refusal
if #changed > 0 then
  local answer = redis.pcall("HSET", entries, unpack(changed))
  if type(answer) == "table" then refusal = answer end
end
local renewed, changes = {}, {}
for i, client in ipairs(clients) do
  local entry = ARGV[2 * i + 1]
  local is_changed = before[i] ~= entry
  if not (is_changed and refusal) then
    renewed[#renewed + 1] = now + ttl
    renewed[#renewed + 1] = client
  end
  if is_changed and not refusal then
    local user = user_of(entry)
    changes[user] = (changes[user] or 0) + 1
    if before[i] then
      local former = user_of(before[i])
      changes[former] = (changes[former] or 0) - 1
    end
  end
end
if #renewed > 0 then
  -- An instance with a shorter interval must not cut what others have entered.
  local ends = string.format("%.0f", now + math.max(ttl, redis.call("PTTL", entries)))
  redis.call("PEXPIREAT", entries, ends)
  redis.call("ZADD", expiries, unpack(renewed))
  count(changes)
  redis.call("PEXPIREAT", expiries, ends)
  redis.call("PEXPIREAT", users, ends)
end
-- Behind what may be refused, as nothing is any more after a write.
take_expired()
return refusal or 0`
  },
  // ARGV: client.
  fanfareLeave: { numberOfKeys: 3, lua: `${prelude}\ntake_out({ ARGV[1] })\ntake_expired()\nreturn 0` },
  // ARGV: most bytes. Answers client, entry of each.
  fanfarePresent: {
    numberOfKeys: 3,
    lua: `${prelude}
if take_expired() then return ${AGAIN} end
local most, bytes, cursor = tonumber(ARGV[1]), 0, "0"
local found, is_found = {}, {}
repeat
  local page = redis.call("HSCAN", entries, cursor, "COUNT", ${LIST_CHUNK})
  cursor = page[1]
  for i = 1, #page[2], 2 do
    local client, entry = page[2][i], page[2][i + 1]
    -- While Redis resizes the hash, a scan may find one twice.
    if not is_found[client] then
      is_found[client] = true
      bytes = bytes + #client + #entry
      if bytes > most then return ${TOO_MUCH} end
      found[#found + 1] = client
      found[#found + 1] = entry
    end
  end
until cursor == "0"
return found`
  },
  fanfareCount: {
    numberOfKeys: 3,
    lua: `${prelude}
if take_expired() then return ${AGAIN} end
return { redis.call("ZCARD", expiries), redis.call("HLEN", users) }`
  }
}

/** Enters clients, each once, for `ttl` milliseconds; those that are there already, for so long from now. */
export const enter = (
  { client, keys }: Target,
  channel: string,
  ttl: number,
  entries: ReadonlyArray<readonly [client: string, entry: string]>
): Promise<unknown> => client.run("fanfareEnter", ...keys.presence(channel), ttl, ...entries.flat())

/** Takes a client out, if it is there. */
export const leave = ({ client, keys }: Target, channel: string, who: string): Promise<unknown> =>
  client.run("fanfareLeave", ...keys.presence(channel), who)

/** Runs a script until nothing that has expired is left: each time, it takes a part of that out. */
const settled = (run: () => Promise<unknown>): Promise<unknown> =>
  run().then((answer) => (answer === AGAIN ? settled(run) : answer))

/** An entry of a newer version cannot be read: who it is of is counted, and not listed. */
const infoOf = (client: string, entry: string): ReadonlyArray<ClientInfo> =>
  Either.match(Entry.decode(client, entry), { onLeft: () => [], onRight: (info) => [info] })

/** All who are there; `undefined`: more than `maxBytes`. */
export const list = (
  { client, keys }: Target,
  channel: string,
  maxBytes: number
): Promise<ReadonlyArray<ClientInfo> | undefined> =>
  settled(() => client.run("fanfarePresent", ...keys.presence(channel), maxBytes)).then((answer) => {
    if (answer === TOO_MUCH) return undefined
    const found = answer as ReadonlyArray<string>
    const all: Array<ClientInfo> = []
    for (let index = 0; index + 1 < found.length; index += 2) {
      all.push(...infoOf(found[index] ?? "", found[index + 1] ?? ""))
    }
    return all
  })

/** How many are there. */
export const stats = ({ client, keys }: Target, channel: string): Promise<Stats> =>
  settled(() => client.run("fanfareCount", ...keys.presence(channel))).then((answer) => {
    const [clients, users] = answer as [number, number]
    return { clients, users }
  })
