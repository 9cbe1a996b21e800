/**
 * What a chain record costs in Redis, keys and all, and what reading costs. `DIDS=1000000 node
 * packages/streams/chain-state.bench.ts`
 */
import { randomBytes } from 'node:crypto'
import { startRedis } from '@sluice/sandbox/redis.ts'
import { moveChain, readChains, type ChainRecord } from './chain-state.ts'
import { connectRedis, type Redis } from './connection.ts'
import { HighWater } from './high-water.ts'
import { Producer } from './producer.ts'

const DIDS = Number(process.env.DIDS ?? 1_000_000)
const BATCH = 5_000
const ALPHABET = 'abcdefghijklmnopqrstuvwxyz234567'

export interface ChainBench {
  dids: number
  bytesPerDid: number
  /** Wall time of reading 1,000 records. */
  readMs: number
}

/** @param dids how many accounts; fewer than 500,000 leave the buckets nearly empty, and each costs more */
export async function benchChainState(dids = DIDS): Promise<ChainBench> {
  await using server = await startRedis({ appendonly: false })
  const redis = await connectRedis({ url: server.url(), name: 'bench' })
  try {
    const before = await usedMemory(redis)
    const known = await fill(redis, dids)
    const bytesPerDid = ((await usedMemory(redis)) - before) / dids
    const began = performance.now()
    for (let i = 0; i < 20; i++) await readChains(redis, known)
    return { dids, bytesPerDid, readMs: (performance.now() - began) / 20 }
  } finally {
    redis.destroy()
  }
}

/** @returns 1,000 of the DIDs */
async function fill(redis: Redis, dids: number): Promise<string[]> {
  const highWater = new HighWater({ redis, stream: 's', entriesMax: 1 })
  const codec = { encode: () => ({}), decode: () => undefined }
  const producer = new Producer<undefined>({ redis, stream: 's', codec, highWater })
  const { signal } = new AbortController()
  let batch: string[] = []
  for (let done = 0; done < dids; done += BATCH) {
    batch = Array.from({ length: BATCH }, randomDid)
    await producer.append([], signal, { also: batch.map((did) => moveChain(did, undefined, randomRecord())) })
  }
  return batch.slice(0, 1_000)
}

function randomDid(): string {
  return `did:plc:${Array.from(randomBytes(24), (byte) => ALPHABET[byte & 31]).join('')}`
}

function randomRecord(): ChainRecord {
  const rev = `3${Array.from(randomBytes(12), (byte) => '234567abcdefghijklmnopqrstuvwxyz'[byte & 31]).join('')}`
  return { rev, data: `\x01\x71\x12\x20${randomBytes(16).toString('latin1')}`, exported: true, inactive: false }
}

async function usedMemory(redis: Redis): Promise<number> {
  return Number(/^used_memory:(\d+)/m.exec(await redis.info('memory'))![1])
}

if (import.meta.main) console.log(await benchChainState())
