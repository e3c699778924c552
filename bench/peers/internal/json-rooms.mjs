// The client's half of the protocol that the servers of bench/servers without a protocol of their own speak.
export const jsonRooms = {
  path: "/",
  greet: (room) => [`{"type":"join","room":"${room}"}`],
  hear: (text, room) => (text === `{"type":"joined","room":"${room}"}` ? { ready: true } : {}),
  publish: (room, payload) => `{"type":"publish","room":"${room}","data":"${payload}"}`,
  answer: () => undefined
}
