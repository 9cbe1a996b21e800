/**
 * V5, D5: thousands of mutated entries through a real indexer: none stops it, none stays, and what is well among them
 * is indexed. `FUZZ=20000` for more.
 */
import { DatabasePool } from '@sluice/database/pool.ts'
import { streamEventCodec } from '@sluice/events/codec.ts'
import { append, drained, openRedis, startIndexer } from '@sluice/indexer/testing/indexers.ts'
import { history } from '@sluice/indexing/testing/history.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { SCHEMA } from '@sluice/sandbox/template.ts'
import { countDeadLetters } from '@sluice/streams/dead-letters.ts'
import { mutatedEntry } from './fuzz.ts'
import { person, post } from './known-events.ts'

const COUNT = Number(process.env.FUZZ ?? 2_500)
const SEED = Number(process.env.SEED ?? 1)

test(`${COUNT} mutated entries stop no indexer, and none is left`, async ({ database, redisUrl }) => {
  await using redis = await openRedis(redisUrl)
  const random = new Random(SEED)
  const samples = history({ seed: SEED, events: 400 })
  const entries = Array.from({ length: COUNT }, () => mutatedEntry(samples, random))
  const unreadable = entries.filter((fields) => {
    try {
      return streamEventCodec.decode(fields) === undefined
    } catch {
      return true
    }
  }).length
  for (let at = 0; at < COUNT; at += 500) {
    await Promise.all(entries.slice(at, at + 500).map((fields) => redis.xAdd('firehose_live', '*', fields)))
    await append(redis, 'firehose_live', [post(person(777), `neighbour ${at}`)])
  }
  await using indexer = await startIndexer({ database, redisUrl }, 'one', { INDEXER_BATCH_SIZE: '500' })
  await drained(redis, ['firehose_live'], 120_000)
  expect(indexer.isRunning).toBe(true)
  expect((await redis.xPending('firehose_live', 'firehose_group')).pending).toBe(0)
  const { total } = await countDeadLetters(redis, 'firehose_live')
  expect(unreadable).toBeGreaterThan(COUNT / 10)
  expect(total).toBeGreaterThanOrEqual(unreadable)
  await using db = new DatabasePool({ url: database, schema: SCHEMA, size: 1, role: 'test' })
  const { rows } = await db.query('select text from post where creator = $1', [person(777)])
  expect(rows.length).toBe(Math.ceil(COUNT / 500))
})
