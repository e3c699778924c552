// Says that the server which starts it takes clients, for servers whose own log does not, or says it too early.
// Arguments: the server's process, which started this one, its port, and the path that is answered with 200 from then
// on. Ends with the server at the latest, which may have ended before this began.
import { setTimeout } from "node:timers/promises"

const [server, port, path] = process.argv.slice(2)
const url = `http://127.0.0.1:${port}`

const ready = () =>
  fetch(`${url}${path}`).then(
    ({ ok }) => ok,
    () => false
  )

while (process.ppid === Number(server)) {
  if (await ready()) {
    process.stdout.write(`listening on ${url}\n`)
    break
  }
  await setTimeout(50)
}
