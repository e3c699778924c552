// What the benchmark compares, in the order of its tables. A peer is how its instances are started, and what a client
// says and hears: { name, about, unavailable, server, path, greet, hear, publish, answer }.
//
//   hasPackages                    whether it needs those of bench/package.json: 340 MB, installed when it is chosen
//   unavailable()                  why it cannot run here, or undefined
//   server({ port, redisPort })    the command of one instance, and what its environment has besides; once it takes
//                                  clients it prints `listening on http://HOST:PORT`
//   path                           of the upgrade request
//   greet(room)                    what a client sends right after the upgrade
//   hear(text, room)               for every frame until `ready`, joined to the room: what to `send`, whether it is
//   publish(room, payload)         the frame that publishes
//   ready                          a path that is answered with 200 once Redis is connected, where listening is not enough
//   answer(text)                   what to answer to a frame, or undefined: the peer's ping
import batched from "./batched.mjs"
import bun from "./bun.mjs"
import centrifugo from "./centrifugo.mjs"
import fanfareRecovery from "./fanfare-recovery.mjs"
import fanfare from "./fanfare.mjs"
import handWritten from "./hand-written.mjs"
import socketIo from "./socket-io.mjs"
import uwebsockets from "./uwebsockets.mjs"

// What a peer says about itself is asked when it is told: by then its packages are installed.
const named = (id, peer) => Object.defineProperties({ id }, Object.getOwnPropertyDescriptors(peer))

export const peers = [
  named("fanfare", fanfare),
  named("batched", batched),
  named("hand-written", handWritten),
  named("socket-io", socketIo),
  named("bun", bun),
  named("uwebsockets", uwebsockets),
  named("centrifugo", centrifugo)
]

/**
 * What stands for a peer where clients come back and have missed something: `greet(room, position)` and
 * `hear(text, room, position)` take the position of such a client, and `hear` tells the `position` of one that is
 * ready, whether it has `recovered`, and how many publications it had `missed`.
 */
export const recovering = { fanfare: { ...named("fanfare", fanfareRecovery), recovers: true } }
