/**
 * Counts the clients of each room of a server that has topics of its own: Redis is subscribed to with the first client
 * of a room, and left with the last one.
 */
export const makeRooms = (subscribe, unsubscribe) => {
  const rooms = new Map()
  return {
    /** Resolves once Redis has confirmed. */
    join: (name) => {
      let room = rooms.get(name)
      if (room === undefined) {
        room = { clients: 0, subscribed: subscribe(name) }
        rooms.set(name, room)
      }
      room.clients += 1
      return room.subscribed
    },
    leave: (name) => {
      const room = rooms.get(name)
      room.clients -= 1
      if (room.clients > 0) return
      rooms.delete(name)
      unsubscribe(name)
    }
  }
}
