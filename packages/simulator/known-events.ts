/** Events written out by hand, each with a newer rev than the one before. */
import { encodeCbor } from '@sluice/atproto/cbor-encode.ts'
import { cidOf, formatCid } from '@sluice/atproto/cid.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import { tidFromMicros } from '@sluice/events/tid.ts'
import type { CreateEvent, DeleteEvent, JsonRecord, UpdateEvent } from '@sluice/events/stream-event.ts'

const FIRST_MS = Date.UTC(2026, 3, 1)
export const CREATED_AT = '2026-04-01T00:00:00.000Z'

let number = 0

export interface Place {
  did: string
  collection: string
  rkey: string
}

export function place(did: string, collection: string): Place {
  return { did, collection, rkey: tidFromMicros((FIRST_MS + ++number * 1_000) * 1_000, 5) }
}

export function person(number: number): string {
  return testDid(`known ${number}`)
}

export function create(at: Place, fields: Record<string, unknown>): CreateEvent {
  return { type: 'create', ...written(at, fields) }
}

export function update(at: Place, fields: Record<string, unknown>): UpdateEvent {
  return { type: 'update', ...written(at, fields) }
}

export function remove({ did, collection, rkey }: Place): DeleteEvent {
  return { type: 'delete', ...commit(), did, collection, rkey }
}

export function post(did: string, text: string): CreateEvent {
  return create(place(did, 'app.bsky.feed.post'), { text, createdAt: CREATED_AT })
}

export function like(did: string, uri: string): CreateEvent {
  const subject = { uri, cid: SUBJECT_CID }
  return create(place(did, 'app.bsky.feed.like'), { subject, createdAt: CREATED_AT })
}

const SUBJECT_CID = 'bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a'

function written({ did, collection, rkey }: Place, fields: Record<string, unknown>): Omit<CreateEvent, 'type'> {
  const record: JsonRecord = { $type: collection, ...fields }
  return { ...commit(), did, collection, rkey, cid: formatCid(cidOf(encodeCbor(record))), record }
}

function commit(): { seq: number; time: string; commit: string; rev: string } {
  const ms = FIRST_MS + ++number * 1_000
  return { seq: number, time: new Date(ms).toISOString(), commit: SUBJECT_CID, rev: tidFromMicros(ms * 1_000, 5) }
}
