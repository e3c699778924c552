/**
 * The streams of channels in Redis. Two keys for each channel: a hash `meta`
 * with the epoch, the offset of the newest publication and the `run_id` of the
 * Redis process that wrote it, and a Redis stream whose entries have offsets as
 * ids and envelopes as values.
 *
 * Each script is one step. Redis refuses a script's first write at `maxmemory`
 * and none after it, and that first write is the one that adds the publication
 * (or removes what is left of an evicted stream): so an offset is used only by a
 * publication that is in the stream, and what is published is in the stream.
 *
 * A stream that was written under another `run_id` gets a new epoch: a Redis
 * that was restarted, or one that has taken over, may lack the end of it. What
 * is left of it stays readable.
 */
import * as Duration from "effect/Duration"
import * as Either from "effect/Either"
import * as Broker from "../Broker.ts"
import * as History from "../History.ts"
import type * as Redis from "../internal/redis.ts"
import { type Publication, untraced } from "../protocol/Publication.ts"
import * as Envelope from "./Envelope.ts"

// `}` would end the hash tag that keeps the keys of a channel in one slot.
const tag = (channel: string): string => `{${channel.replace(/[%}]/g, encodeURIComponent)}}`

/** The names in Redis that belong to a channel. */
export interface Keys {
  readonly meta: (channel: string) => string
  readonly stream: (channel: string) => string
  readonly idempotency: (channel: string, key: string) => string
  /** Who is in it: entries, when they expire, and how many each user has. */
  readonly presence: (channel: string) => readonly [entries: string, expiries: string, users: string]
  /** Two keys that never exist, in different slots of a cluster. */
  readonly probe: readonly [string, string]
  /** Not keys: what instances subscribe to, for a channel and for control messages to all or to one of them. */
  readonly topic: (channel: string) => string
  readonly control: (instance?: string) => string
}

/**
 * The names under a prefix. Keys belong to a database of Redis, and Pub/Sub knows
 * no databases: there the names have its number, but for those of database 0.
 */
export const keys = (prefix: string, database = 0): Keys => {
  const at = database === 0 ? "" : `@${database}`
  return {
    meta: (channel) => `${prefix}:meta:${tag(channel)}`,
    stream: (channel) => `${prefix}:stream:${tag(channel)}`,
    idempotency: (channel, key) => `${prefix}:idempotency:${tag(channel)}:${key}`,
    presence: (channel) => [
      `${prefix}:presence:${tag(channel)}`,
      `${prefix}:presence-expiry:${tag(channel)}`,
      `${prefix}:presence-users:${tag(channel)}`
    ],
    probe: [`${prefix}:probe`, `${prefix}:probe:2`],
    topic: (channel) => `${prefix}:pub${at}:${channel}`,
    control: (instance) => `${prefix}:control${at}${instance === undefined ? "" : `:${instance}`}`
  }
}

/** Publications that a script takes from a stream at a time. */
const CHUNK = 16

const meta = `
local function read_meta(key, run_id)
  local m = redis.call("HMGET", key, "epoch", "offset", "run_id")
  return m[1], tonumber(m[2] or "0"), m[1] and m[3] == run_id
end
local function remove_orphan(key)
  if redis.call("EXISTS", key) == 1 then redis.call("DEL", key) end
end
`

/** KEYS: meta, stream. ARGV: run_id, new epoch, topic, envelope, size, ttl, meta ttl (ms). Answers epoch, offset. */
const append = `${meta}
local epoch, offset, is_own = read_meta(KEYS[1], ARGV[1])
if not epoch then remove_orphan(KEYS[2]) end
if not is_own then epoch = ARGV[2] end
offset = string.format("%.0f", offset + 1)
redis.call("XADD", KEYS[2], "MAXLEN", ARGV[5], offset .. "-0", "e", ARGV[4])
redis.call("HSET", KEYS[1], "epoch", epoch, "offset", offset, "run_id", ARGV[1])
redis.call("PEXPIRE", KEYS[2], ARGV[6])
redis.call("PEXPIRE", KEYS[1], ARGV[7])
local answer = epoch .. " " .. offset
`

const publishIt = `redis.call("PUBLISH", ARGV[3], '{"epoch":"' .. epoch .. '","offset":' .. offset .. ',' .. string.sub(ARGV[4], 2))`

const earlierOr = (key: number) => `
local earlier = redis.call("GET", KEYS[${key}])
if earlier then return earlier end
`

/** The scripts that a client of these streams is opened with. */
export const scripts: Readonly<Record<string, Redis.Script>> = {
  fanfareAppend: { numberOfKeys: 2, lua: `${append}${publishIt}\nreturn answer` },
  // Further KEYS: idempotency. Further ARGV: its window (ms).
  fanfareAppendOnce: {
    numberOfKeys: 3,
    lua: `${earlierOr(3)}${append}redis.call("SET", KEYS[3], answer, "PX", ARGV[8])\n${publishIt}\nreturn answer`
  },
  // KEYS: idempotency. ARGV: its window (ms), topic, envelope.
  fanfarePublishOnce: {
    numberOfKeys: 1,
    lua: `${earlierOr(1)}redis.call("SET", KEYS[1], "", "PX", ARGV[1])\nredis.call("PUBLISH", ARGV[2], ARGV[3])\nreturn ""`
  },
  // KEYS: meta, stream. ARGV: run_id, new epoch, ttl of an empty meta, of any other (ms), epoch and offset to read from (offset -1:
  // from the end), limit, most bytes, whether in reverse, whether all or nothing. Answers epoch, offset, then ids and envelopes.
  fanfareRead: {
    numberOfKeys: 2,
    lua: `${meta}
local epoch, offset, is_own = read_meta(KEYS[1], ARGV[1])
if not is_own then
  if not epoch then remove_orphan(KEYS[2]) end
  epoch = ARGV[2]
  redis.call("HSET", KEYS[1], "epoch", epoch, "offset", string.format("%.0f", offset), "run_id", ARGV[1])
end
redis.call("PEXPIRE", KEYS[1], offset > 0 and ARGV[4] or ARGV[3])
local page = { epoch, offset }
local since, limit, max_bytes = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local reverse, whole = ARGV[9] == "1", ARGV[10] == "1"
local bounded = since >= 0
if limit == 0 or (bounded and ARGV[5] ~= "" and ARGV[5] ~= epoch) then return page end
if whole and bounded and offset - since > limit then return page end
-- A chunk at a time: what is loaded beyond the bound costs Redis as much as what is sent.
local next_id = reverse and (bounded and since - 1 or math.huge) or (bounded and since + 1 or 0)
local bytes, count = 0, 0
while count < limit and next_id >= 0 do
  local chunk = math.min(limit - count, ${CHUNK})
  local from = next_id == math.huge and "+" or string.format("%.0f", next_id)
  local entries
  if reverse then
    entries = redis.call("XREVRANGE", KEYS[2], from, "-", "COUNT", chunk)
  else
    entries = redis.call("XRANGE", KEYS[2], from, "+", "COUNT", chunk)
  end
  for _, entry in ipairs(entries) do
    local id, envelope = entry[1], entry[2][2]
    bytes = bytes + #envelope
    if bytes > max_bytes and count > 0 then
      return whole and { epoch, offset } or page
    end
    count = count + 1
    page[#page + 1] = id
    page[#page + 1] = envelope
    next_id = tonumber(string.match(id, "^%d+")) + (reverse and -1 or 1)
  end
  if #entries < chunk then break end
end
return page`
  },
  // KEYS: meta of many channels. ARGV: run_id, then for each the ttl of an empty meta, and of any other (ms). Answers epoch ("" if lost), offset of each.
  fanfarePositions: {
    lua: `${meta}
local tops = {}
for i, key in ipairs(KEYS) do
  local is_meta, epoch, offset, is_own = pcall(read_meta, key, ARGV[1])
  if not is_meta then epoch, offset, is_own = "", 0, false end
  tops[#tops + 1] = is_own and epoch or ""
  tops[#tops + 1] = offset
  if is_own then redis.call("PEXPIRE", key, ARGV[2 * i + (offset > 0 and 1 or 0)]) end
end
return tops`
  }
}

/** Longer than any configuration means, and within what `PEXPIRE` takes. */
const LONGEST = Duration.toMillis("36500 days")

const milliseconds = (duration: Duration.Duration): number =>
  Math.min(Math.max(1, Math.ceil(Duration.toMillis(duration))), LONGEST)

const WINDOW = milliseconds(Broker.IDEMPOTENCY_WINDOW)

/** Channels in one position check: long enough to be few, short enough not to hold Redis up. */
export const POSITIONS_BATCH = 128

/** Where a publication is in its stream, by Redis's answer. */
export const positionOf = (answer: unknown): History.Position | undefined => {
  const [epoch, offset] = String(answer).split(" ")
  return epoch === undefined || offset === undefined ? undefined : { epoch, offset: Number(offset) }
}

/** A link to the Redis process `runId`, and the names that are used there. */
export interface Target {
  readonly client: Redis.Client
  readonly runId: string
  readonly keys: Keys
}

/**
 * Publishes by a script: adds to the stream where there is one, of which
 * `positionOf` reads the answer; where there is a key, only if that has not been
 * done with it.
 */
export const publish = (
  { client, runId, keys }: Target,
  channel: string,
  envelope: string,
  { retention, idempotencyKey }: Broker.PublishOptions
): Promise<unknown> => {
  const topic = keys.topic(channel)
  const once = idempotencyKey === undefined ? [] : [keys.idempotency(channel, idempotencyKey)]
  if (retention === undefined) return client.run("fanfarePublishOnce", ...once, WINDOW, topic, envelope)
  const at = [keys.meta(channel), keys.stream(channel)]
  const { size, ttl, metaTtl } = retention
  const about = [runId, History.newEpoch(), topic, envelope, size, milliseconds(ttl), milliseconds(metaTtl)]
  return once.length === 0
    ? client.run("fanfareAppend", ...at, ...about)
    : client.run("fanfareAppendOnce", ...at, ...once, ...about, WINDOW)
}

/** A publication of a newer version cannot be read: a hole, which whoever needs it is told of. */
const publicationOf = (epoch: string, id: string, envelope: string): ReadonlyArray<Publication> =>
  Either.match(Envelope.decode(envelope), {
    onLeft: () => [],
    onRight: (publication) => [{ ...untraced(publication), offset: Number.parseInt(id, 10), epoch }]
  })

/** Reads a part of a stream; begins one where there is none. */
export const read = (
  { client, runId, keys }: Target,
  { channel, retention }: Broker.Kept,
  { since, limit, maxBytes, reverse = false, whole = false }: History.Range
): Promise<History.Page> =>
  client
    .run(
      "fanfareRead",
      keys.meta(channel),
      keys.stream(channel),
      runId,
      History.newEpoch(),
      milliseconds(History.emptyTtl(retention)),
      milliseconds(retention.metaTtl),
      since?.epoch ?? "",
      since?.offset ?? -1,
      limit,
      maxBytes,
      reverse ? 1 : 0,
      whole ? 1 : 0
    )
    .then((answer) => {
      const [epoch, offset, ...entries] = answer as [string, number, ...Array<string>]
      const publications: Array<Publication> = []
      for (let index = 0; index + 1 < entries.length; index += 2) {
        publications.push(...publicationOf(epoch, entries[index] ?? "", entries[index + 1] ?? ""))
      }
      return { epoch, offset, publications }
    })

/** The tops of at most `POSITIONS_BATCH` streams. */
export const positions = (
  { client, runId, keys }: Target,
  kept: ReadonlyArray<Broker.Kept>
): Promise<ReadonlyArray<History.Position | undefined>> =>
  client
    .run(
      "fanfarePositions",
      kept.length,
      ...kept.map(({ channel }) => keys.meta(channel)),
      runId,
      ...kept.flatMap(({ retention }) => [milliseconds(History.emptyTtl(retention)), milliseconds(retention.metaTtl)])
    )
    .then((answer) => {
      const tops = answer as ReadonlyArray<string | number>
      return kept.map((_, index) => {
        const epoch = String(tops[2 * index])
        return epoch === "" ? undefined : { epoch, offset: Number(tops[2 * index + 1]) }
      })
    })

/** Removes the publications of a stream. */
export const remove = ({ client, keys }: Target, channel: string): Promise<unknown> =>
  client.redis.del(keys.stream(channel))
