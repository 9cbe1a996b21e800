/**
 * What an entry is about, for people: `create at://did/collection/rkey`, `fetch did`, `label val on uri`. Accepts
 * damaged entries.
 */
import type { EntryFields } from '@sluice/events/codec.ts'

export interface Subject {
  /** What it does. */
  verb: string
  /** The account, if the entry names one. */
  did?: string
  /** The record, if the entry is about one. */
  uri?: string
  /** The rev of the commit that changed the record, if the entry is about one. */
  rev?: string
}

/** The subject of an event, a label or a request for a repository. */
export function subjectOf(fields: EntryFields): Subject {
  const body = parse(fields.event ?? fields.repo)
  if (body === undefined) return { verb: 'unreadable' }
  const text = (key: string): string | undefined => (typeof body[key] === 'string' ? body[key] : undefined)
  if (fields.repo !== undefined)
    return withDid({ verb: `fetch${text('reason') ? ` (${text('reason')})` : ''}` }, text('did'))
  const label = body.label as { uri?: unknown; val?: unknown } | undefined
  if (label) {
    const uri = typeof label.uri === 'string' ? label.uri : ''
    return { verb: `label ${String(label.val)}`, uri, ...(uri.startsWith('did:') && { did: uri }) }
  }
  const [did, collection, rkey] = [text('did'), text('collection'), text('rkey')]
  const subject = withDid({ verb: text('type') ?? 'unknown' }, did)
  if (!did || !collection || !rkey) return subject
  const rev = text('rev')
  return { ...subject, uri: `at://${did}/${collection}/${rkey}`, ...(rev !== undefined && { rev }) }
}

/** `create at://did/collection/rkey` */
export function describeSubject({ verb, uri, did }: Subject): string {
  return [verb, uri ?? did].filter(Boolean).join(' ')
}

function withDid(subject: Subject, did: string | undefined): Subject {
  return did === undefined ? subject : { ...subject, did }
}

function parse(text: string | undefined): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text ?? '')
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}
