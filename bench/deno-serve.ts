/** What `Deno.serve` and its WebSocket do with the same fan-out: a loop of `send`, one room. */
import process from "node:process"

const room = new Set<WebSocket>()

Deno.serve(
  {
    hostname: "127.0.0.1",
    port: 0,
    onListen: ({ port }) => void process.stdout.write(`listening on http://127.0.0.1:${port}\n`)
  },
  (request) => {
    const { response, socket } = Deno.upgradeWebSocket(request, { idleTimeout: 0 })
    socket.addEventListener("open", () => room.add(socket))
    socket.addEventListener("close", () => room.delete(socket))
    socket.addEventListener("message", ({ data }) => {
      for (const other of room) if (other.readyState === WebSocket.OPEN) other.send(data)
    })
    return response
  }
)
