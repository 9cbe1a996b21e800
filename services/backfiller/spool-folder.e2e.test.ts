import { startDaemon } from '@sluice/sandbox/daemon.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'

test('a folder for large repositories that is not there stops the start, and not the first large one', async ({
  redisUrl,
}) => {
  const env = { REDIS_URL: redisUrl, BACKFILLER_CONSUMER: 'one', BACKFILLER_SPOOL_DIR: '/nonexistent/spool' }
  await expect(startDaemon({ role: 'backfiller', env })).rejects.toThrow(
    'cannot write to the folder /nonexistent/spool (ENOENT)',
  )
})
