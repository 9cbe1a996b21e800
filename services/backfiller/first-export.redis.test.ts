/**
 * C6 of a first export: what was seen live and is gone by the export must not stay, and what Redis lost on the way is
 * not taken for exported.
 */
import { readRepoExport } from '@sluice/atproto/repo-export.ts'
import { populatedRepo } from '@sluice/atproto/testing/world.ts'
import { streamEventCodec } from '@sluice/events/codec.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { chainAddress, moveChain, readChains, UNKNOWN_CHAIN, type ChainRecord } from '@sluice/streams/chain-state.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import { exportsKey } from '@sluice/streams/export-progress.ts'
import { HighWater } from '@sluice/streams/high-water.ts'
import { Producer } from '@sluice/streams/producer.ts'
import { appendExport, type AppendContext, type AppendedExport } from './append-export.ts'
import { exportEventEncoder } from './export-events.ts'
import { describe } from 'vitest'

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
    return await act({ redis, producer: new Producer({ redis, stream: STREAM, codec: exportEventEncoder, highWater }) })
  } finally {
    redis.destroy()
  }
}

async function note({ redis, producer }: Bed, change: Partial<ChainRecord>): Promise<void> {
  const [found] = await readChains(redis, [repo.did])
  const record = { ...(found?.record ?? UNKNOWN_CHAIN), ...change }
  await producer.append([], never, { also: [moveChain(repo.did, found, record)] })
}

async function exportOnce(
  { redis, producer }: Bed,
  onChunk: AppendContext['onChunk'] = () => {},
): Promise<AppendedExport> {
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

describe('Redis comes back older in the middle of an export, which then is not taken for whole', () => {
  const large = populatedRepo('power cut', 1_700)
  const KEYS = [STREAM, exportsKey(STREAM), chainAddress(large.did).key]
  type Loss = (redis: Redis, chunk: number) => Promise<unknown>
  const losses: [string, Loss][] = [
    [
      'without its second chunk',
      async (redis, chunk) => {
        if (chunk === 2) await Promise.all(KEYS.map(async (key) => redis.copy(key, `${key}:older`)))
        if (chunk === 3) await Promise.all(KEYS.map(async (key) => redis.rename(`${key}:older`, key)))
      },
    ],
    ['with nothing', async (redis, chunk) => chunk === 3 && redis.flushDb()],
  ]
  const accounts: [string, ChainRecord | undefined][] = [
    ['unknown', undefined],
    ['untouched', UNKNOWN_CHAIN],
  ]

  /**
   * @param lose called when a chunk is made; what it sends is carried out after the chunks before, and before that one
   */
  async function exportLarge({ redis, producer }: Bed, lose: Loss): Promise<AppendedExport> {
    using verified = await readRepoExport([large.export()], { did: large.did, signingKey: large.key.did })
    const lost: Promise<unknown>[] = []
    const onChunk = (): unknown => lost.push(lose(redis, lost.length + 1))
    const context = { redis, producer, wanted: () => true, alwaysResync: false, onChunk }
    const entry = { did: large.did, host: 'test', rev: '', reason: 'listed' as const }
    try {
      return await appendExport(context, verified, entry, '2026-01-02T03:04:05.678Z', never)
    } finally {
      await Promise.all(lost)
      expect(lost.length).toBeGreaterThanOrEqual(3)
    }
  }

  test.for(losses.flatMap(([loss, lose]) => accounts.map(([account, chain]) => ({ loss, account, lose, chain }))))(
    '$loss, of an account that was $account',
    async ({ lose, chain }, { redisUrl }) => {
      await inBed(redisUrl, async (bed) => {
        const { redis, producer } = bed
        if (chain) await producer.append([], never, { also: [moveChain(large.did, undefined, chain)] })
        await expect(exportLarge(bed, lose)).rejects.toMatchObject({ reason: 'export-overtaken' })
        const [broken] = await readChains(redis, [large.did])
        expect(broken?.record.rev ?? '').toBe('')

        await redis.del(STREAM)
        expect(await exportLarge(bed, async () => {})).toMatchObject({ records: 1_700 })
        const entries = (await redis.xRange(STREAM, '-', '+'))!.map(({ message }) => streamEventCodec.decode(message))
        expect(entries.filter(({ type }) => type === 'create')).toHaveLength(1_700)
        const [whole] = await readChains(redis, [large.did])
        expect(whole!.record).toMatchObject({ exported: true, rev: large.rev })
        expect(await redis.exists(exportsKey(STREAM))).toBe(0)
      })
    },
  )
})
