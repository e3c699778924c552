/** What `Deno.serve` and its WebSocket do with the same fan-out: a loop of `send`, one room. */
const room = new Set<WebSocket>()

Deno.serve(
  {
    hostname: "127.0.0.1",
    port: 0,
    onListen: ({ port }) => console.log(`listening on http://127.0.0.1:${port}`)
  },
  (request) => {
    const { response, socket } = Deno.upgradeWebSocket(request, { idleTimeout: 0 })
    socket.onopen = () => room.add(socket)
    socket.onclose = () => room.delete(socket)
    socket.onmessage = ({ data }) => {
      for (const other of room) if (other.readyState === WebSocket.OPEN) other.send(data)
    }
    return response
  }
)
