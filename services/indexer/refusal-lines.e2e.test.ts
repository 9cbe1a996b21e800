/**
 * What an operator reads of entries that were given up and of records that were refused: a few lines, whatever comes.
 */
import { uriOf } from '@sluice/events/stream-event.ts'
import { Story } from '@sluice/indexing/testing/story.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { append, drained, openRedis, startIndexer } from './testing/indexers.ts'

const STREAM = 'firehose_live'

interface Line {
  stream?: string
  reasons?: Record<string, { count: number; sample: string }>
  refused?: Record<string, { count: number; sample: string }>
}

test('O3 dead letters and refused records are one line each for some time, with a sample that names the record', async ({
  database,
  redisUrl,
}) => {
  const story = new Story()
  await using redis = await openRedis(redisUrl)
  for (let i = 0; i < 300; i++) await redis.xAdd(STREAM, '*', { event: 'no { json' })
  const odd = Array.from({ length: 300 }, () => story.post('alice', '', { createdAt: 7 }))
  await append(redis, STREAM, odd)
  const indexer = await startIndexer({ database, redisUrl }, 'one')
  await drained(redis, [STREAM])
  await indexer.stop()
  const lines = indexer.logLines.map((line) => JSON.parse(line) as Line)
  const letters = lines.filter(({ reasons }) => reasons !== undefined)
  const refused = lines.filter((line) => line.refused !== undefined)
  const sum = (counts: (number | undefined)[]): number => counts.reduce<number>((all, n = 0) => all + n, 0)
  expect(sum(letters.map(({ reasons }) => reasons!['not-json']?.count))).toBe(300)
  expect(letters[0]!.reasons!['not-json']!.sample).toMatch(/^unreadable, entry \d+-\d+: /)
  expect(sum(refused.map((line) => line.refused!['invalid-record']?.count))).toBe(300)
  expect(refused[0]!.refused!['invalid-record']!.sample).toContain(uriOf(odd[0]!))
  // A slow machine may need more than the ten seconds of one line.
  expect(letters.length + refused.length).toBeLessThan(20)
  expect(indexer.logLines.length).toBeLessThan(60)
})
