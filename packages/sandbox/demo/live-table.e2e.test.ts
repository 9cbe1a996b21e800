/** What the live table shows while the stores are away: it outlives that, and what runs beside it with it. */
import { expect, onTestFinished, test, vi } from 'vitest'
import { FigureReader } from './figures.ts'
import { showLive } from './live-table.ts'
import { Daemons, Stores } from './stack.ts'
import { startDaemon } from '../daemon.ts'

const PACE = { lineMs: 200, patienceMs: 1_000 }

/** Shows figures of real stores; `said` is the newest line. */
async function show() {
  const stack = new AsyncDisposableStack()
  onTestFinished(() => stack.disposeAsync())
  const stores = stack.use(await Stores.start())
  const env = { REDIS_URL: stores.redis.url(), BACKFILLER_CONSUMER: 'one', LOG_LEVEL: 'warn' }
  const backfiller = stack.use(await startDaemon({ role: 'backfiller', env }))
  const reader = stack.use(await FigureReader.open(stores, new Daemons([backfiller], new AsyncDisposableStack())))
  const lines: string[] = []
  const log = vi.spyOn(console, 'log').mockImplementation((line: string) => void lines.push(line))
  stack.defer(() => log.mockRestore())
  const stopping = new AbortController()
  stack.defer(() => stopping.abort())
  const shown = showLive({ reader, headline: () => 'head', signal: stopping.signal, pace: PACE })
  const says = (text: RegExp) => expect.poll(() => lines.at(-1), { timeout: 60_000 }).toMatch(text)
  const ends = async (): Promise<void> => {
    stopping.abort()
    await shown
  }
  return { stores, says, ends }
}

const FIGURES = /^head · firehose_live 0 /

test('the live table says which store is away, and goes on when it is back', async () => {
  const { stores, says, ends } = await show()
  await says(FIGURES)
  await stores.redis.kill()
  await says(/^head · cannot be read for [\d.]+ s: Redis: /)
  await stores.redis.start()
  await says(FIGURES)
  await stores.postgres.kill()
  await says(/^head · cannot be read for [\d.]+ s: PostgreSQL: /)
  await stores.postgres.start()
  await says(FIGURES)
  await ends()
})

test('the live table says that a store does not answer, outlives its connection to it, and ends while it is silent', async () => {
  const { stores, says, ends } = await show()
  await says(FIGURES)
  stores.redis.pause()
  await says(/^head · cannot be read for [\d.]+ s: no answer yet/)
  // Given up after its silence: the command that waited is rejected.
  await says(/^head · cannot be read for [\d.]+ s: Redis: /)
  stores.redis.resume()
  await says(FIGURES)
  const { pid } = stores.postgres
  process.kill(pid, 'SIGSTOP')
  try {
    await says(/^head · cannot be read for [\d.]+ s: no answer yet/)
    await ends()
  } finally {
    process.kill(pid, 'SIGCONT')
  }
})
