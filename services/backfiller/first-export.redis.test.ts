/** C6 between a first export and the live stream: what was seen live and is gone by the export must not stay. */
import { readRepoExport } from '@sluice/atproto/repo-export.ts'
import { populatedRepo } from '@sluice/atproto/testing/world.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { moveChain, readChains, UNKNOWN_CHAIN, type ChainRecord } from '@sluice/streams/chain-state.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import { HighWater } from '@sluice/streams/high-water.ts'
import { Producer } from '@sluice/streams/producer.ts'
import { appendExport, type AppendContext, type Outcome } from './backfill-repo.ts'
import { exportEventCodec } from './export-events.ts'

const STREAM = 'firehose_backfill'
const never = new AbortController().signal
const repo = populatedRepo('first export', 700)
const car = repo.export()
/** An older commit of the account, as the ingester notes it. */
const LIVE: Partial<ChainRecord> = { rev: '3kaaaaaaaaa22', data: 'x'.repeat(20) }

interface Bed {
  redis: Redis
  producer: AppendContext['producer']
}

async function inBed<T>(url: string, act: (bed: Bed) => Promise<T>): Promise<T> {
  const redis = await connectRedis({ url, name: 'test' })
  const highWater = new HighWater({ redis, stream: STREAM, entriesMax: 1e9 })
  try {
    return await act({ redis, producer: new Producer({ redis, stream: STREAM, codec: exportEventCodec, highWater }) })
  } finally {
    redis.destroy()
  }
}

async function note({ redis, producer }: Bed, change: Partial<ChainRecord>): Promise<void> {
  const [found] = await readChains(redis, [repo.did])
  const record = { ...(found?.record ?? UNKNOWN_CHAIN), ...change }
  await producer.append([], never, { also: [moveChain(repo.did, found, record)] })
}

async function exportOnce({ redis, producer }: Bed, onChunk: AppendContext['onChunk'] = () => {}): Promise<Outcome> {
  using verified = await readRepoExport([car], { did: repo.did, signingKey: repo.key.did })
  const context = { redis, producer, wanted: () => true, alwaysResync: false, onChunk }
  const entry = { did: repo.did, host: 'test', rev: '', reason: 'listed' as const }
  return await appendExport(context, verified, entry, '2026-01-02T03:04:05.678Z', never)
}

test('an account of which nothing was seen pays nothing for removals', async ({ redisUrl }) => {
  await inBed(redisUrl, async (bed) => {
    await note(bed, {})
    expect(await exportOnce(bed)).toMatchObject({ kind: 'exported', resync: false, records: 700 })
  })
})

test('records that nobody wants, however many, are no appends, and others get the thread between them', async ({
  redisUrl,
}) => {
  await inBed(redisUrl, async (bed) => {
    const large = populatedRepo('nothing wanted', 12_000)
    const { redis, producer } = bed
    await producer.append([], never, { also: [moveChain(large.did, undefined, UNKNOWN_CHAIN)] })
    using verified = await readRepoExport([large.export()], { did: large.did, signingKey: large.key.did })
    let [chunks, turns] = [0, 0]
    const onChunk = (): void => {
      chunks++
      setImmediate(() => turns++)
      expect(turns).toBe(chunks - 1)
    }
    const context = { redis, producer, wanted: () => false, alwaysResync: false, onChunk }
    const entry = { did: large.did, host: 'test', rev: '', reason: 'listed' as const }
    const outcome = await appendExport(context, verified, entry, '2026-01-02T03:04:05.678Z', never)
    expect(outcome).toEqual({ kind: 'exported', resync: false, records: 0 })
    expect(chunks).toBeGreaterThan(2)
    expect(await redis.xLen(STREAM)).toBe(1)
  })
})

test('one of which live commits were sent on is exported as a resync: a record of theirs may be gone by now', async ({
  redisUrl,
}) => {
  await inBed(redisUrl, async (bed) => {
    await note(bed, LIVE)
    expect(await exportOnce(bed)).toMatchObject({ resync: true })
  })
})

test('one of which a live commit is sent on meanwhile is exported again, as a resync', async ({ redisUrl }) => {
  await inBed(redisUrl, async (bed) => {
    await note(bed, {})
    let arrived = false
    const arrival: Promise<void>[] = []
    const first = exportOnce(bed, () => {
      if (arrived) return
      arrived = true
      arrival.push(note(bed, LIVE))
    })
    await expect(first).rejects.toMatchObject({ reason: 'export-overtaken' })
    await Promise.all(arrival)
    expect(await exportOnce(bed)).toMatchObject({ resync: true })
    const [chain] = await readChains(bed.redis, [repo.did])
    expect(chain!.record).toMatchObject({ exported: true, rev: repo.rev })
  })
})
