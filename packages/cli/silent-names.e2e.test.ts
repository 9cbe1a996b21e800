/**
 * O2: names that no name server answers, such as those of containers that are stopped, make nothing else look silent.
 * Only root may give a process a name server of its own.
 */
import { spawn, spawnSync } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { sharedEnvironment } from '@sluice/sandbox/children.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'

const MAIN = fileURLToPath(new URL('main.ts', import.meta.url))
const NAME_SERVER = '127.0.53.53'
const SILENT = ['one', 'two', 'three', 'four'] // each within .example
const isRoot = process.getuid?.() === 0 && spawnSync('unshare', ['--mount', 'true']).status === 0

/** Keeps which name each question is for, and never answers. */
async function silentNameServer(stack: AsyncDisposableStack): Promise<string[]> {
  const asked: string[] = []
  const socket = stack.adopt(createSocket('udp4'), (open) => void open.close())
  // The name stands behind 12 bytes of header, as labels with their lengths.
  socket.on('message', (question) => asked.push(question.toString('latin1', 13, 13 + question[12]!)))
  socket.bind(53, NAME_SERVER)
  await once(socket, 'listening')
  return asked
}

async function livingDaemon(stack: AsyncDisposableStack): Promise<string> {
  const answers = new Map([
    ['/health', '{"role":"indexer","build":"v1","uptimeSeconds":3}'],
    ['/ready', '{"ready":true}'],
    ['/metrics', 'sluice_up 1\n'],
  ])
  const server = stack.use(createServer(({ url }, response) => void response.end(answers.get(url!))))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return `http://localhost:${(server.address() as AddressInfo).port}`
}

interface Status {
  daemons: { url: string; silent?: string; role?: string }[]
  redis: { away?: string }
  postgres: { away?: string }
}

test.skipIf(!isRoot)(
  'names that nobody answers do not make a living daemon or a store silent',
  async ({ redisUrl, database }) => {
    await using stack = new AsyncDisposableStack()
    const asked = await silentNameServer(stack)
    const living = await livingDaemon(stack)
    const folder = mkdtempSync(join(tmpdir(), 'sluice-names-'))
    stack.defer(() => rmSync(folder, { recursive: true }))
    const file = join(folder, 'resolv.conf')
    // A look-up is given up later than a daemon (3 s) or a store (5 s).
    writeFileSync(file, `nameserver ${NAME_SERVER}\noptions timeout:8 attempts:1\n`)
    const env = {
      ...sharedEnvironment(),
      REDIS_URL: redisUrl.replace('127.0.0.1', 'localhost'),
      DB_POSTGRES_URL: database.replace('127.0.0.1', 'localhost'),
      SLUICE_DAEMONS: [...SILENT.map((name) => `http://${name}.example:4000`), living].join(','),
    }
    const inside = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
    const command = ['sh', '-c', inside, file, process.execPath, MAIN, 'status', '--json']
    const child = spawn('unshare', ['--mount', ...command], { env, stdio: ['ignore', 'pipe', 'inherit'] })
    stack.defer(() => void child.kill('SIGKILL'))
    const [stdout, [code]] = await Promise.all([text(child.stdout), once(child, 'exit')])

    expect(code).toBe(0)
    const { daemons, redis, postgres } = JSON.parse(stdout) as Status
    expect([...new Set(asked)].toSorted()).toEqual(SILENT.toSorted())
    const answered = daemons.filter(({ silent }) => silent === undefined)
    expect(answered).toEqual([expect.objectContaining({ url: living, role: 'indexer' })])
    expect([redis.away, postgres.away]).toEqual([undefined, undefined])
  },
)
