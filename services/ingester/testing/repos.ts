/** The service that lists and sweeps, by itself: with settings that no variable has. */
import { backfillEventCodec } from '@sluice/events/codec.ts'
import { createLogger } from '@sluice/runtime/log.ts'
import { HighWater } from '@sluice/streams/high-water.ts'
import { Producer } from '@sluice/streams/producer.ts'
import { WHOLE } from '@sluice/streams/spread.ts'
import { Repos, type ReposOptions } from '../repos.ts'
import type { Tools } from './run.ts'

type Chosen = 'xrpc' | 'upstreams'

export function reposOf({ redis }: Tools, options: Pick<ReposOptions, Chosen> & Partial<ReposOptions>): Repos {
  const stream = 'repo_backfill'
  const highWater = new HighWater({ redis, stream, entriesMax: 1e6 })
  return new Repos({
    redis,
    producer: new Producer({ redis, stream, codec: backfillEventCodec, highWater }),
    log: createLogger({ role: 'ingester', build: 'test', destination: { write: () => {} } }),
    source: 'hosts',
    sweepIntervalMs: 0,
    sweepGraceMs: 0,
    skipHosts: new Set(),
    skipDids: new Set(),
    shard: WHOLE,
    allowPrivate: true,
    liveLagMs: async () => 0,
    onSuspects: () => {},
    observer: { listed() {}, phase() {}, waiting() {}, hostFailed() {} },
    pollMs: 20,
    ...options,
  })
}
