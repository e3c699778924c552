import { describe, expect, it } from "@effect/vitest"
import * as Reply from "../src/internal/redisReply.ts"

describe("codeOf and wordsOf", () => {
  const of = (message: string) => [Reply.codeOf(Reply.replyError(message)), Reply.wordsOf(Reply.replyError(message))]

  it("are the first word, where it is in capitals, and all of it", () => {
    const oom = "OOM command not allowed when used memory > 'maxmemory'."
    expect(of(oom)).toEqual(["OOM", oom])
    expect(of("ERR DB index is out of range")).toEqual(["ERR", "ERR DB index is out of range"])
    expect(of("OOM")).toEqual(["OOM", "OOM"])
    expect(of("no code at all")).toEqual(["ERR", "no code at all"])
  })

  it("are of what a script met: Redis 6 wraps it, Redis 7 says where", () => {
    const oom = "OOM command not allowed when used memory > 'maxmemory'."
    const sha = "a".repeat(40)
    expect(of(`ERR Error running script (call to f_${sha}): @user_script:7: @user_script: 7: -${oom}`)).toEqual([
      "OOM",
      oom
    ])
    expect(of(`ERR Error running script (call to f_${sha}): @user_script:7: ${oom}`)).toEqual(["OOM", oom])
    expect(of(`${oom} script: ${sha}, on @user_script:7.`)).toEqual(["OOM", oom])
    const forbidden = "ERR The user executing the script can't run this command or subcommand"
    expect(of(forbidden)).toEqual(["NOPERM", forbidden])
  })

  it("hold no argument of the command, and are one short line", () => {
    const unknown = "ERR unknown command 'evalsha', with args beginning with: 'abc' '1' 'fanfare:meta:{secret}' "
    expect(of(unknown)).toEqual(["ERR", "ERR unknown command 'evalsha'"])
    expect(of("ERR unknown command `EVAL`, with args beginning with: `local a\nlocal b`, ")).toEqual([
      "ERR",
      "ERR unknown command `EVAL`"
    ])
    expect(of("ERR a\r\nb")).toEqual(["ERR", "ERR a b"])
    expect(Reply.wordsOf(Reply.replyError(`ERR ${"x".repeat(1000)}`)).length).toBe(301)
  })
})

describe("verdictOf", () => {
  const verdict = (message: string) => Reply.verdictOf(Reply.replyError(message))

  it("ends a link to what is no master of its own, and to one that asks who it is", () => {
    const ends = ["READONLY a", "MASTERDOWN a", "MOVED 1 b", "ASK 1 b", "CROSSSLOT a", "CLUSTERDOWN a", "NOAUTH a"]
    expect(new Set(ends.map(verdict))).toEqual(new Set(["Ends"]))
  })

  it("waits for what passes by itself", () => {
    expect(["LOADING a", "BUSY a"].map(verdict)).toEqual(["Stalls", "Stalls"])
  })

  it("takes all else for the refusal of one command", () => {
    const others = ["OOM a", "MISCONF a", "NOPERM a", "NOREPLICAS a", "WRONGTYPE a", "ERR a", "EXECABORT a", "a"]
    expect(new Set(others.map(verdict))).toEqual(new Set(["Refuses"]))
  })
})
