/**
 * How many records a second one core takes from a CAR to Redis, next to the official libraries on the same CAR in the
 * same run: `node services/backfiller/backfill.bench.ts [records]`. CPU time, not wall time: the processor is rarely
 * ours alone, and while one export waits for Redis another one works.
 */
import { lexToJson } from '@atproto/lex-json'
import { decode } from '@atproto/lex-cbor'
import { readCarWithRoot, verifyRepo } from '@atproto/repo'
import { readRepoExport } from '@sluice/atproto/repo-export.ts'
import { measure, table, type Measure } from '@sluice/atproto/testing/measure.ts'
import type { TestRepo } from '@sluice/atproto/testing/repo.ts'
import { populatedRepo } from '@sluice/atproto/testing/world.ts'
import type { BackfillReason } from '@sluice/events/backfill-event.ts'
import { SEQ_BACKFILL, type JsonRecord, type StreamEvent } from '@sluice/events/stream-event.ts'
import { startRedis } from '@sluice/sandbox/redis.ts'
import { chainAddress, encodeChain, UNKNOWN_CHAIN } from '@sluice/streams/chain-state.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import { HighWater } from '@sluice/streams/high-water.ts'
import { Producer } from '@sluice/streams/producer.ts'
import { appendExport, type AppendContext } from './append-export.ts'
import { CHUNK_LIMITS, exportEventEncoder } from './export-events.ts'

const STREAM = 'firehose_backfill'
const TIME = '2026-01-02T03:04:05.678Z'
const never = new AbortController().signal

/**
 * Measures our way for a first export and for a resync, and the official way: all with the same CAR into the same
 * Redis.
 */
export async function benchBackfill({ records, ms }: { records: number; ms: number }): Promise<Measure[]> {
  await using server = await startRedis()
  const redis = await connectRedis({ url: server.url(), name: 'bench' })
  try {
    const repo = populatedRepo('export bench', records)
    const car = repo.export()
    const context = contextOn(redis)
    const options = { ms, perItem: records }
    const first = (): Promise<void> => ours(context, repo, car, 'listed')
    const resync = (): Promise<void> => ours(context, repo, car, 'gap')
    return [
      await measure('Sluice: verify, convert, append', [car], first, options),
      await measure('Sluice: the same as a resync', [car], resync, options),
      await measure(
        'official: readCarWithRoot, verifyRepo, append',
        [car],
        () => official(context, repo, car),
        options,
      ),
    ]
  } finally {
    redis.destroy()
  }
}

function contextOn(redis: Redis): AppendContext {
  const highWater = new HighWater({ redis, stream: STREAM, entriesMax: 1e9 })
  return {
    redis,
    producer: new Producer({ redis, stream: STREAM, codec: exportEventEncoder, highWater }),
    wanted: () => true,
    alwaysResync: false,
    onChunk: () => undefined,
  }
}

async function ours(context: AppendContext, repo: TestRepo, car: Buffer, reason: BackfillReason): Promise<void> {
  const { did, key } = repo
  await emptied(context.redis, did)
  using verified = await readRepoExport([car], { did, signingKey: key.did })
  await appendExport(context, verified, { did, host: 'bench', rev: '', reason }, TIME, never)
}

async function official(context: AppendContext, repo: TestRepo, car: Buffer): Promise<void> {
  const { did, key } = repo
  await emptied(context.redis, did)
  const { root, blocks } = await readCarWithRoot(car)
  const { creates, commit } = await verifyRepo(blocks, root, did, key.did)
  const events = creates.map(({ collection, rkey, cid }): StreamEvent => {
    const record = lexToJson(decode(blocks.get(cid)!)) as JsonRecord
    const base = { seq: SEQ_BACKFILL, time: TIME, did, commit: root.toString(), rev: commit.rev }
    return { type: 'create', ...base, collection, rkey, cid: cid.toString(), record }
  })
  for (let at = 0; at < events.length; at += CHUNK_LIMITS.creates)
    await context.producer.append(events.slice(at, at + CHUNK_LIMITS.creates), never)
}

/** Puts Redis into the state before the first export of the account. */
async function emptied(redis: Redis, did: string): Promise<void> {
  const { key, field } = chainAddress(did)
  await redis.xTrim(STREAM, 'MAXLEN', 0)
  await redis.sendCommand(['HSET', key, field, encodeChain(UNKNOWN_CHAIN)])
}

if (import.meta.main) {
  const records = Number(process.argv[2] ?? 20_000)
  const measures = await benchBackfill({ records, ms: 5_000 })
  console.log(table(`CAR → Redis, per record (${records} records)`, measures))
}
