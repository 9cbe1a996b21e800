import { once } from 'node:events'
import { connect } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { FatalError } from './errors.ts'
import { HealthServer } from './health.ts'
import { Metrics } from './metrics.ts'
import { Readiness } from './readiness.ts'

let open: HealthServer[] = []
afterEach(async () => {
  await Promise.all(open.map((server) => server.close()))
  open = []
})

async function serve(port = 0) {
  const identity = { role: 'indexer', build: 'b1' }
  const metrics = new Metrics(identity)
  const readiness = new Readiness()
  const server = await HealthServer.listen({ ...identity, metrics, readiness, port })
  open.push(server)
  const get = async (path: string, init?: RequestInit) => {
    const response = await fetch(`http://127.0.0.1:${server.port}${path}`, init)
    const [type, cache] = ['content-type', 'cache-control'].map((name) => response.headers.get(name))
    return { status: response.status, type, cache, text: await response.text() }
  }
  return { server, readiness, metrics, get }
}

test('/health answers while the process is alive, ready or not', async () => {
  const { get, readiness } = await serve()
  readiness.block('postgres', 'away')
  const { status, text } = await get('/health')
  expect(status).toBe(200)
  expect(JSON.parse(text)).toEqual({
    alive: true,
    role: 'indexer',
    build: 'b1',
    uptimeSeconds: expect.any(Number) as number,
  })
})

test('/ready is 503 while anybody blocks, with every reason, and 200 after the last one cleared', async () => {
  const { get, readiness } = await serve()
  const ready = async () => {
    const { status, text } = await get('/ready')
    return [status, JSON.parse(text) as { reasons: string[]; ready: boolean; lagSeconds?: number }] as const
  }
  expect(await ready()).toEqual([200, { ready: true, reasons: [], role: 'indexer', build: 'b1' }])
  readiness.block('postgres', 'connection refused, next try in 3 s')
  readiness.block('redis', 'starting')
  readiness.block('postgres', 'cannot reach postgres://app:s3cret@db/sluice')
  expect(await ready()).toEqual([
    503,
    {
      ready: false,
      reasons: ['postgres: cannot reach postgres://app:***@db/sluice', 'redis: starting'],
      role: 'indexer',
      build: 'b1',
    },
  ])
  readiness.clear('postgres')
  expect((await ready())[0]).toBe(503)
  readiness.clear('redis')
  readiness.clear('never blocked')
  expect((await ready())[0]).toBe(200)
  readiness.setLag('firehose_live', 2)
  readiness.setLag('firehose_backfill', 90)
  readiness.setLag('firehose_live', 1)
  expect((await ready())[1].lagSeconds).toBe(90)
})

test('/metrics is what Prometheus reads', async () => {
  const { get, metrics } = await serve()
  metrics.counter({ name: 'sluice_frames_total', help: 'Frames taken in.' }).inc(3)
  const { status, type, text, cache } = await get('/metrics')
  expect(cache).toBe('no-store')
  expect([status, type]).toEqual([200, 'text/plain; version=0.0.4; charset=utf-8'])
  expect(text).toContain(
    '# HELP sluice_frames_total Frames taken in.\n# TYPE sluice_frames_total counter\nsluice_frames_total 3\n',
  )
})

test('/metrics says why when it cannot be rendered, and the rest is answered as ever', async () => {
  const { get, metrics } = await serve()
  metrics.render = () => Promise.reject(new Error('no memory'))
  const { status, type, text } = await get('/metrics')
  expect([status, type]).toEqual([500, 'application/json'])
  expect(JSON.parse(text)).toEqual({ error: 'Error: no memory' })
  expect((await get('/health')).status).toBe(200)
})

test('anything else is refused with a hint', async () => {
  const { get } = await serve()
  expect(await get('/')).toMatchObject({ status: 404, text: expect.stringContaining('/ready') as string })
  expect(await get('/health', { method: 'POST' })).toMatchObject({ status: 405 })
  expect(await get('/health?x=1', { method: 'HEAD' })).toMatchObject({ status: 200, text: '' })
})

test('a port that is taken is a FatalError that says what to do', async () => {
  const { server } = await serve()
  await expect(serve(server.port)).rejects.toThrow(FatalError)
  await expect(serve(server.port)).rejects.toThrow(/port \d+ .*EADDRINUSE.*METRICS_PORT/)
})

test('closing cuts open connections and frees the port', async () => {
  const { server, get } = await serve()
  await get('/health') // leaves a connection open for the next request
  const halfway = connect(server.port, '127.0.0.1')
  await once(halfway, 'connect')
  await new Promise((resolve) => halfway.write('GET /health HT', resolve))
  await get('/health') // by now the server has begun to read the other
  await Promise.all([server.close(), once(halfway, 'close')])
  open = []
  await serve(server.port)
})
