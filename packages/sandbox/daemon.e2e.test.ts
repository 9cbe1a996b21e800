import { fileURLToPath } from 'node:url'
import { type Daemon, startDaemon } from './daemon.ts'
import { expect, test } from './fixtures.ts'

test('it is ready when /ready says so, sees only the environment it was given, and drains on SIGTERM', async () => {
  process.env.INDEXER_CONSUMER = 'of-the-shell'
  const daemon = await start('something')
  expect(daemon.logLines).toEqual(['{"leaked":null,"given":"something"}'])
  expect((await daemon.get('/ready')).status).toBe(200)
  expect(await daemon.metric('sluice_x_total')).toBe(5)
  expect(await daemon.metric('sluice_x_total', { kind: 'c' })).toBe(3)
  await expect(daemon.metric('sluice_y_total')).rejects.toThrow('indexer one has no metric sluice_y_total')
  await daemon.stop()
  expect(await daemon.exited).toEqual({ code: 0, signal: null })
})

test('a start that fails shows the last lines', async () => {
  await expect(start('broken')).rejects.toThrow(
    /^indexer one ended \(code 78\) before it was ready; .*\n.*"given":"broken"/,
  )
})

test('an exit code that was not expected is an error', async () => {
  const daemon = await start('untidy')
  await expect(daemon.stop()).rejects.toThrow('indexer one ended with code 1 instead of code 0')
})

test('killed, it is gone when kill returns', async () => {
  await using daemon = await start('victim')
  await daemon.kill()
  expect(daemon.isRunning).toBe(false)
  await expect(daemon.get('/health')).rejects.toThrow('fetch failed')
})

function start(given: string): Promise<Daemon> {
  const entry = fileURLToPath(new URL('testing/service.ts', import.meta.url))
  return startDaemon({ role: 'indexer', id: 'one', entry, env: { GIVEN: given } })
}
