/** Measures the official indexer of npm `@atproto/bsky`: its `IndexingService`, ten events at a time, those of one account in order. Its own subscription runs it like that. */
import { Database, RepoSubscription } from '@atproto/bsky'
import { IdResolver } from '@atproto/identity'
import { jsonToLex, type JsonValue } from '@atproto/lex-json'
import { WriteOpAction } from '@atproto/repo'
import { AtUri } from '@atproto/syntax'
import { parseCid } from '@atproto/lex-data'
import type { StreamEvent } from '@sluice/events/stream-event.ts'
import { SCHEMA } from '../template.ts'
import type { Bed, Costs } from './bed.ts'

const CONCURRENCY = 10

export async function measurePeer(
  bed: Bed,
  database: { name: string; url: string },
  events: readonly StreamEvent[],
  /** Events that it applies before the measurement, as with our indexer. */
  warming: readonly StreamEvent[] = [],
): Promise<Costs> {
  const db = new Database({ url: database.url, schema: SCHEMA, poolSize: 2 * CONCURRENCY })
  const subscription = new RepoSubscription({ service: 'ws://127.0.0.1:1', db, idResolver: new IdResolver() })
  try {
    await inLanes(warming, (event) => handle(subscription, event))
    await subscription.background.processAll()
    return await bed.costs(database.name, async () => {
      await inLanes(events, (event) => handle(subscription, event))
      await subscription.background.processAll()
    })
  } finally {
    await subscription.background.destroy()
    await db.close()
  }
}

async function handle({ indexingSvc }: RepoSubscription, event: StreamEvent): Promise<void> {
  if (event.type !== 'create' && event.type !== 'update' && event.type !== 'delete') return
  const uri = AtUri.make(event.did, event.collection, event.rkey)
  if (event.type === 'delete') await indexingSvc.deleteRecord(uri)
  else {
    const record = jsonToLex(event.record as JsonValue)
    const action = event.type === 'create' ? WriteOpAction.Create : WriteOpAction.Update
    await indexingSvc.indexRecord(uri, parseCid(event.cid), record, action, event.time)
    await indexingSvc.setCommitLastSeen(event.did, parseCid(event.commit), event.rev)
  }
}

/** Handles ten events at a time, those of each account in order. */
async function inLanes(events: readonly StreamEvent[], act: (event: StreamEvent) => Promise<void>): Promise<void> {
  const lanes = Map.groupBy(events, ({ did }) => hash(did) % CONCURRENCY)
  await Promise.all(
    [...lanes.values()].map(async (lane) => {
      for (const event of lane) await act(event)
    }),
  )
}

function hash(text: string): number {
  let value = 0
  for (let i = 0; i < text.length; i++) value = (value * 31 + text.charCodeAt(i)) >>> 0
  return value
}
