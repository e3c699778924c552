/** A link to a Redis that answers, and does not do its work: replicas, nodes of a cluster, stalls. */
import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { rmSync } from "node:fs"
import { OPEN } from "./support/history.ts"
import * as Http from "./support/http.ts"
import { live } from "./support/it.ts"
import * as Proxy from "./support/proxy.ts"
import * as Redis from "./support/redis.ts"
import * as Link from "./support/redisLink.ts"
import * as Server from "./support/server.ts"
import * as Socket from "./support/socket.ts"
import { eventually } from "./support/wait.ts"

/** No channel has history: what is published while the link is at the wrong Redis would be lost. */
const channel = { namespaces: [{ name: "bare", ...OPEN }] }

const PUBLICATION = { data: "1", json: true }

const urlOf = (port: number): string => `redis://127.0.0.1:${port}`

describe("a Redis that becomes a replica", () => {
  live(
    "by FAILOVER: Degraded with READONLY, not ready, one warning; live with the new master, where all is heard",
    () =>
      Effect.gen(function* () {
        const old = yield* Redis.start()
        const next = yield* Redis.start()
        yield* Link.follow(next, old)
        let port = old.port
        const proxy = yield* Proxy.start(() => port)
        const server = yield* Server.start({ config: { redis_url: urlOf(proxy.port), channel } })
        const reader = yield* Socket.open(`${server.ws}/channels/bare:x`)
        yield* server.publisher.publish("bare:x", "before")
        yield* reader.gets("before")
        const before = yield* Link.connections(old)

        yield* old.use((client) => client.call("FAILOVER"))
        yield* eventually(
          server.broker.state.get,
          (state) =>
            state._tag === "Degraded" && state.cause.startsWith("READONLY You can't write against a read only replica"),
          "the broker is degraded, with Redis's words"
        )
        expect((yield* Http.send(`${server.http}/health/ready`)).status).toBe(503)
        // Redis would have taken it.
        expect(yield* Effect.flip(server.publisher.publish("bare:x", "into the void"))).toMatchObject({
          reason: "NotLive"
        })
        port = next.port
        yield* eventually(server.broker.state.get, ({ _tag }) => _tag === "Live", "the broker is live")
        expect((yield* Http.send(`${server.http}/health/ready`)).status).toBe(200)
        const after = yield* Link.connections(old)
        expect([before.length, after.filter((one) => before.includes(one))]).toEqual([2, []])
        const other = yield* Server.start({ config: { redis_url: next.url, channel } })
        yield* other.publisher.publish("bare:x", "after")
        yield* reader.gets("after")
        expect(server.logs.filter((line) => line.startsWith("WARN broker degraded"))).toEqual([
          expect.stringMatching(/^WARN broker degraded: redis at 127\.0\.0\.1:\d+: READONLY .*; retrying$/)
        ])
        expect(server.metrics.brokerLinkLosses.value).toBe(1)
        expect(reader.received.join()).not.toContain("into the void")
      })
  )

  live("that takes writes (replica-read-only no): its role ends the link", () =>
    Effect.gen(function* () {
      const master = yield* Redis.start()
      const redis = yield* Redis.start(["--replica-read-only", "no"])
      const one = yield* Link.start(redis.url)
      yield* one.becomes("Live")
      yield* Link.follow(redis, master)
      expect(yield* one.fails(/replica/)).toBe(
        `it is a replica of 127.0.0.1:${master.port} (role:slave): redis_url has to name the master`
      )
    })
  )

  live("without its master (MASTERDOWN): Degraded with Redis's words, and live once it is a master again", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start(["--replica-serve-stale-data", "no"])
      const nobody = yield* Redis.freePort
      const one = yield* Link.start(redis.url)
      yield* one.becomes("Live")
      yield* redis.use((client) => client.replicaof("127.0.0.1", nobody))
      yield* one.fails(/MASTERDOWN|replica of/)
      expect(one.lines("WARN")).toEqual([expect.stringMatching(/MASTERDOWN Link with MASTER is down/)])
      yield* redis.use((client) => client.call("REPLICAOF", "NO", "ONE"))
      yield* one.becomes("Live")
      expect(one.lines("WARN").length).toBe(1)
    })
  )

  live("a command that it refuses ends the link at once, without the heartbeat", () =>
    Effect.gen(function* () {
      // Neither INFO nor the write of the heartbeat may be called.
      const redis = yield* Redis.start(
        "--user default on nopass ~* &* +@all --user app on >pw ~* &* +@all -info -unlink".split(" ")
      )
      const one = yield* Link.start(`redis://app:pw@127.0.0.1:${redis.port}`)
      yield* one.becomes("Live")
      const nobody = yield* Redis.freePort
      yield* redis.use((client) => client.replicaof("127.0.0.1", nobody))
      const retention = { size: 10, ttl: "1 minute", metaTtl: "1 minute" } as never
      const refused = yield* Effect.flip(one.broker.publish("kept", PUBLICATION, { retention }))
      expect(refused.message).toMatch(/^publish "kept": Failed \(READONLY /)
      yield* eventually(
        Effect.sync(() => one.metrics.brokerLinkLosses.value),
        (losses) => losses === 1,
        "the link is given up"
      )
    })
  )
})

describe("a Redis that is a replica from the start", () => {
  live("is said, with its master, in one warning; the link opens once it is a master", () =>
    Effect.gen(function* () {
      const master = yield* Redis.start()
      const redis = yield* Redis.start()
      yield* Link.follow(redis, master)
      const one = yield* Link.start(redis.url)
      expect(yield* one.fails(/./)).toMatch(/^(not connected yet|it is a replica of)/)
      yield* one.fails(/^it is a replica of 127\.0\.0\.1:\d+ \(role:slave\): redis_url has to name the master$/)
      yield* redis.use((client) => client.call("REPLICAOF", "NO", "ONE"))
      yield* one.becomes("Live")
      expect(one.lines("WARN").length).toBe(1)
    })
  )

  live("is found by the write of the heartbeat where INFO is denied", () =>
    Effect.gen(function* () {
      const master = yield* Redis.start()
      const redis = yield* Redis.start(
        "--user default on nopass ~* &* +@all --user app on >pw ~* &* +@all -info".split(" ")
      )
      yield* Link.follow(redis, master)
      const one = yield* Link.start(`redis://app:pw@127.0.0.1:${redis.port}`)
      yield* one.fails(/^READONLY /)
      expect(one.lines("INFO").filter((line) => line.includes("broker live"))).toEqual([])
    })
  )
})

describe("a node of a Redis Cluster", () => {
  const cluster = (...extra: ReadonlyArray<string>) =>
    Effect.gen(function* () {
      const node = yield* Redis.start(["--cluster-enabled", "yes", ...extra])
      yield* node.use(async (client) => {
        await client.call("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
      })
      yield* eventually(
        node.use((client) => client.call("CLUSTER", "INFO")),
        (info) => String(info).includes("cluster_state:ok"),
        "the node serves every slot"
      )
      return node
    })

  live("that has every slot is refused when the link opens, with what to write instead", () =>
    Effect.gen(function* () {
      const node = yield* cluster()
      const one = yield* Link.start(node.url)
      expect(yield* one.fails(/cluster/i)).toBe(
        "it is a node of a Redis Cluster (redis_mode:cluster), which is not supported: redis_url has to name a Redis with cluster-enabled no"
      )
    })
  )

  live("is refused too where INFO is denied, and where a database is named", () =>
    Effect.gen(function* () {
      const node = yield* cluster(
        ..."--user default on nopass ~* &* +@all --user app on >pw ~* &* +@all -info".split(" ")
      )
      const blind = yield* Link.start(`redis://app:pw@127.0.0.1:${node.port}`)
      yield* blind.fails(/^CROSSSLOT /)
      const numbered = yield* Link.start(`${node.url}/2`)
      yield* numbered.fails(/redis_mode:cluster/)
    })
  )
})

/** Holds Redis up until it is killed, 20 s at most. */
const SPIN = `
local function now() return tonumber(redis.call("TIME")[1]) end
local ends = now() + 20
while now() < ends do end`

describe("a Redis that does no work for a time", () => {
  live("LOADING: Degraded, with its words and the same connections; then what was missed is read, and it is live", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start(
        "--enable-debug-command local --loading-process-events-interval-bytes 1024 --key-load-delay 0".split(" ")
      )
      const one = yield* Link.start(redis.url)
      yield* one.becomes("Live")
      yield* one.broker.subscribe("bare")
      const before = yield* Link.connections(redis)
      // 300 keys of 10 ms each.
      yield* redis.use((client) =>
        client.eval("for i = 1, 300 do redis.call('SET', 'k' .. i, string.rep('x', 1024)) end", 0)
      )
      yield* redis.use((client) => client.config("SET", "key-load-delay", "10000"))
      const resyncs = one.resyncs()
      yield* redis.use((client) => client.call("DEBUG", "RELOAD"))
      // The answer comes when it is loaded: the heartbeat has met it meanwhile.
      yield* one.becomes("Live")
      expect(one.lines("WARN")).toEqual([
        expect.stringMatching(/: LOADING Redis is loading the dataset in memory; retrying$/)
      ])
      expect(yield* Link.connections(redis)).toEqual(before)
      expect(one.metrics.brokerLinkLosses.value).toBe(0)
      expect(one.metrics.brokerOutageSeconds.value).toBeGreaterThan(0)
      expect(one.resyncs()).toBe(resyncs + 1)
      yield* one.broker.publish("bare", PUBLICATION)
      yield* eventually(
        Effect.sync(() => one.heard.length),
        (count) => count === 1,
        "it is heard"
      )
    })
  )

  live("LOADING at the start: the link waits on its connections, and is live when it is loaded", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start(
        "--enable-debug-command local --loading-process-events-interval-bytes 1024 --rdbcompression no".split(" ")
      )
      yield* redis.use((client) =>
        client.eval("for i = 1, 300 do redis.call('SET', 'k' .. i, string.rep('x', 1024)) end", 0)
      )
      // Redis looks at its connections after each key: ten times a second, until the delay is taken away.
      yield* redis.use((client) => client.config("SET", "key-load-delay", "100000"))
      const hands = yield* Redis.client(redis)
      // A client that comes while Redis loads sends nothing until it has loaded.
      const eyes = yield* Redis.client(redis)
      yield* Effect.promise(() => eyes.ping())
      const reloaded = yield* Effect.fork(Effect.promise(() => hands.call("DEBUG", "RELOAD")))
      yield* eventually(
        Effect.promise(() => eyes.info("persistence")),
        (info) => info.includes("\nloading:1"),
        "it is loading"
      )
      const one = yield* Link.start(redis.url)
      yield* one.fails(/^LOADING /)
      const names = yield* Link.connections({ use: (run) => Effect.promise(() => run(eyes)) })
      expect(names.length).toBe(2)
      yield* Effect.promise(() => eyes.config("SET", "key-load-delay", "0"))
      yield* one.becomes("Live")
      expect(one.lines("WARN").length).toBe(1)
      yield* reloaded.await
    })
  )

  live("BUSY with a script: Degraded with its words, and live on the same connections when that has ended", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start(["--lua-time-limit", "50"])
      const one = yield* Link.start(redis.url)
      yield* one.becomes("Live")
      const before = yield* Link.connections(redis)
      const hands = yield* Redis.client(redis)
      const killer = yield* Redis.client(redis)
      yield* Effect.promise(() => killer.ping())
      const busy = yield* Effect.fork(Effect.exit(Effect.tryPromise(() => hands.eval(SPIN, 0))))
      yield* one.fails(/^BUSY Redis is busy running a script/)
      yield* Effect.promise(() => killer.call("SCRIPT", "KILL"))
      yield* one.becomes("Live")
      expect(yield* Link.connections(redis)).toEqual(before)
      expect(one.metrics.brokerLinkLosses.value).toBe(0)
      yield* busy.await
    })
  )
})

describe("a heartbeat that is answered with an error", () => {
  live(
    "MISCONF, because the folder of the dump is gone: live, one warning, counted; publishes without history pass",
    () =>
      Effect.gen(function* () {
        const redis = yield* Redis.start()
        const one = yield* Link.start(redis.url)
        yield* one.becomes("Live")
        yield* one.broker.subscribe("bare")
        yield* redis.use(async (client) => {
          const [, folder = ""] = (await client.config("GET", "dir")) as Array<string>
          await client.config("SET", "save", "3600 1")
          rmSync(folder, { recursive: true })
          await client.set("changed", "1")
          await client.bgsave()
        })
        yield* eventually(
          redis.use((client) => client.info("persistence")),
          (info) => info.includes("rdb_last_bgsave_status:err"),
          "the dump has failed"
        )
        yield* eventually(
          redis.use((client) => client.info("commandstats")),
          (stats) => Number(/cmdstat_ping:.*rejected_calls=(\d+)/.exec(stats)?.[1]) >= 6,
          "three heartbeats of each client are refused"
        )
        for (let index = 0; index < 5; index++) yield* one.broker.publish("bare", PUBLICATION)
        yield* eventually(
          Effect.sync(() => one.heard.length),
          (count) => count === 5,
          "all are heard"
        )
        expect(one.metrics.brokerLinkLosses.value).toBe(0)
        expect((yield* one.broker.state.get)._tag).toBe("Live")
        expect(one.metrics.brokerRefusals("misconf").value).toBeGreaterThanOrEqual(3)
        expect(one.lines("WARN")).toEqual([
          expect.stringMatching(/refuses to answer a heartbeat \(PING\): MISCONF Redis is configured to save RDB/)
        ])
      })
  )

  live("NOPERM for the write: live, and one warning that names the command, however often the link opens", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start(
        "--user default on nopass ~* &* +@all --user app on >pw ~* &* +@all -unlink".split(" ")
      )
      const one = yield* Link.start(`redis://app:pw@127.0.0.1:${redis.port}`)
      yield* one.becomes("Live")
      yield* one.broker.subscribe("bare")
      yield* one.refuses("noperm", 1)
      yield* redis.use((client) => client.call("CLIENT", "KILL", "TYPE", "pubsub"))
      yield* one.refuses("noperm", 2)
      yield* one.becomes("Live")
      const warnings = one.lines("WARN").filter((line) => !line.includes("broker degraded"))
      expect(warnings).toEqual([expect.stringMatching(/does not permit UNLINK to the heartbeat: NOPERM .*'unlink'/)])
    })
  )
})

describe("the heartbeat", () => {
  live("leaves nothing behind: no key, and both clients close with the scope", () =>
    Effect.gen(function* () {
      const redis = yield* Redis.start()
      const scope = yield* Scope.make()
      const one = yield* Scope.extend(Link.start(redis.url), scope)
      yield* one.becomes("Live")
      const beats = redis.use((client) => client.info("commandstats"))
      yield* eventually(
        beats,
        (stats) => Number(/cmdstat_unlink:calls=(\d+)/.exec(stats)?.[1]) >= 4,
        "two heartbeats of each"
      )
      expect(yield* redis.use((client) => client.dbsize())).toBe(0)
      yield* Scope.close(scope, Exit.void)
      yield* eventually(Link.connections(redis), (names) => names.length === 0, "both are closed")
    })
  )
})
