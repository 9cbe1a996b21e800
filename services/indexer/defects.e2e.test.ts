/**
 * D5: an error of no class, as a plugin throws that trips over a record: the guilty entry becomes a dead letter, alone;
 * what hits them all gives nobody up.
 */
import { collections } from '@sluice/collections/collections.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import type { Collection } from '@sluice/collections/define.ts'
import { DatabasePool } from '@sluice/database/pool.ts'
import { streamEventCodec } from '@sluice/events/codec.ts'
import { uriOf, type CreateEvent, type StreamEvent } from '@sluice/events/stream-event.ts'
import { KnownActors } from '@sluice/indexing/own.ts'
import { Story } from '@sluice/indexing/testing/story.ts'
import { createLogger } from '@sluice/runtime/log.ts'
import { Metrics } from '@sluice/runtime/metrics.ts'
import { Readiness } from '@sluice/runtime/readiness.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { SCHEMA } from '@sluice/sandbox/template.ts'
import { Consumer } from '@sluice/streams/consumer.ts'
import { listDeadLetters } from '@sluice/streams/testing/list-letters.ts'
import { indexStream } from './index-stream.ts'
import { RecordIndex } from './record-index.ts'
import { append, drained, openRedis, type Place } from './testing/indexers.ts'

const STREAM = 'firehose_live'

/** The collection of posts with a plugin that takes for granted what a few records have not. */
function tripping(): Collection[] {
  return collections.map((plugin) =>
    plugin.nsid === 'app.bsky.feed.post'
      ? {
          ...plugin,
          rows: (entry) => {
            const { odd } = entry.record as { odd?: { inner: { text: string } } }
            return odd === undefined || odd.inner.text !== '' ? plugin.rows(entry) : []
          },
        }
      : plugin,
  )
}

/** The data path as the indexer puts it together, with that plugin. */
async function startTripping({ database, redisUrl }: Place) {
  const stack = new AsyncDisposableStack()
  const [redis, reader] = [stack.use(await openRedis(redisUrl)), stack.use(await openRedis(redisUrl))]
  const db = stack.use(new DatabasePool({ url: database, schema: SCHEMA, size: 2, role: 'test' }))
  const consumer = new Consumer<StreamEvent>({
    redis,
    reader,
    address: { stream: STREAM, group: 'firehose_group', consumer: 'one' },
    codec: streamEventCodec,
    key: ({ did }) => did,
  })
  const metrics = new Metrics({ role: 'test', build: 'test' })
  const log = createLogger({ role: 'test', build: 'test', level: 'fatal', secrets: [] })
  const outages = {
    log,
    readiness: new Readiness((text) => text),
    retries: { inc: () => {} },
    reasons: new Map<symbol, string>(),
  }
  const index = { db, collections: new CollectionSet(tripping()), actors: new KnownActors() }
  const stopping = new AbortController()
  const ended = indexStream(consumer, new RecordIndex(index, outages, { record: () => {} }, metrics), 2).run(
    stopping.signal,
  )
  ended.catch(() => {})
  const stop = async (): Promise<void> => {
    stopping.abort()
    await ended.catch(() => {})
    await stack.disposeAsync()
  }
  return { db, ended, [Symbol.asyncDispose]: stop }
}

const posts = (story: Story, count: number, more: object = {}): CreateEvent[] =>
  Array.from({ length: count }, (_, i) => story.post(['alice', 'bob'][i % 2]!, `post ${i}`, more))

test('D5 a record that a plugin trips over becomes a dead letter with the stack, alone; all others are indexed, and nothing ends', async ({
  database,
  redisUrl,
}) => {
  const story = new Story()
  const [before, odd, after] = [posts(story, 160), posts(story, 1, { odd: {} }), posts(story, 40)]
  await using redis = await openRedis(redisUrl)
  await append(redis, STREAM, [...before, ...odd, ...after])
  await using tripped = await startTripping({ database, redisUrl })
  await Promise.race([drained(redis, [STREAM]), tripped.ended])
  const letters = await listDeadLetters(redis, STREAM, 10)
  expect(letters.map(({ reason, fields }) => [reason, fields])).toEqual([['defect', streamEventCodec.encode(odd[0]!)]])
  expect(letters[0]!.message).toContain("TypeError: Cannot read properties of undefined (reading 'text')")
  expect(letters[0]!.message).toContain('defects.e2e.test.ts')
  const { rows } = await tripped.db.query<{ uri: string }>('select uri from post')
  expect(rows.map(({ uri }) => uri).toSorted()).toEqual([...before, ...after].map(uriOf).toSorted())
  // One that comes alone is no other case.
  await append(redis, STREAM, posts(story, 1, { odd: {} }))
  await Promise.race([drained(redis, [STREAM]), tripped.ended])
  expect(await listDeadLetters(redis, STREAM, 10)).toHaveLength(2)
})

test('D5 a fault of ours that hits every record ends the process, and no entry becomes a dead letter', async ({
  database,
  redisUrl,
}) => {
  await using redis = await openRedis(redisUrl)
  await append(redis, STREAM, posts(new Story(), 140, { odd: {} }))
  for (let start = 0; start < 2; start++) {
    await using tripped = await startTripping({ database, redisUrl })
    await expect(tripped.ended).rejects.toThrow(TypeError)
  }
  expect(await redis.xLen(STREAM)).toBe(140)
  expect(await listDeadLetters(redis, STREAM, 10)).toEqual([])
})
