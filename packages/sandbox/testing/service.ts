/** A minimal daemon: answers on `METRICS_PORT`, counts, ends on SIGTERM. */
import { createServer } from 'node:http'

console.log(JSON.stringify({ leaked: process.env.INDEXER_CONSUMER ?? null, given: process.env.GIVEN }))
if (process.env.GIVEN === 'broken') process.exit(78)

const started = Date.now()
const server = createServer((request, response) => {
  if (request.url === '/ready' && Date.now() - started < 300) response.statusCode = 503
  response.end(
    request.url === '/metrics' ? 'sluice_x_total{kind="a\\"b",n="1"} 2\nsluice_x_total{kind="c",n="1"} 3\n' : '{}',
  )
})
server.listen(Number(process.env.METRICS_PORT), '127.0.0.1')
process.on('SIGTERM', () => process.exit(process.env.GIVEN === 'untidy' ? 1 : 0))
